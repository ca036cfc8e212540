//! The pacer against a model of Upwork's limits, with a manual clock: first the schedule alone, with calls that arrive
//! late and out of order, then the whole pacer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::task::JoinHandle;

use super::schedule::{Admission, Release, Schedule};
use super::*;
use crate::clock::{Clock, ManualClock};

/// An hour into a UTC day.
const START: i64 = 20_000 * 86_400_000 + 3_600_000;
/// The best that the limit allows: six full minutes, and a burst of two hundred.
const BEST: i64 = 6 * 60_000 + 19_000;

fn pace(per_second: u32, per_minute: u32, per_day: u32, wait: u64) -> Pace {
    Pace { per_second, per_minute, per_day, wait: Duration::from_secs(wait) }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

/// The calls whose arrival exceeds ten in a sliding second or three hundred in a sliding minute.
fn violations(arrivals: &mut [i64]) -> usize {
    arrivals.sort_unstable();
    let close =
        |count: usize, span: i64| arrivals.windows(count + 1).filter(move |calls| calls[count] - calls[0] < span);
    close(10, 1_000).count() + close(300, 60_000).count()
}

/// A number below `most`; the sequence is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }
}

struct Run {
    /// When each call arrived.
    arrivals: Vec<i64>,
    /// The callers of the released calls, in order.
    order: Vec<usize>,
}

/// Caller 0 makes a thousand calls at once; nineteen others call one at a time, up to 2,000 calls in total.
fn simulate(way: u64, answer: u64, seed: u64) -> Run {
    let mut random = Random(seed);
    let mut schedule = Schedule::new(&pace(10, 300, 40_000, 1_000));
    let caller = |index: usize| CallerId::user(&index.to_string());
    let mut owners = BTreeMap::new();
    let mut left = [vec![1_000], vec![53; 12], vec![52; 7]].concat();
    let mut run = Run { arrivals: Vec::new(), order: Vec::new() };
    let mut open: BinaryHeap<Reverse<(i64, u64, usize)>> = BinaryHeap::new();
    let mut open_calls: BTreeMap<u64, Release> = BTreeMap::new();
    let mut asking: Vec<usize> = (0..20).chain(std::iter::repeat_n(0, 999)).collect();
    let mut now = 0;
    loop {
        let mut went = Vec::new();
        for index in asking.drain(..).filter(|index| left[*index] > 0).collect::<Vec<_>>() {
            left[index] -= 1;
            match schedule.admit(&caller(index), at(now)).unwrap() {
                Admission::Released(release) => {
                    owners.insert(release.id, index);
                    went.push(release);
                }
                Admission::Queued(id) => drop(owners.insert(id, index)),
            }
        }
        let step = schedule.step(at(now));
        assert!(step.refused.is_empty());
        went.extend(step.released.into_iter().map(|(_, release)| release));
        for release in went {
            let arrival = now + i64::try_from(random.below(way)).unwrap();
            run.arrivals.push(arrival);
            run.order.push(owners[&release.id]);
            open.push(Reverse((
                arrival + 1 + i64::try_from(random.below(answer)).unwrap(),
                release.id,
                owners[&release.id],
            )));
            open_calls.insert(release.id, release);
        }
        let again = step.again.map(|moment| moment.millis() - START);
        let answered = open.peek().map(|Reverse((end, ..))| *end);
        match (again, answered) {
            (None, None) => return run,
            (again, answered) => now = again.unwrap_or(i64::MAX).min(answered.unwrap_or(i64::MAX)),
        }
        while open.peek().is_some_and(|Reverse((end, ..))| *end <= now) {
            let Reverse((_, id, index)) = open.pop().unwrap();
            schedule.finish(&open_calls[&id], at(now));
            asking.extend((index > 0).then_some(index));
        }
    }
}

#[test]
fn two_thousand_calls_keep_the_limits_waste_no_time_and_are_fair() {
    for (way, answer) in [(1, 1), (30, 100), (300, 300), (500, 1_000), (400, 20_000)] {
        for seed in 0..3 {
            let Run { mut arrivals, order } = simulate(way, answer, seed);
            assert_eq!(arrivals.len(), 2_000);
            assert_eq!(violations(&mut arrivals), 0, "way {way} ms, answer {answer} ms");
            if answer > 2_000 {
                // A caller that waits for slow answers one at a time asks for less than its share.
                continue;
            }
            let last = *arrivals.last().unwrap();
            assert!(last <= BEST * 105 / 100, "way {way} ms, answer {answer} ms: {last} ms of {BEST}");
            let mut counts = [0_u32; 20];
            // As long as every caller still has calls.
            for index in &order[..1_000] {
                counts[*index] += 1;
            }
            assert!(
                counts[1..].iter().all(|count| (45..=55).contains(count)),
                "way {way}, answer {answer}: {counts:?}"
            );
        }
    }
}

struct World {
    clock: Arc<ManualClock>,
    pacer: Arc<Pacer>,
    metrics: Arc<Metrics>,
}

impl World {
    fn new(pace: Pace) -> Self {
        let clock = ManualClock::at(at(0));
        let metrics = Arc::new(Metrics::new());
        let pacer = Pacer::new(&pace, clock.clone(), metrics.clone(), Handle::current());
        Self { clock, pacer, metrics }
    }

    /// Lets every task run until it waits.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn advance(&self, millis: u64) {
        self.settle().await;
        self.clock.advance(Duration::from_millis(millis));
        self.settle().await;
    }

    /// Today's calls.
    fn used(&self) -> u64 {
        let Quota { limit, remaining, .. } = self.pacer.quota();
        limit - remaining
    }

    /// Makes a call in its own task, which drops its permit at once.
    fn call(&self, caller: &str) -> JoinHandle<Result<Timestamp, RateLimited>> {
        let (pacer, clock, caller) = (self.pacer.clone(), self.clock.clone(), CallerId::user(caller));
        tokio::spawn(async move { pacer.acquire(caller).await.map(|_| clock.now()) })
    }

    async fn answered(&self, status: StatusCode, retry_after: Option<&'static str>) {
        let retry_after = retry_after.map(HeaderValue::from_static);
        self.pacer.acquire(CallerId::Service).await.unwrap().answered(status, retry_after.as_ref());
    }
}

#[tokio::test]
async fn the_pacer_itself_keeps_the_limits_and_is_fair() {
    let world = World::new(pace(10, 300, 40_000, 1_000));
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (caller, calls) in (0..100).map(|_| (0, 10)).chain((1..20).map(|caller| (caller, 52))) {
        let (pacer, clock, log) = (world.pacer.clone(), world.clock.clone(), log.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..calls {
                let permit = pacer.acquire(CallerId::user(&caller.to_string())).await.unwrap();
                log.lock().unwrap().push((clock.now().millis(), caller));
                drop(permit);
            }
        }));
    }
    while log.lock().unwrap().len() < 1_988 {
        world.advance(50).await;
        assert!(world.clock.now() < at(BEST * 105 / 100), "{} calls in time", log.lock().unwrap().len());
    }
    for task in tasks {
        task.await.unwrap();
    }
    let log = log.lock().unwrap();
    assert_eq!(violations(&mut log.iter().map(|(moment, _)| *moment).collect::<Vec<_>>()), 0);
    let mut counts = [0_u32; 20];
    for (_, caller) in &log[..1_000] {
        counts[*caller] += 1;
    }
    assert!(counts[1..].iter().all(|count| (45..=55).contains(count)), "{counts:?}");
    assert_eq!(world.pacer.quota().remaining, 40_000 - 1_988);
}

#[tokio::test]
async fn a_call_that_would_wait_too_long_is_refused_at_once_with_a_true_retry_after() {
    let world = World::new(pace(2, 300, 40_000, 3));
    let calls: Vec<_> = (0..6).map(|_| world.call("a")).collect();
    world.settle().await;
    let late = world.call("a").await.unwrap().unwrap_err();
    assert_eq!(late.reason, PaceRefusal::Busy);
    assert!(late.retry_after > Duration::from_secs(3), "{late}");
    assert!(world.metrics.render().contains("upwarden_pace_refused_total{reason=\"busy\"} 1"));
    for _ in 0..late.retry_after.as_millis() / 20 {
        world.advance(20).await;
    }
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(world.call("a").await.unwrap(), Ok(world.clock.now()));
}

#[tokio::test]
async fn a_polite_caller_is_served_where_a_greedy_one_is_refused() {
    let world = World::new(pace(2, 300, 40_000, 3));
    let greedy: Vec<_> = (0..20).map(|_| world.call("greedy")).collect();
    world.settle().await;
    let polite = world.call("polite");
    for _ in 0..40 {
        world.advance(100).await;
    }
    assert!(polite.await.unwrap().unwrap() <= at(1_100));
    let mut served = 0;
    for call in greedy {
        match call.await.unwrap() {
            Ok(_) => served += 1,
            Err(late) => assert_eq!(late.reason, PaceRefusal::Busy),
        }
    }
    assert_eq!(served, 5, "two at once and four in three seconds, less the polite one");
}

#[tokio::test]
async fn a_call_that_stops_waiting_gives_up_its_place() {
    let world = World::new(pace(1, 300, 40_000, 60));
    drop(world.pacer.acquire(CallerId::Service).await.unwrap());
    let first = world.call("a");
    world.settle().await;
    let second = world.call("b");
    world.settle().await;
    first.abort();
    world.advance(1_100).await;
    assert_eq!(second.await.unwrap(), Ok(at(1_100)));
    assert_eq!(world.used(), 2);
    let permit = {
        world.advance(1_100).await;
        world.pacer.acquire(CallerId::Service).await.unwrap()
    };
    permit.cancel();
    assert_eq!(world.call("c").await.unwrap(), Ok(at(2_200)), "a cancelled permit does not count");
    assert_eq!(world.used(), 3);
}

#[tokio::test]
async fn a_permit_that_comes_at_the_last_moment_is_not_lost() {
    let world = World::new(pace(1, 300, 40_000, 60));
    drop(world.pacer.acquire(CallerId::Service).await.unwrap());
    let mut waiting = Box::pin(world.pacer.acquire(CallerId::user("a")));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    world.advance(1_100).await;
    assert_eq!(world.used(), 2, "its permit is there, but was not polled");
    drop(waiting);
    assert_eq!(world.used(), 1);
    assert_eq!(world.call("b").await.unwrap(), Ok(at(1_100)));
}

#[tokio::test]
async fn a_429_pauses_all_calls_for_as_long_as_it_says() {
    let world = World::new(pace(10, 300, 40_000, 5));
    world.answered(StatusCode::TOO_MANY_REQUESTS, Some("4")).await;
    let waiting = world.call("a");
    world.advance(3_900).await;
    assert!(!waiting.is_finished());
    world.advance(100).await;
    assert_eq!(waiting.await.unwrap(), Ok(at(4_000)));
    world.answered(StatusCode::TOO_MANY_REQUESTS, Some("30")).await;
    let late = world.call("a").await.unwrap().unwrap_err();
    assert_eq!((late.reason, late.retry_after_seconds()), (PaceRefusal::Paused, 30));
}

#[tokio::test]
async fn waiting_calls_are_refused_at_once_when_a_pause_begins_that_is_too_long() {
    let world = World::new(pace(1, 300, 40_000, 5));
    let permit = world.pacer.acquire(CallerId::Service).await.unwrap();
    let waiting = world.call("a");
    world.settle().await;
    permit.answered(StatusCode::TOO_MANY_REQUESTS, Some(&HeaderValue::from_static("60")));
    let late = waiting.await.unwrap().unwrap_err();
    assert_eq!((late.reason, late.retry_after), (PaceRefusal::Paused, Duration::from_mins(1)));
}

#[tokio::test]
async fn a_day_s_budget_ends_at_midnight_utc() {
    let world = World::new(pace(10, 300, 3, 10));
    world.pacer.set_total(world.pacer.today(), 1);
    for _ in 0..2 {
        world.answered(StatusCode::OK, None).await;
    }
    let rest = Duration::from_hours(23);
    let late = world.call("a").await.unwrap().unwrap_err();
    assert_eq!((late.reason, late.retry_after), (PaceRefusal::Day, rest));
    assert_eq!(world.pacer.quota(), Quota { limit: 3, remaining: 0, resets_in: rest });
    assert!(world.metrics.render().contains("upwarden_pace_quota_left 0"));
    world.clock.advance(rest.saturating_sub(Duration::from_secs(4)));
    let waiting = world.call("a");
    world.advance(4_000).await;
    assert_eq!(waiting.await.unwrap(), Ok(at(0).plus(rest)));
    assert_eq!(world.pacer.quota().remaining, 2);
    assert_eq!(world.pacer.take_unreported().map(|(_, calls)| calls), Some(2), "yesterday's");
}

#[tokio::test]
async fn a_clock_that_is_set_back_stops_no_call_and_releases_none() {
    let world = World::new(pace(2, 300, 40_000, 10));
    for _ in 0..2 {
        world.answered(StatusCode::OK, None).await;
    }
    let first = world.call("a");
    world.settle().await;
    world.clock.set(at(-3_600_000));
    world.settle().await;
    let second = world.call("b");
    world.advance(1_000).await;
    assert!(!first.is_finished() && !second.is_finished(), "the second is not over");
    world.advance(30).await;
    assert_eq!(first.await.unwrap(), Ok(at(-3_600_000 + 1_030)));
    assert_eq!(second.await.unwrap(), Ok(at(-3_600_000 + 1_030)));
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date() {
    let now = Timestamp::from_seconds(784_111_777 - 90);
    for (text, seconds) in [
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(90)),
        ("Sat, 06 Nov 1993 08:49:37 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
    ] {
        assert_eq!(retry_after(&HeaderValue::from_static(text), now), seconds.map(Duration::from_secs), "{text}");
    }
}
