//! Three replicas with one real server between them, against a model of Upwork's sliding windows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use upwarden::testing::broker::Pace;
use upwarden::testing::broker::pacing::{CallerId, Pacer};
use upwarden::testing::clock::{Clock, ManualClock, SharedClock, SystemClock};
use upwarden::testing::seal::{Keyring, SharedKeyring};
use upwarden::testing::store::{Config, Store, open_store};
use upwarden::testing::telemetry::metrics::Metrics;

use super::{BEST, START};
use crate::stores::world::{Door, Server, within};

struct Replica {
    pacer: Arc<Pacer>,
    store: Store,
}

impl Replica {
    fn new(server: &Server, clock: &SharedClock) -> Self {
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        let config = Config::Valkey { url: server.url.clone(), ca_file: None };
        let store = open_store(&config, ring, clock.clone(), Handle::current()).unwrap();
        let pace = Pace { wait: Duration::from_secs(1_000), ..Pace::default() };
        let pacer = Pacer::new(&pace, clock.clone(), Arc::new(Metrics::new()), Handle::current());
        pacer.begin_sharing();
        Self { pacer, store }
    }
}

async fn let_everybody_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Calls that ten in any second and three hundred in any minute forbid, if each takes up to half a second on its way.
fn violations(released: &[i64]) -> usize {
    let mut luck = 7_u64;
    let mut arrivals: Vec<i64> = released
        .iter()
        .map(|moment| {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            moment + i64::try_from((luck >> 33) % 500).unwrap()
        })
        .collect();
    arrivals.sort_unstable();
    let close =
        |count: usize, span: i64| arrivals.windows(count + 1).filter(move |calls| calls[count] - calls[0] < span);
    close(10, 1_000).count() + close(300, 60_000).count()
}

#[tokio::test]
async fn three_replicas_with_one_store_keep_one_budget() {
    let Some(server) = Server::start(Door::Socket) else { return };
    let clock = ManualClock::at(START);
    let replicas: Vec<_> = (0..3).map(|_| Replica::new(&server, &(clock.clone() as SharedClock))).collect();
    // Released when, and by whom.
    let log: Arc<Mutex<Vec<(i64, usize)>>> = Arc::default();
    let mut tasks = Vec::new();
    // Twenty callers at each, of whom one is greedy.
    for caller in 0..60 {
        let (pacer, clock, log) = (replicas[caller % 3].pacer.clone(), clock.clone(), log.clone());
        let calls = if caller < 20 { 34 } else { 33 };
        tasks.push(tokio::spawn(async move {
            for _ in 0..calls {
                let turn = pacer.turn(CallerId::user(&caller.to_string())).await.unwrap();
                log.lock().unwrap().push((clock.now().millis(), caller % 3));
                drop(turn);
            }
        }));
    }
    let mut round = 0;
    while log.lock().unwrap().len() < 2_000 {
        for place in 0..3 {
            let Replica { pacer, store } = &replicas[(round + place) % 3];
            let_everybody_run().await;
            within(pacer.settle(store)).await;
            let_everybody_run().await;
        }
        round += 1;
        clock.advance(Duration::from_millis(50));
        let took = clock.now().since(START);
        assert!(took <= BEST * 110 / 100, "{} calls in {took:?}", log.lock().unwrap().len());
    }
    for task in tasks {
        task.await.unwrap();
    }
    let log = log.lock().unwrap();
    assert_eq!(violations(&log.iter().map(|(moment, _)| *moment).collect::<Vec<_>>()), 0);
    let mut counts = [0_usize; 3];
    for (_, replica) in &log[..1_000] {
        counts[*replica] += 1;
    }
    assert!(counts.iter().all(|count| (270..=400).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn a_store_that_dies_holds_nobody_up() {
    let Some(mut server) = Server::start(Door::Socket) else { return };
    let replica = Replica::new(&server, &(Arc::new(SystemClock) as SharedClock));
    let sharing = tokio::spawn(replica.pacer.clone().share(replica.store.clone()));
    drop(within(replica.pacer.turn(CallerId::Service)).await.unwrap());
    server.kill();
    for _ in 0..5 {
        drop(within(replica.pacer.turn(CallerId::Service)).await.unwrap());
    }
    sharing.abort();
}
