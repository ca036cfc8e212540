//! What is shared through the store: whether it answers, the day's calls to Upwork, and with replicas its second and minute.
//!
//! In: the store's health, the pacer's unreported calls. Out: readiness, and the sum over all replicas. A store that is down
//! loses no call of the count: it is told later.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::Life;
use crate::broker::pacing::Pacer;
use crate::clock::Timestamp;
use crate::store::Store;

const EACH: Duration = Duration::from_secs(1);
const DAY: i64 = 86_400;

/// Until `ended`.
pub(super) async fn watch(store: Store, pacer: Arc<Pacer>, life: Life, ended: CancellationToken) {
    // One process has its file for itself: only a server is other replicas' too.
    if matches!(store, Store::Valkey(_)) {
        let (store, pacer, ended) = (store.clone(), pacer.clone(), ended.clone());
        tokio::spawn(async move { ended.run_until_cancelled(pacer.share(store)).await });
    }
    loop {
        let down = (!store.healthy()).then(|| "the session store cannot be reached".to_owned());
        life.store(down);
        settle(&store, &pacer).await;
        if tokio::time::timeout(EACH, ended.cancelled()).await.is_ok() {
            // The last calls are told too, if the store listens.
            settle(&store, &pacer).await;
            return;
        }
    }
}

async fn settle(store: &Store, pacer: &Pacer) {
    let (day, calls) = pacer.take_unreported().unwrap_or_else(|| (pacer.today(), 0));
    let ends = Timestamp::from_seconds((day + 2) * DAY);
    match store.add_to_counter(&format!("calls-{day}"), calls, ends).await {
        Ok(total) => pacer.set_total(day, total),
        Err(error) => {
            tracing::debug!(%error, "the day's count could not be told to the store");
            pacer.put_back(day, calls);
        }
    }
}
