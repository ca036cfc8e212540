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
        self.begin_sharing();
        loop {
            let again = self.settle(&store).await;
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
        loop {
            let errand = self.lock().schedule.errand(self.clock.now());
            match errand {
                Ok(errand) => {
                    let sums = run(store, &errand).await;
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

async fn run(store: &Store, errand: &Errand) -> Result<Vec<u64>, StoreError> {
    let mut sums = Vec::with_capacity(errand.adds.len());
    for (counter, by) in &errand.adds {
        sums.push(store.add_to_counter(counter, *by, errand.expires_at).await?);
    }
    Ok(sums)
}
