//! Groups of servers that lose nodes under many writes and reads: acknowledged writes are there afterwards.
//!
//! With `UPWARDEN_TESTS_CHAOS=1` ten thousand users sign in meanwhile.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use upwarden::testing::secret::Secret;
use upwarden::testing::store::{Config, ServerConfig, Store, StoreError, StoredSession};

use super::nodes::{Cluster, SentinelGroup, until};
use super::world::{LIFETIME, START, World, session, within};
use crate::harness::chaos;

/// Sign-ins and requests at once.
const WRITERS: usize = 100;
const READERS: usize = 20;

/// When something last went well, and the longest time that it did not.
#[derive(Default)]
struct Gap(Option<Instant>, Duration);

impl Gap {
    fn well(&mut self) {
        let now = Instant::now();
        self.1 = self.1.max(self.0.map_or(Duration::ZERO, |last| now - last));
        self.0 = Some(now);
    }
}

/// Users who sign in, and whose sessions are read again and again.
struct Crowd {
    store: Store,
    count: usize,
    next: AtomicUsize,
    /// How many may sign in as yet, so that some are left for what comes.
    open_to: AtomicUsize,
    /// The ids and cookies of the sessions that were saved.
    saved: Mutex<Vec<(String, String)>>,
    writes: Mutex<Gap>,
    reads: Mutex<Gap>,
    refused_writes: AtomicUsize,
    refused_reads: AtomicUsize,
}

impl Crowd {
    /// Signs everyone in, however often that takes.
    async fn sign_in(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return;
            }
            while number >= self.open_to.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let id = format!("{number:032x}");
            let new = StoredSession::new(session(&id, &(number % 500).to_string()));
            let value = loop {
                match self.store.save(&new, START.plus(LIFETIME)).await {
                    Ok(value) => break value,
                    Err(StoreError::Down(_)) => self.refused_writes.fetch_add(1, Ordering::Relaxed),
                    Err(other) => panic!("{other:?}"),
                };
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            self.writes.lock().unwrap().well();
            self.saved.lock().unwrap().push((id, value));
        }
    }

    /// Reads sessions until everyone has signed in.
    async fn read(&self, mut turn: usize) {
        while self.saved() < self.count {
            turn += READERS;
            let some = {
                let saved = self.saved.lock().unwrap();
                saved.get(turn % saved.len().max(1)).cloned()
            };
            let Some((id, value)) = some else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            match self.store.open(&value).await {
                Ok(Some(stored)) => {
                    assert_eq!(stored.session.id, id);
                    self.reads.lock().unwrap().well();
                }
                Ok(None) => panic!("session {id} was acknowledged and is lost"),
                Err(_) => {
                    self.refused_reads.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn saved(&self) -> usize {
        self.saved.lock().unwrap().len()
    }

    /// Waits until a share of everyone has signed in. Others go on.
    fn at(&self, percent: usize) {
        self.open_to.store(self.count * (percent + 20) / 100, Ordering::Relaxed);
        until("sign-ins", || self.saved() >= self.count * percent / 100);
    }

    fn report(&self, what: &str, began: Instant) {
        let (writes, reads) = (self.writes.lock().unwrap().1, self.reads.lock().unwrap().1);
        let (no_writes, no_reads) = (&self.refused_writes, &self.refused_reads);
        let _ = writeln!(
            std::io::stderr(),
            "{what}: {} sessions in {:?}; longest without a write {writes:?}, without a read {reads:?}; refused {no_writes:?} \
             writes, {no_reads:?} reads",
            self.count,
            began.elapsed()
        );
    }
}

/// Runs a script of losses while everyone signs in, and looks for every session afterwards, also as a process that starts then.
async fn survive<G: Send + 'static>(
    what: &str,
    url: Secret,
    mut group: G,
    script: impl FnOnce(&Crowd, &mut G) + Send + 'static,
) {
    let world = World::at(Config::Valkey(ServerConfig::new(url)));
    let crowd = Arc::new(Crowd {
        store: world.store.clone(),
        count: if chaos() { 10_000 } else { 2_000 },
        next: AtomicUsize::new(0),
        open_to: AtomicUsize::new(0),
        saved: Mutex::default(),
        writes: Mutex::default(),
        reads: Mutex::default(),
        refused_writes: AtomicUsize::new(0),
        refused_reads: AtomicUsize::new(0),
    });
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let crowd = crowd.clone();
        tasks.push(tokio::spawn(async move { crowd.sign_in().await }));
    }
    for number in 0..READERS {
        let crowd = crowd.clone();
        tasks.push(tokio::spawn(async move { crowd.read(number).await }));
    }
    // It waits for processes, which must hold up no one here.
    let playing = crowd.clone();
    let script = tokio::task::spawn_blocking(move || {
        script(&playing, &mut group);
        group
    });
    let _group = script.await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    crowd.report(what, began);
    let saved = crowd.saved.lock().unwrap().clone();
    assert_eq!(saved.len(), crowd.count);
    for store in [world.store.clone(), world.open_again().unwrap()] {
        for some in saved.chunks(200) {
            let opened = some.iter().map(|(id, value)| async { (id.clone(), within(store.open(value)).await) });
            for (id, stored) in join_all(opened).await {
                assert_eq!(stored.unwrap().expect("it was acknowledged").session.id, id);
            }
        }
    }
}

#[tokio::test]
async fn a_primary_that_is_killed_or_suspended_loses_nothing_with_sentinel() {
    let Some(group) = SentinelGroup::start() else { return };
    survive("Sentinel", group.url(), group, |crowd, group| {
        crowd.at(10);
        let first = group.primary();
        group.servers[first].kill();
        until("a failover", || group.primary() != first);
        crowd.at(30);
        group.servers[first].restart();
        group.settle();
        crowd.at(40);
        // Cut off, and back as a primary that others have replaced.
        let second = group.primary();
        group.servers[second].signal("STOP");
        until("a failover", || group.primary() != second);
        group.servers[second].signal("CONT");
        group.settle();
        crowd.at(60);
        let replica = 1 - group.primary();
        group.servers[replica].signal("STOP");
        crowd.at(70);
        group.servers[replica].signal("CONT");
        crowd.at(80);
        // A replica that is no more cannot take over, and holds up no one.
        group.servers[replica].kill();
        crowd.at(100);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_killed_or_suspended_loses_nothing_with_a_cluster() {
    let Some(cluster) = Cluster::start(1) else { return };
    survive("Cluster", cluster.url(), cluster, |crowd, cluster| {
        crowd.at(10);
        cluster.nodes[0].kill();
        until("a failover", || cluster.is_primary(3));
        crowd.at(30);
        cluster.nodes[0].restart();
        cluster.replicated(1);
        crowd.at(40);
        cluster.nodes[1].signal("STOP");
        until("a failover", || cluster.is_primary(4));
        crowd.at(60);
        cluster.nodes[1].signal("CONT");
        cluster.replicated(1);
        crowd.at(70);
        cluster.nodes[5].signal("STOP");
        crowd.at(80);
        cluster.nodes[5].signal("CONT");
        cluster.replicated(1);
        cluster.nodes[2].kill();
        until("a failover", || cluster.is_primary(5));
        crowd.at(100);
    })
    .await;
}

#[tokio::test]
async fn a_write_that_no_replica_has_is_not_acknowledged() {
    let Some(group) = SentinelGroup::start() else { return };
    let world = World::at(Config::Valkey(ServerConfig::new(group.url())));
    let ends_at = START.plus(LIFETIME);
    let save = async |id: &str| within(world.store.save(&StoredSession::new(session(id, "1")), ends_at)).await;
    let value = save("aa").await.unwrap();
    for sentinel in &group.sentinels {
        sentinel.signal("STOP");
    }
    save("bb").await.expect("while there is a primary, no Sentinel is needed");
    // Nothing says that it cannot become the primary.
    group.servers[1].signal("STOP");
    let refused = save("cc").await;
    assert!(matches!(refused, Err(StoreError::Down(_))), "{refused:?}");
    assert!(world.open(&value).await.is_some());
    group.servers[1].signal("CONT");
    super::world::until(async || save("dd").await.ok()).await;
}
