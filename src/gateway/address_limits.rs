//! Limits for each client address: sign-ins begun, and requests in flight. The memory for both is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Version;

use crate::body::Body;
use crate::clock::Timestamp;
use crate::listener::network;
use crate::recent::{Recent, lock};

/// Addresses whose sign-ins are counted, for each step. Beyond that, the least recently seen is forgotten.
const MAX_ADDRESSES: usize = 20_000;
/// A burst that was used up is available again after this.
const REFILL: Duration = Duration::from_secs(60);

/// The requests of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Begin,
    Callback,
}

/// A code that Upwork does not know costs the burst divided by this.
const CHARGE: f64 = 4.0;

/// Allows each address a burst of sign-ins, refilled over a minute: a token bucket for each step.
#[derive(Debug)]
pub(super) struct SignInLimit {
    burst: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    filling: BucketMap,
    /// Addresses that were refused. A flood of other addresses evicts them only if each uses up its own burst.
    full: BucketMap,
}

impl Buckets {
    fn set(&mut self, key: (Step, IpAddr), level: f64, full: bool, now: Timestamp) {
        let (into, other) =
            if full { (&mut self.full, &mut self.filling) } else { (&mut self.filling, &mut self.full) };
        other.remove(&key);
        into.insert(key, (level, now), now, now.plus(REFILL));
    }
}

type BucketMap = Recent<(Step, IpAddr), Bucket, Timestamp>;

/// How full it was, and when.
type Bucket = (f64, Timestamp);

impl SignInLimit {
    pub(super) fn new(burst: u32) -> Self {
        let buckets = Buckets { filling: Recent::new(MAX_ADDRESSES), full: Recent::new(MAX_ADDRESSES) };
        Self { burst: f64::from(burst), buckets: Mutex::new(buckets) }
    }

    /// Whether `address` may make one more.
    pub(super) fn allow(&self, step: Step, address: IpAddr, now: Timestamp) -> bool {
        let key = (step, network(address));
        let mut buckets = lock(&self.buckets);
        let level = self.level(&buckets, &key, now);
        let allowed = level + 1.0 <= self.burst;
        buckets.set(key, if allowed { level + 1.0 } else { level }, !allowed, now);
        allowed
    }

    /// `address` sent a forged code.
    pub(super) fn charge(&self, step: Step, address: IpAddr, now: Timestamp) {
        let key = (step, network(address));
        let mut buckets = lock(&self.buckets);
        let level = (self.level(&buckets, &key, now) + self.burst / CHARGE).min(self.burst);
        buckets.set(key, level, level + 1.0 > self.burst, now);
    }

    fn level(&self, buckets: &Buckets, key: &(Step, IpAddr), now: Timestamp) -> f64 {
        let known = buckets.full.get(key, now).or_else(|| buckets.filling.get(key, now));
        let (level, last) = known.copied().unwrap_or((0.0, now));
        let refilled = now.since(last).as_secs_f64() / REFILL.as_secs_f64() * self.burst;
        (level - refilled).max(0.0)
    }
}

/// Requests in flight of each client whose requests share a connection: HTTP/2 streams, and requests that trusted
/// proxies forward.
#[derive(Debug)]
pub(super) struct InFlightLimit {
    most: Option<usize>,
    most_streams: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// The slot of one request, held until its answer is sent and its upgraded connection has ended.
#[derive(Debug)]
pub(super) struct Slot {
    limit: Arc<InFlightLimit>,
    client: IpAddr,
}

impl InFlightLimit {
    /// `most`: the configured limit, if any; `share`: the limit for one client's streams, so that others get some.
    pub(super) fn new(most: Option<usize>, share: usize) -> Arc<Self> {
        let most_streams = most.map_or(share, |most| most.min(share));
        Arc::new(Self { most, most_streams, counts: Mutex::default() })
    }

    /// How many requests of one kind a client may have in flight.
    pub(super) fn most(&self, version: Version) -> Option<usize> {
        if version == Version::HTTP_2 { Some(self.most_streams) } else { self.most }
    }

    /// A slot for one more request of `client`; `None` if it is at its limit.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr, most: usize) -> Option<Arc<Slot>> {
        let client = network(client);
        let mut counts = lock(&self.counts);
        let count = counts.entry(client).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Arc::new(Slot { limit: self.clone(), client }))
    }
}

impl Slot {
    /// Makes the body hold the slot.
    pub(super) fn hold(self: Arc<Self>, body: Body) -> Body {
        body.holding(self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = lock(&self.limit.counts);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_burst_and_gets_it_back() {
        let limit = SignInLimit::new(3);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let start = Timestamp::from_seconds(1000);
        assert_eq!([(); 4].map(|()| limit.allow(Step::Begin, one, start)), [true, true, true, false]);
        assert!(limit.allow(Step::Begin, other, start) && limit.allow(Step::Callback, one, start));
        assert!(limit.allow(Step::Begin, one, start.plus(Duration::from_secs(20))));
        assert!(!limit.allow(Step::Begin, one, start.plus(Duration::from_secs(20))));
    }

    #[test]
    fn forged_codes_use_up_a_burst_in_no_time() {
        let limit = SignInLimit::new(200);
        let (one, start) = ("192.0.2.1".parse().unwrap(), Timestamp::from_seconds(1000));
        for _ in 0..4 {
            assert!(limit.allow(Step::Callback, one, start));
            limit.charge(Step::Callback, one, start);
        }
        assert!(!limit.allow(Step::Callback, one, start) && limit.allow(Step::Begin, one, start));
        assert!(limit.allow(Step::Callback, one, start.plus(REFILL)));
    }

    #[test]
    fn a_flood_of_addresses_clears_no_limit() {
        let limit = SignInLimit::new(2);
        let (one, start) = ("192.0.2.1".parse().unwrap(), Timestamp::from_seconds(1000));
        assert_eq!([(); 3].map(|()| limit.allow(Step::Begin, one, start)), [true, true, false]);
        for number in 0..30_000_u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
            assert!(limit.allow(Step::Begin, address, start));
        }
        assert!(!limit.allow(Step::Begin, one, start));
        assert!(limit.allow(Step::Begin, one, start.plus(REFILL)));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let limit = SignInLimit::new(2);
        let start = Timestamp::from_seconds(1000);
        let allowed = |address: &str| limit.allow(Step::Begin, address.parse().unwrap(), start);
        assert!(allowed("2001:db8::1") && allowed("2001:db8::ffff:1") && !allowed("2001:db8::2"));
        assert!(allowed("2001:db8:0:1::1"));
    }

    #[test]
    fn a_client_has_a_bounded_number_in_flight_and_each_slot_comes_back() {
        let limit = InFlightLimit::new(Some(2), 96);
        let take = |address: &str| limit.take(address.parse().unwrap(), limit.most(Version::HTTP_11)?);
        let slots = (take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap(), take("192.0.2.1").unwrap());
        assert!(take("2001:db8::3").is_none() && take("2001:db8:0:1::1").is_some());
        drop(slots);
        assert!(limit.counts.lock().unwrap().is_empty());
        let most = |most, share| {
            [Version::HTTP_11, Version::HTTP_2].map(|version| InFlightLimit::new(most, share).most(version))
        };
        assert_eq!(most(None, 96), [None, Some(96)]);
        assert_eq!(most(Some(100), 96), [Some(100), Some(96)]);
        assert_eq!(most(Some(2), 96), [Some(2), Some(2)]);
    }
}
