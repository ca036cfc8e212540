//! A cluster's slots: keys are spread over them, and followed to another node.

use std::collections::HashSet;

use upwarden::testing::store::{Config, Expect, ServerConfig, StoredSession};

use super::nodes::{Cluster, Node};
use super::world::{LIFETIME, START, World, session, until, within};

/// The place of the node that has a key; none where no node has it.
fn holder(cluster: &Cluster, key: &str) -> Option<usize> {
    let has = |node: &Node| node.order::<Vec<String>>(&["KEYS", key]).len() == 1;
    cluster.nodes.iter().position(has)
}

#[tokio::test]
async fn sessions_and_grants_are_spread_over_the_slots() {
    let Some(cluster) = Cluster::start(0) else { return };
    let world = World::at(Config::Valkey(ServerConfig::new(cluster.url())));
    for number in 0..60 {
        let value = world.save(session(&format!("{number:032x}"), &number.to_string())).await;
        within(world.store.put_grant(&format!("user-{number}"), b"x", &Expect::Absent)).await.unwrap().unwrap();
        assert!(world.open(&value).await.is_some());
    }
    for node in &cluster.nodes {
        for kind in ["upwarden:{*}:s", "upwarden:{u:*}", "upwarden:{r:grant:*}"] {
            let keys: Vec<String> = node.order(&["KEYS", kind]);
            assert!((5..=40).contains(&keys.len()), "{kind}: {} on one node", keys.len());
        }
    }
    let slots: HashSet<u16> = cluster
        .nodes
        .iter()
        .flat_map(|node| {
            let keys: Vec<String> = node.order(&["KEYS", "upwarden:{*}:s"]);
            keys.into_iter().map(|key| node.order::<u16>(&["CLUSTER", "KEYSLOT", &key]))
        })
        .collect();
    assert!(slots.len() > 50, "{}", slots.len());
}

#[tokio::test]
async fn a_slot_is_followed_while_and_after_it_moves() {
    let Some(cluster) = Cluster::start(0) else { return };
    let world = World::at(Config::Valkey(ServerConfig::new(cluster.url())));
    let (value, key) = (world.save(session("aa", "1")).await, "upwarden:{aa}:s");
    let from = holder(&cluster, key).unwrap();
    let to = (from + 1) % 3;
    let (old, new) = (&cluster.nodes[from], &cluster.nodes[to]);
    let slot = old.order::<u16>(&["CLUSTER", "KEYSLOT", key]).to_string();
    let [old_id, new_id]: [String; 2] = [old, new].map(|node| node.order(&["CLUSTER", "MYID"]));
    new.order::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old_id]);
    old.order::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new_id]);
    let move_key = |key: &str| {
        let port = new.port.to_string();
        old.order::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000", "AUTH2", "admin", "x"]);
    };
    move_key(key);
    assert_eq!(holder(&cluster, key), Some(to));
    let stored = world.open(&value).await.expect("ASK leads to it");
    let ends_at = START.plus(LIFETIME);
    let written = within(world.store.save_record(&stored.with(session("aa", "1")), ends_at)).await.unwrap();
    let written = within(world.store.reload(&written)).await.unwrap().unwrap();
    let lock = within(world.store.lock("aa")).await.unwrap().unwrap();
    lock.release().await;
    // The last word: the old node sends everyone away.
    for node in [new, old] {
        node.order::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &new_id]);
    }
    assert!(world.open(&value).await.is_some(), "MOVED leads to it");
    within(world.store.end(&written)).await.unwrap();
    assert_eq!(holder(&cluster, key), None);
    let again = within(world.store.save(&StoredSession::new(session("aa", "1")), ends_at)).await.unwrap();
    assert_eq!(holder(&cluster, key), Some(to));
    assert!(world.open(&again).await.is_some());
    until(async || world.store.healthy().then_some(())).await;
}
