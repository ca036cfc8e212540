//! Replicas that share counters, held against a model of Upwork's sliding windows: no wire, a turned clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CallerId;
use super::schedule::{Asked, Schedule};
use crate::broker::Pace;
use crate::clock::Timestamp;

/// An hour into a UTC day, and in the middle of a second.
const START: i64 = 20_000 * 86_400_000 + 3_600_700;
const STEP: i64 = 40;

/// What every replica's store is.
#[derive(Default)]
struct Counters {
    counts: BTreeMap<String, u64>,
    down: bool,
    asked: usize,
}

struct Replica {
    schedule: Schedule,
    /// How far its clock is off.
    skew: i64,
    served: usize,
}

struct World {
    replicas: Vec<Replica>,
    counters: Counters,
    now: i64,
    /// When each call reaches Upwork.
    arrivals: Vec<i64>,
    luck: u64,
}

impl World {
    fn new(skews: &[i64]) -> Self {
        let pace = Pace { wait: Duration::from_secs(1_000), ..Pace::default() };
        let replica = |skew: &i64| {
            let mut schedule = Schedule::new(&pace);
            schedule.share();
            Replica { schedule, skew: *skew, served: 0 }
        };
        let replicas = skews.iter().map(replica).collect();
        Self { replicas, counters: Counters::default(), now: 0, arrivals: Vec::new(), luck: 7 }
    }

    fn below(&mut self, most: u64) -> u64 {
        self.luck = self.luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.luck >> 33) % most.max(1)
    }

    fn arrive(&mut self, replica: usize, calls: usize) {
        self.replicas[replica].served += calls;
        for _ in 0..calls {
            let arrival = self.now + i64::try_from(self.below(500)).unwrap();
            self.arrivals.push(arrival);
        }
    }

    fn ask(&mut self, replica: usize, calls: usize) {
        for _ in 0..calls {
            let wall = self.wall(replica);
            match self.replicas[replica].schedule.ask(&CallerId::Service, wall).unwrap() {
                Asked::Now(_) => self.arrive(replica, 1),
                Asked::Wait(_) => {}
            }
        }
    }

    fn wall(&self, replica: usize) -> Timestamp {
        Timestamp::from_millis(START + self.now + self.replicas[replica].skew)
    }

    /// The next moment; replicas come to the store in another order each time.
    fn step(&mut self) {
        self.now += STEP;
        let first = usize::try_from(self.below(self.replicas.len() as u64)).unwrap();
        for place in 0..self.replicas.len() {
            let replica = (first + place) % self.replicas.len();
            let wall = self.wall(replica);
            let Self { replicas, counters, .. } = self;
            let schedule = &mut replicas[replica].schedule;
            while let Ok(errand) = schedule.errand(wall) {
                counters.asked += 1;
                let sums: Vec<u64> = errand
                    .adds
                    .iter()
                    .map(|(name, by)| {
                        let count = counters.counts.entry(name.clone()).or_default();
                        *count += if counters.down { 0 } else { *by };
                        *count
                    })
                    .collect();
                schedule.told(&errand, (!counters.down).then_some(&sums), wall);
            }
            let step = schedule.step(wall);
            assert!(step.late.is_empty());
            let went = step.go.len();
            self.arrive(replica, went);
        }
    }

    fn run_until_served(&mut self, calls: usize) -> i64 {
        while self.arrivals.len() < calls {
            self.step();
            assert!(self.now < 3_600_000, "{} of {calls} calls in an hour", self.arrivals.len());
        }
        self.now
    }

    fn violations(&mut self) -> usize {
        self.arrivals.sort_unstable();
        let close = |count: usize, span: i64| {
            self.arrivals.windows(count + 1).filter(move |calls| calls[count] - calls[0] < span).count()
        };
        close(10, 1_000) + close(300, 60_000)
    }
}

#[test]
fn three_replicas_keep_one_budget_and_lose_little_time() {
    for skews in [[0, 0, 0], [-50, 0, 50]] {
        let mut world = World::new(&skews);
        for replica in 0..3 {
            world.ask(replica, 667);
        }
        let took = world.run_until_served(2_000);
        assert_eq!(world.violations(), 0, "{skews:?}");
        // Six minutes of 300, and 200 calls.
        assert!(took <= (6 * 60_000 + 19_000) * 110 / 100, "{skews:?}: {took} ms");
        let served: Vec<usize> = world.replicas.iter().map(|replica| replica.served).collect();
        assert!(served.iter().all(|served| *served > 600), "{served:?}");
        assert!(world.counters.asked < 6_000, "{} errands", world.counters.asked);
    }
}

#[test]
fn a_greedy_replica_starves_no_other_and_gets_what_others_leave() {
    let mut world = World::new(&[0, 20, -20]);
    world.ask(0, 2_000);
    world.run_until_served(300);
    world.ask(1, 50);
    let begun = world.now;
    while world.replicas[1].served < 50 {
        world.step();
    }
    // A third of 5 calls a second would be 30 seconds; a pause of the minute may come in between.
    assert!(world.now - begun < 100_000, "{} ms", world.now - begun);
    assert_eq!(world.replicas[2].served, 0);
    let took = world.run_until_served(1_500);
    assert!(took <= 5 * 61_000 * 110 / 100, "{took} ms");
    assert_eq!(world.violations(), 0);
}

#[test]
fn a_single_call_goes_at_once_wherever_in_a_second_it_comes() {
    let mut world = World::new(&[0, 0, 0]);
    world.step();
    for call in 1..50 {
        world.ask(call % 3, 1);
        for _ in 0..2 {
            world.step();
        }
        assert_eq!(world.arrivals.len(), call);
        for _ in 0..10 {
            world.step();
        }
    }
    assert_eq!(world.violations(), 0);
}

#[test]
fn while_the_store_is_down_each_keeps_to_its_part_and_tells_of_it_later() {
    let mut world = World::new(&[0, 0, 0]);
    for replica in 0..3 {
        world.ask(replica, 500);
    }
    world.run_until_served(100);
    // A new count of replicas.
    while world.now < 20_000 {
        world.step();
    }
    world.counters.down = true;
    let before = world.arrivals.len();
    while world.now < 100_000 {
        world.step();
    }
    let meanwhile = world.arrivals.len() - before;
    assert!((240..=420).contains(&meanwhile), "{meanwhile} in 80 seconds");
    world.counters.down = false;
    world.run_until_served(1_490);
    assert_eq!(world.violations(), 0);
}

#[test]
fn a_replica_that_starts_later_joins_the_budget() {
    let mut world = World::new(&[0, 0]);
    world.ask(0, 1_000);
    world.run_until_served(280);
    let late = World::new(&[0]).replicas.remove(0);
    world.replicas.push(late);
    world.ask(2, 300);
    world.run_until_served(1_200);
    assert_eq!(world.violations(), 0);
}
