//! Replicas that share Upwork's limits, against a model of Upwork's sliding windows.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use upwarden::testing::broker::Pace;
use upwarden::testing::clock::{SharedClock, SystemClock};
use upwarden::testing::pacing::{CallerId, PaceRefusal, Pacer, Permit};
use upwarden::testing::seal::{Keyring, SharedKeyring};
use upwarden::testing::store::{Config, RATE_LIMIT_KEYS, ServerConfig, open_store};
use upwarden::testing::telemetry::Metrics;

use super::cluster::{Cluster, STEP};
use super::{BEST, START};
use crate::stores::world::{Server, Transport, until, within};

/// The default limits, under which every call waits for as long as it takes.
fn patient() -> Pace {
    Pace { wait: Duration::from_secs(1_000), ..Pace::default() }
}

#[tokio::test]
async fn three_replicas_keep_one_budget_and_lose_little_time() {
    let Some(mut cluster) = Cluster::new(patient(), &[-2_500, 0, 2_500]).await else { return };
    // Twenty callers at each.
    for replica in 0..3 {
        cluster.call(replica, 20, 34);
    }
    cluster.run_until_released(2_000).await;
    assert_eq!(cluster.violations(), 0);
    let took = cluster.time().since(START);
    assert!(took <= BEST * 110 / 100, "{took:?}");
    let round_trips = cluster.round_trips();
    assert!(round_trips < 6_000, "{round_trips} round trips");
    for replica in 0..3 {
        assert!(cluster.released_by(replica) > 600);
        let early = cluster.log.lock().unwrap()[..1_000].iter().filter(|(.., by)| *by == replica).count();
        assert!((270..=400).contains(&early), "{early} calls of replica {replica}");
    }
}

#[tokio::test]
async fn clocks_five_seconds_apart_change_nothing() {
    let mut logs = Vec::new();
    for skews in [[0, 0], [-2_500, 2_500]] {
        let Some(mut cluster) = Cluster::new(patient(), &skews).await else { return };
        for call in 0..60 {
            cluster.call(call % 2, 1, 1);
            cluster.run_until_released(call + 1).await;
        }
        assert_eq!(cluster.violations(), 0);
        let log = cluster.log.lock().unwrap().clone();
        logs.push(log);
    }
    assert_eq!(logs[0], logs[1]);
}

#[tokio::test]
async fn a_greedy_replica_starves_no_other_and_gets_what_others_leave() {
    let Some(mut cluster) = Cluster::new(patient(), &[0, 20, -20]).await else { return };
    cluster.call(0, 40, 50);
    cluster.run_until_released(300).await;
    cluster.call(1, 1, 50);
    let begun = cluster.time();
    while cluster.released_by(1) < 50 {
        cluster.step().await;
    }
    // A third of 5 calls a second would be 30 seconds; a pause of the minute may come in between.
    let took = cluster.time().since(begun);
    assert!(took < Duration::from_secs(100), "{took:?}");
    assert_eq!(cluster.released_by(2), 0);
    cluster.run_until_released(1_500).await;
    let took = cluster.time().since(START);
    assert!(took <= Duration::from_secs(5 * 61) * 110 / 100, "{took:?}");
    assert_eq!(cluster.violations(), 0);
}

#[tokio::test]
async fn a_single_call_is_always_sent_at_once() {
    let Some(mut cluster) = Cluster::new(patient(), &[0, 0, 0]).await else { return };
    for call in 1..50 {
        cluster.call(call % 3, 1, 1);
        cluster.settle().await;
        assert_eq!(cluster.released(), call);
        cluster.run_for(STEP * 10).await;
    }
    assert_eq!(cluster.violations(), 0);
}

#[tokio::test]
async fn a_burst_of_ten_is_sent_within_a_second_by_one_replica_or_by_several() {
    for skews in [&[0][..], &[0, 0], &[-2_500, 0, 2_500]] {
        let Some(mut cluster) = Cluster::new(patient(), skews).await else { return };
        cluster.run_for(Duration::from_secs(2)).await;
        let before = cluster.round_trips();
        cluster.call(0, 11, 1);
        cluster.settle().await;
        assert_eq!(cluster.released(), 10, "{skews:?}: all at once");
        assert_eq!(cluster.round_trips() - before, 11, "one round trip a call");
        cluster.run_for(Duration::from_millis(1_000)).await;
        assert_eq!(cluster.released(), 10);
        cluster.run_for(Duration::from_millis(600)).await;
        assert_eq!(cluster.released(), 11);
        cluster.run_for(Duration::from_secs(2)).await;
        for replica in 0..skews.len() {
            cluster.call(replica, 10_usize.div_ceil(skews.len()), 1);
        }
        cluster.settle().await;
        assert_eq!(cluster.released(), 21);
        assert_eq!(cluster.violations(), 0);
    }
}

#[tokio::test]
async fn two_replicas_with_sixteen_calls_a_day_never_make_a_seventeenth() {
    let pace = Pace { per_day: 16, ..Pace::default() };
    let Some(mut cluster) = Cluster::new(pace, &[-2_500, 2_500]).await else { return };
    let calls: Vec<_> = (0..2).flat_map(|replica| cluster.call(replica, 12, 1)).collect();
    cluster.run_for(Duration::from_secs(30)).await;
    assert_eq!(cluster.released(), 16);
    let mut refused = 0;
    for call in calls {
        if let Err(refusal) = call.await.unwrap() {
            assert_eq!(refusal.reason, PaceRefusal::Day);
            refused += 1;
        }
    }
    assert_eq!(refused, 8);
    for replica in 0..2 {
        assert_eq!(cluster.replicas[replica].pacer.quota().remaining, 0);
        let refusal = cluster.call(replica, 1, 1).remove(0).await.unwrap().unwrap_err();
        assert_eq!(refusal.reason, PaceRefusal::Day);
    }
    // A replica that has just started, and knows nothing yet, makes none either.
    cluster.join(0);
    let call = cluster.call(2, 1, 1).remove(0);
    cluster.settle().await;
    assert_eq!(call.await.unwrap().unwrap_err().reason, PaceRefusal::Day);
    let midnight = START.plus(Duration::from_hours(24)).minus(Duration::from_mins(10));
    cluster.advance(midnight.minus(STEP * 3).since(cluster.time())).await;
    // The server's midnight is what counts.
    cluster.call(1, 20, 1);
    cluster.run_for(STEP * 2).await;
    assert_eq!(cluster.released(), 16);
    cluster.run_for(Duration::from_secs(30)).await;
    assert_eq!(cluster.released(), 32);
}

/// Two replicas with sixteen calls a day, just after a midnight before which one of them reserved a call.
#[expect(clippy::unwrap_used, reason = "a helper fails its test as a test does")]
async fn reserved_before_midnight() -> Option<(Cluster, Permit)> {
    let mut cluster = Cluster::new(Pace { per_day: 16, ..patient() }, &[0, 0]).await?;
    let midnight = START.plus(Duration::from_hours(24)).minus(Duration::from_mins(10));
    cluster.advance(midnight.minus(STEP * 2).since(cluster.time())).await;
    let acquired = tokio::spawn({
        let pacer = cluster.replicas[0].pacer.clone();
        async move { pacer.acquire(CallerId::Service).await }
    });
    cluster.settle().await;
    cluster.run_for(STEP * 4).await;
    Some((cluster, acquired.await.unwrap().unwrap()))
}

#[tokio::test]
async fn a_call_cancelled_after_midnight_is_not_taken_off_the_new_day() {
    let Some((mut cluster, permit)) = reserved_before_midnight().await else { return };
    cluster.call(1, 16, 1);
    cluster.run_for(Duration::from_secs(5)).await;
    permit.cancel();
    cluster.run_for(Duration::from_secs(2)).await;
    cluster.call(0, 1, 1);
    cluster.run_for(Duration::from_secs(2)).await;
    assert_eq!(cluster.released(), 16);
}

#[tokio::test]
async fn a_call_reserved_again_after_midnight_counts_on_the_new_day() {
    let Some((mut cluster, _permit)) = reserved_before_midnight().await else { return };
    cluster.send_reservation_again().await;
    cluster.run_for(Duration::from_secs(2)).await;
    for replica in &cluster.replicas {
        assert_eq!(replica.pacer.quota().remaining, 15);
    }
}

#[tokio::test]
async fn while_the_store_is_down_each_replica_keeps_to_its_part_and_reports_it_later() {
    let Some(mut cluster) = Cluster::new(patient(), &[0, 0, 0]).await else { return };
    for replica in 0..3 {
        cluster.call(replica, 20, 25);
    }
    cluster.run_until_released(100).await;
    cluster.run_until(START.plus(Duration::from_secs(20))).await;
    cluster.set_down(true);
    let before = cluster.released();
    cluster.run_for(Duration::from_secs(80)).await;
    let meanwhile = cluster.released() - before;
    assert!((240..=420).contains(&meanwhile), "{meanwhile} in 80 seconds");
    cluster.set_down(false);
    cluster.run_until_released(1_490).await;
    assert_eq!(cluster.violations(), 0);
}

#[tokio::test]
async fn after_an_outage_a_replica_keeps_to_its_part_for_a_while_and_asks_for_each_call() {
    let Some(mut cluster) = Cluster::new(patient(), &[0, 0]).await else { return };
    cluster.run_for(Duration::from_secs(21)).await;
    cluster.set_down(true);
    cluster.run_for(Duration::from_secs(2)).await;
    cluster.set_down(false);
    cluster.run_for(Duration::from_secs(2)).await;
    let before = cluster.round_trips();
    cluster.call(0, 10, 1);
    cluster.settle().await;
    assert_eq!(cluster.released(), 5, "a half of a second's calls");
    assert_eq!(cluster.round_trips() - before, 5);
    cluster.run_for(Duration::from_secs(75)).await;
    cluster.call(0, 10, 1);
    cluster.settle().await;
    assert_eq!(cluster.released(), 20, "the other replica has reported by now");
}

#[tokio::test]
async fn after_an_outage_calls_go_as_fast_as_the_limits_allow() {
    let Some(mut cluster) = Cluster::new(patient(), &[0]).await else { return };
    cluster.run_for(Duration::from_secs(21)).await;
    cluster.set_down(true);
    cluster.run_for(Duration::from_secs(2)).await;
    cluster.set_down(false);
    cluster.run_for(Duration::from_secs(2)).await;
    let begun = cluster.time();
    cluster.call(0, 100, 1);
    cluster.run_until_released(100).await;
    let took = cluster.time().since(begun);
    assert!(took <= Duration::from_secs(21), "{took:?}");
}

#[tokio::test]
async fn a_replica_that_starts_later_joins_the_budget() {
    let Some(mut cluster) = Cluster::new(patient(), &[0, 0]).await else { return };
    cluster.call(0, 40, 25);
    cluster.run_until_released(280).await;
    cluster.join(0);
    cluster.call(2, 20, 15);
    cluster.run_until_released(1_200).await;
    assert_eq!(cluster.violations(), 0);
}

#[tokio::test]
async fn a_call_that_was_not_made_does_not_count_at_any_replica() {
    let pace = Pace { per_day: 16, ..patient() };
    let Some(mut cluster) = Cluster::new(pace, &[0, 0]).await else { return };
    let acquired = tokio::spawn({
        let pacer = cluster.replicas[0].pacer.clone();
        async move { pacer.acquire(CallerId::Service).await }
    });
    cluster.settle().await;
    acquired.await.unwrap().unwrap().cancel();
    // A caller that stops waiting leaves its reservation to the next one, or gives it back.
    for waiting in cluster.call(1, 12, 1).drain(10..) {
        waiting.abort();
    }
    cluster.run_for(Duration::from_secs(2)).await;
    assert_eq!(cluster.released(), 10);
    for replica in &cluster.replicas {
        assert_eq!(replica.pacer.quota().remaining, 6);
    }
}

#[tokio::test]
async fn calls_of_other_replicas_are_part_of_the_forecast() {
    let Some(mut cluster) = Cluster::new(Pace::default(), &[0, 0]).await else { return };
    for replica in 0..2 {
        cluster.call(replica, 10, 1_000);
    }
    cluster.run_for(Duration::from_secs(120)).await;
    // Each replica makes 150 calls a minute: 40 calls that wait would take 8 seconds alone
    let calls: Vec<_> = cluster.call(0, 40, 1).into_iter().map(|call| call.abort_handle()).collect();
    cluster.settle().await;
    let refused = calls.iter().filter(|call| call.is_finished()).count();
    assert!((1..40).contains(&refused), "{refused}");
}

/// A replica as it is in production, with the machine's clock.
struct Real {
    pacer: Arc<Pacer>,
    sharing: JoinHandle<()>,
}

#[expect(clippy::unwrap_used, reason = "a helper fails its test as a test does")]
impl Real {
    fn start(server: &Server) -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        let config = Config::Valkey(ServerConfig::new(server.url.clone()));
        let store =
            open_store(&config, SharedKeyring::new(Keyring::generate().unwrap()), clock.clone(), Handle::current())
                .unwrap();
        let pacer = Pacer::new(&Pace::default(), clock, Arc::new(Metrics::new()), Handle::current());
        pacer.begin_sharing();
        let sharing = tokio::spawn({
            let pacer = pacer.clone();
            async move {
                pacer
                    .share(|request| {
                        let store = store.clone();
                        async move { store.limit_rate(&request).await }
                    })
                    .await;
            }
        });
        Self { pacer, sharing }
    }

    async fn call(&self) {
        drop(within(self.pacer.acquire(CallerId::Service)).await.unwrap());
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.sharing.abort();
    }
}

#[expect(clippy::unwrap_used, reason = "a helper fails its test as a test does")]
async fn count_calls(server: &Server) -> usize {
    let mut admin = server.admin().await;
    let calls: usize = redis::cmd("ZCARD").arg(RATE_LIMIT_KEYS[0]).query_async(&mut admin).await.unwrap();
    calls
}

#[tokio::test]
async fn a_store_that_dies_delays_no_call_and_counts_them_when_it_is_back() {
    let Some(mut server) = Server::start(Transport::Socket) else { return };
    let replicas = [Real::start(&server), Real::start(&server)];
    for replica in &replicas {
        replica.call().await;
    }
    assert_eq!(count_calls(&server).await, 2);
    server.kill();
    for _ in 0..3 {
        replicas[0].call().await;
    }
    server.restart();
    until(async || (count_calls(&server).await == 5).then_some(())).await;
    replicas[1].call().await;
    until(async || (count_calls(&server).await == 6).then_some(())).await;
}
