//! Replicas keep the second and the minute together: what `share` wants asked is asked of the store.
//!
//! In: a store that replicas share. Out: leases for calls that wait. It holds no call up while the store is down: then each
//! replica keeps to its part by itself, and says so once.

use std::sync::Arc;

use super::Pacer;
use super::share::Errand;
use crate::clock::Timestamp;
use crate::store::{Store, StoreError};

impl Pacer {
    /// From now on, and as long as this is polled, the second and the minute are shared by all replicas of `store`. It
    /// never ends.
    pub async fn share(self: Arc<Self>, store: Store) {
        self.share_over(&|errand| run(store.clone(), errand)).await;
    }

    async fn share_over<F, R>(&self, ask: &F)
    where
        F: Fn(Errand) -> R,
        R: Future<Output = Result<Vec<u64>, StoreError>>,
    {
        self.begin_sharing();
        loop {
            let again = self.settle_over(ask).await;
            tokio::select! {
                () = self.clock.sleep_until(again) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// The first step of [`Pacer::share`].
    pub fn begin_sharing(&self) {
        self.lock().schedule.share();
    }

    /// The steps of [`Pacer::share`] that are due; when there is a next one, should nobody ask before.
    pub async fn settle(&self, store: &Store) -> Timestamp {
        self.settle_over(&|errand| run(store.clone(), errand)).await
    }

    async fn settle_over<F, R>(&self, ask: &F) -> Timestamp
    where
        F: Fn(Errand) -> R,
        R: Future<Output = Result<Vec<u64>, StoreError>>,
    {
        loop {
            let errand = self.lock().schedule.errand(self.clock.now());
            match errand {
                Ok(errand) => {
                    let sums = ask(errand.clone()).await;
                    self.told(&errand, sums);
                }
                Err(again) => return again,
            }
        }
    }

    fn told(&self, errand: &Errand, sums: Result<Vec<u64>, StoreError>) {
        let change = self.lock().schedule.told(errand, sums.as_deref().ok(), self.clock.now());
        match (change, sums) {
            (Some(true), Err(error)) => {
                tracing::warn!(%error, "Upwork's limits are not shared while the store is down: each replica keeps to its part");
            }
            (Some(false), _) => tracing::info!("Upwork's limits are shared with the other replicas again"),
            (Some(true) | None, _) => {}
        }
        self.changed.notify_one();
    }
}

async fn run(store: Store, errand: Errand) -> Result<Vec<u64>, StoreError> {
    let mut sums = Vec::with_capacity(errand.adds.len());
    for (counter, by) in &errand.adds {
        sums.push(store.add_to_counter(counter, *by, errand.expires_at).await?);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;
    use crate::broker::Pace;
    use crate::broker::pacing::CallerId;
    use crate::clock::{Clock, ManualClock};
    use crate::telemetry::metrics::Metrics;

    /// What the store is to one replica, and whether it answers.
    #[derive(Default)]
    struct Counters {
        counts: HashMap<String, u64>,
        down: bool,
    }

    impl Counters {
        fn add(&mut self, errand: &Errand) -> Result<Vec<u64>, StoreError> {
            if self.down {
                return Err(StoreError::Down("it is turned off".to_owned()));
            }
            let sums = errand.adds.iter().map(|(counter, by)| {
                let count = self.counts.entry(counter.clone()).or_default();
                *count += by;
                *count
            });
            Ok(sums.collect())
        }
    }

    /// A replica that shares, and is looked at every 10 ms of its clock.
    struct World {
        clock: Arc<ManualClock>,
        pacer: Arc<Pacer>,
        counters: Arc<Mutex<Counters>>,
    }

    impl World {
        fn new() -> Self {
            let clock = ManualClock::at(Timestamp::from_seconds(20_000 * 86_400 + 600));
            let pace = Pace { wait: Duration::from_secs(1_000), ..Pace::default() };
            let pacer = Pacer::new(&pace, clock.clone(), Arc::new(Metrics::new()), Handle::current());
            let counters = Arc::<Mutex<Counters>>::default();
            let (sharing, asked) = (pacer.clone(), counters.clone());
            tokio::spawn(async move {
                sharing.share_over(&|errand| std::future::ready(asked.lock().unwrap().add(&errand))).await;
            });
            Self { clock, pacer, counters }
        }

        async fn turn(&self, by: Duration) {
            let end = self.clock.now().plus(by);
            while self.clock.now() < end {
                self.clock.advance(Duration::from_millis(10));
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    #[tokio::test]
    async fn after_an_outage_of_the_store_a_crowd_goes_as_fast_as_the_counters_allow() {
        let world = World::new();
        // By then it has counted itself, and no other replica.
        world.turn(Duration::from_secs(21)).await;
        world.counters.lock().unwrap().down = true;
        world.turn(Duration::from_secs(2)).await;
        world.counters.lock().unwrap().down = false;
        world.turn(Duration::from_secs(2)).await;
        let careful = world.pacer.lock().schedule.is_careful(world.clock.now());
        assert!(careful, "it keeps to its part for a while, and asks for leave for each call");
        let begun = world.clock.now();
        let calls = (0..100).map(|_| {
            let pacer = world.pacer.clone();
            tokio::spawn(async move { drop(pacer.turn(CallerId::Service).await.unwrap()) })
        });
        let calls: Vec<_> = calls.collect();
        while !calls.iter().all(tokio::task::JoinHandle::is_finished) {
            world.turn(Duration::from_millis(100)).await;
            let took = world.clock.now().since(begun);
            // The counters hold ten for two seconds that follow each other.
            let went = calls.iter().filter(|call| call.is_finished()).count();
            assert!(took <= Duration::from_secs(21), "{went} of 100");
        }
    }
}
