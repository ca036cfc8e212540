//! A cluster's slots: which slot a key is in, and which nodes serve it.
//!
//! Reads the answer of `CLUSTER SLOTS`. Uses no connection.

use std::sync::LazyLock;

use redis::{RedisResult, Value, from_redis_value};

use super::address::Endpoint;

const SLOTS: u16 = 16_384;

/// The slot of a key: CRC-16 of its hash tag, or of all of it (Redis Cluster specification, "Hash tags").
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    // XMODEM: polynomial 0x1021, beginning at zero.
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    });
    crc % SLOTS
}

/// For each slot, a number whose text is in it.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0_u32.. {
        if let Some(tag @ None) = tags.get_mut(usize::from(slot_of(&number.to_string()))) {
            *tag = Some(number);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().collect()
});

pub(super) fn tag_in(slot: u16) -> u32 {
    TAGS.get(usize::from(slot)).copied().unwrap_or_default()
}

/// A primary and the replicas that could replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) primary: Endpoint,
    pub(super) replicas: Vec<Endpoint>,
}

/// The groups of a cluster, each with a range of slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Vec<(u16, u16, Group)>);

impl Slots {
    pub(super) fn parse(answer: Value, asked: &Endpoint) -> RedisResult<Self> {
        let ranges: Vec<Vec<Value>> = from_redis_value(answer)?;
        let mut read = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut fields = range.into_iter();
            let (Some(first), Some(last)) = (fields.next(), fields.next()) else { continue };
            let mut nodes = fields.filter_map(|node| endpoint(node, asked));
            let Some(primary) = nodes.next() else { continue };
            let group = Group { primary, replicas: nodes.collect() };
            read.push((from_redis_value(first)?, from_redis_value(last)?, group));
        }
        Ok(Self(read))
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.0.iter().map(|(_, _, group)| group)
    }

    pub(super) fn at(&self, slot: u16) -> Option<&Group> {
        self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(_, _, group)| group)
    }

    pub(super) fn of(&self, primary: &Endpoint) -> Option<&Group> {
        self.groups().find(|group| group.primary == *primary)
    }

    pub(super) fn one_of(&self, primary: &Endpoint) -> Option<u16> {
        self.0.iter().find(|(_, _, group)| group.primary == *primary).map(|(first, _, _)| *first)
    }

    pub(super) fn are_all_served(&self) -> bool {
        let served: u32 = self.0.iter().map(|(first, last, _)| u32::from(last.saturating_sub(*first)) + 1).sum();
        served >= u32::from(SLOTS)
    }

    /// Records what a node said: a slot has a different primary.
    pub(super) fn moved(&mut self, slot: u16, primary: Endpoint) {
        let group = self.of(&primary).cloned().unwrap_or(Group { primary, replicas: Vec::new() });
        self.0.insert(0, (slot, slot, group));
    }
}

/// A node's address; `None` if the node that was asked does not know it.
fn endpoint(node: Value, asked: &Endpoint) -> Option<Endpoint> {
    let mut fields = from_redis_value::<Vec<Value>>(node).ok()?.into_iter();
    let host: Option<String> = from_redis_value(fields.next()?).ok()?;
    let port = from_redis_value(fields.next()?).ok()?;
    at(host.as_deref().unwrap_or_default(), port, asked)
}

fn at(host: &str, port: u16, asked: &Endpoint) -> Option<Endpoint> {
    match (host, asked) {
        ("?", _) | ("", Endpoint::Unix(_)) => None,
        // The node does not know its own address, but it was just reached.
        ("", Endpoint::Tcp { host, .. }) => Some(Endpoint::Tcp { host: host.clone(), port }),
        (host, _) => Some(Endpoint::Tcp { host: host.to_owned(), port }),
    }
}

/// The node that a `MOVED` or `ASK` names, as `host:port` with IPv6 addresses without brackets.
pub(super) fn redirected_to(address: &str, asked: &Endpoint) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    at(host, port.parse().ok()?, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn keys_are_in_the_slots_that_a_cluster_reports() {
        // CLUSTER KEYSLOT of Redis 7.0.
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("foo{bar}{zap}", 5_061),
            ("{user1000}.following", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("", 0),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        for slot in [0, 1, 5_461, SLOTS - 1] {
            assert_eq!(slot_of(&format!("upwarden:{{{}}}", tag_in(slot))), slot);
        }
    }

    #[test]
    fn an_answer_is_read_with_its_unknown_addresses() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let one = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, nodes: Vec<Value>| {
            let mut fields = vec![Value::Int(first), Value::Int(last)];
            fields.extend(nodes);
            Value::Array(fields)
        };
        let asked = node("10.0.0.9", 7000);
        let answer = Value::Array(vec![
            range(0, 8_000, vec![one(Value::Nil, 7000), one(text("10.0.0.2"), 7001), one(text("?"), 7002)]),
            range(8_001, 16_383, vec![one(text("::1"), 7003)]),
        ]);
        let mut slots = Slots::parse(answer, &asked).unwrap();
        assert!(slots.are_all_served());
        assert_eq!(slots.at(8_000).unwrap(), &Group { primary: asked.clone(), replicas: vec![node("10.0.0.2", 7001)] });
        assert_eq!(slots.one_of(&node("::1", 7003)), Some(8_001));
        slots.moved(8_000, redirected_to("::1:7003", &asked).unwrap());
        assert_eq!(slots.at(8_000).unwrap().primary, node("::1", 7003));
        assert_eq!(slots.at(7_999).unwrap().primary, asked);
        assert_eq!(redirected_to(":7005", &asked), Some(node("10.0.0.9", 7005)));
        assert_eq!(redirected_to("nonsense", &asked), None);
        assert!(!Slots::default().are_all_served());
    }
}
