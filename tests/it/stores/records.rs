//! What is stored besides sessions: grants, records, counters.

use std::time::Duration;

use upwarden::testing::seal::Purpose;
use upwarden::testing::store::{Expect, NewRecord, StoreError};

use super::tokens::add;
use super::world::{LIFETIME, START, World, key, ring, until, within};

#[tokio::test]
async fn a_grant_can_only_be_rotated_by_a_replica_that_has_read_it() {
    for world in World::with_records() {
        let store = &world.store;
        assert!(within(store.get_grant("service")).await.unwrap().is_none());
        let first = within(store.put_grant("service", b"one", &Expect::Absent)).await.unwrap().unwrap();
        assert!(within(store.put_grant("service", b"x", &Expect::Absent)).await.unwrap().is_none(), "{}", world.kind);
        let read = within(store.get_grant("service")).await.unwrap().unwrap();
        assert_eq!((read.bytes.as_slice(), &read.version), (&b"one"[..], &first));
        let (one, other) = (Expect::Version(first.clone()), Expect::Version(first));
        let done = tokio::join!(store.put_grant("service", b"two", &one), store.put_grant("service", b"three", &other));
        let winners = [done.0.unwrap(), done.1.unwrap()].iter().flatten().count();
        assert_eq!(winners, 1, "{}", world.kind);
        assert!(within(store.delete_grant("service")).await.unwrap());
        assert!(!within(store.delete_grant("service")).await.unwrap());
        assert!(within(store.put_grant("service", b"late", &one)).await.unwrap().is_none(), "{}", world.kind);
        assert!(within(store.put_grant("service", b"anew", &Expect::Anything)).await.unwrap().is_some());
    }
    let refused = World::cookie().store.get_grant("service").await;
    assert!(matches!(refused, Err(StoreError::NoRecords)));
}

#[tokio::test]
async fn a_grant_outlives_the_key_that_sealed_it() {
    for world in World::with_records() {
        let (old, new) = (key(), key());
        world.ring.replace(ring(vec![old.clone()]));
        within(world.store.put_grant("service", b"one", &Expect::Absent)).await.unwrap().unwrap();
        world.ring.replace(ring(vec![new.clone(), old]));
        let read = within(world.store.get_grant("service")).await.unwrap().unwrap();
        world.ring.replace(ring(vec![new]));
        let again = within(world.store.get_grant("service")).await.unwrap().expect("it was sealed anew");
        assert_eq!((again.bytes.as_slice(), &again.version), (&b"one"[..], &read.version), "{}", world.kind);
        world.ring.replace(ring(vec![key()]));
        assert!(within(world.store.get_grant("service")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn records_are_listed_by_namespace_until_they_expire() {
    for world in World::with_records() {
        let store = &world.store;
        let end = Some(START.plus(Duration::from_mins(1)));
        for (namespace, name, expires_at) in
            [("pat", "b/%", None), ("pat", "a", end), ("pat2", "c", None), ("pa", "d", None)]
        {
            let record = NewRecord { bytes: name.as_bytes(), expires_at };
            within(store.put(namespace, name, record, &Expect::Absent)).await.unwrap().unwrap();
        }
        let names = async || -> Vec<String> {
            within(store.list("pat")).await.unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names().await, ["a", "b/%"], "{}", world.kind);
        assert_eq!(within(store.get("pat", "b/%")).await.unwrap().unwrap().bytes.as_slice(), b"b/%");
        world.clock.advance(Duration::from_mins(1));
        assert!(within(store.get("pat", "a")).await.unwrap().is_none(), "{}", world.kind);
        assert_eq!(names().await, ["b/%"]);
        assert!(within(store.delete("pat", "b/%")).await.unwrap());
        assert_eq!(names().await, [""; 0]);
    }
}

#[tokio::test]
async fn an_expired_record_can_be_written_anew() {
    for world in World::with_records() {
        let put = async |expect: &Expect| {
            let end = Some(upwarden::testing::clock::Clock::now(&*world.clock).plus(Duration::from_millis(1)));
            within(world.store.put("pat", "a", NewRecord { bytes: b"x", expires_at: end }, expect)).await.unwrap()
        };
        let version = put(&Expect::Absent).await.unwrap();
        world.clock.advance(Duration::from_millis(1));
        // A server has its own clock.
        until(async || put(&Expect::Absent).await).await;
        assert!(put(&Expect::Version(version)).await.is_none(), "{}: it is another record", world.kind);
    }
}

#[tokio::test]
async fn records_and_their_names_expire_in_the_server() {
    let Some(world) = World::valkey() else { return };
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let mut left = async |key: &str| -> i64 {
        redis::cmd("PTTL").arg(format!("upwarden:{{r:pat{key}")).query_async(&mut admin).await.unwrap()
    };
    let put = async |name: &str, minutes: Option<u64>| {
        let expires_at = minutes.map(|minutes| START.plus(Duration::from_mins(minutes)));
        let record = NewRecord { bytes: b"x", expires_at };
        within(world.store.put("pat", name, record, &Expect::Anything)).await.unwrap().unwrap();
    };
    put("long", Some(60)).await;
    put("short", Some(1)).await;
    for (key, minutes) in [(":long}", 60), (":short}", 1), ("}:n", 60)] {
        let most = minutes * 60_000;
        assert!((most - 50_000..=most).contains(&left(key).await), "{key}");
    }
    put("endless", None).await;
    put("long", Some(60)).await;
    assert_eq!([left(":endless}").await, left("}:n").await], [-1, -1]);
    assert!(within(world.store.delete("pat", "endless")).await.unwrap());
    put("short", Some(1)).await;
    assert!(left(":endless}").await == -2 && left("}:n").await > 0);
}

#[tokio::test]
async fn a_counter_adds_up_until_its_day_is_over() {
    for world in World::with_records() {
        let tomorrow = START.plus(Duration::from_hours(24));
        assert_eq!(within(world.store.add_to_counter("day", 5, tomorrow)).await.unwrap(), 5);
        assert_eq!(within(world.store.add_to_counter("day", 7, tomorrow)).await.unwrap(), 12, "{}", world.kind);
        assert_eq!(within(world.store.add_to_counter("other", 1, tomorrow)).await.unwrap(), 1);
        let counts = (0..20).map(|_| world.store.add_to_counter("day", 1, tomorrow));
        let mut sums: Vec<u64> = futures_util::future::join_all(counts).await.into_iter().map(Result::unwrap).collect();
        sums.sort_unstable();
        assert_eq!(sums, (13..33).collect::<Vec<u64>>(), "{}", world.kind);
    }
    let world = World::embedded();
    within(world.store.add_to_counter("day", 5, START.plus(Duration::from_secs(1)))).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(within(world.store.add_to_counter("day", 2, START.plus(Duration::from_secs(9)))).await.unwrap(), 2);
}

#[tokio::test]
async fn the_store_and_the_ring_together_reveal_nothing() {
    for mut world in World::with_records() {
        let session = super::session("aa", "1181921839933591552");
        let value = world.save(session).await;
        within(world.store.put_grant("service", b"oauth2v2_grant", &Expect::Absent)).await.unwrap();
        let stored = world.open(&value).await.unwrap();
        within(world.store.share(&stored, START.plus(LIFETIME))).await.unwrap();
        add(&world, "1181921839933591552", Duration::from_secs(60)).await;
        assert!(world.open(&value).await.is_some());
        let values = dump(&mut world).await;
        let text = String::from_utf8_lossy(&values.concat()).into_owned();
        for secret in ["oauth2v2_", "foofreelancer", "Foo Bar", "1181921839933591552"] {
            assert!(!text.contains(secret), "{}: {secret}", world.kind);
        }
        let sealed: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').collect();
        assert!(sealed.iter().any(|piece| piece.len() > 200), "{}: the session is in it", world.kind);
        for piece in sealed {
            for purpose in [Purpose::Session, Purpose::Login, Purpose::State, Purpose::Ticket] {
                assert!(world.ring.load().open(purpose, piece).is_none(), "{}", world.kind);
            }
        }
    }
}

/// Everything a store holds, names and values.
async fn dump(world: &mut World) -> Vec<Vec<u8>> {
    let admins = world.admins().await;
    if admins.is_empty() {
        return vec![std::fs::read(world.path()).unwrap()];
    }
    let mut values = Vec::new();
    for mut admin in admins {
        dump_server(&mut admin, &mut values).await;
    }
    values
}

async fn dump_server(admin: &mut redis::aio::MultiplexedConnection, values: &mut Vec<Vec<u8>>) {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(admin).await.unwrap();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(admin).await.unwrap();
        let mut read = match kind.as_str() {
            "string" => redis::cmd("GET"),
            "hash" => redis::cmd("HGETALL"),
            _ => redis::cmd("ZRANGE"),
        };
        read.arg(&key);
        if kind == "zset" {
            read.arg(0).arg(-1);
        }
        let found: redis::Value = read.query_async(admin).await.unwrap();
        let found = if let redis::Value::Array(values) = found {
            values.into_iter().flat_map(bytes).collect()
        } else {
            bytes(found)
        };
        values.extend([key.into_bytes(), b" ".to_vec(), found]);
    }
}

fn bytes(value: redis::Value) -> Vec<u8> {
    let mut bytes: Vec<u8> = redis::from_redis_value(value).unwrap();
    bytes.push(b' ');
    bytes
}
