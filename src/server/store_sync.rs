//! Keeps readiness and the count of calls to Upwork in sync with the store.
//!
//! With an embedded file, the day's count survives a restart; with a server, all replicas share Upwork's limits. During
//! an outage of the store no call is lost from the count: it is reported later.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::clock::Timestamp;
use crate::pacing::Pacer;
use crate::store::Store;

const INTERVAL: Duration = Duration::from_secs(1);
const DAY: i64 = 86_400;

/// Runs until `ended`.
pub(super) async fn watch(store: Store, pacer: Arc<Pacer>, readiness: Readiness, ended: CancellationToken) {
    if store.has_server() {
        let (store, pacer) = (store.clone(), pacer.clone());
        let sharing = async move {
            let ask = |request| {
                let store = store.clone();
                async move { store.limit_rate(&request).await }
            };
            pacer.share(ask).await;
        };
        tokio::spawn(ended.clone().run_until_cancelled_owned(sharing));
    }
    let alone = store.keeps_records() && !store.has_server();
    loop {
        readiness.set_store_error((!store.healthy()).then_some("the session store cannot be reached"));
        if alone {
            save_count(&store, &pacer).await;
        }
        if tokio::time::timeout(INTERVAL, ended.cancelled()).await.is_ok() {
            if alone {
                // With the last calls.
                save_count(&store, &pacer).await;
            }
            return;
        }
    }
}

async fn save_count(store: &Store, pacer: &Pacer) {
    let (day, calls) = pacer.take_unreported().unwrap_or_else(|| (pacer.today(), 0));
    let ends = Timestamp::from_seconds((day + 2) * DAY);
    match store.add_to_counter(&format!("calls-{day}"), calls, ends).await {
        Ok(total) => pacer.set_total(day, total),
        Err(error) => {
            tracing::debug!(%error, "the day's count could not be saved");
            pacer.put_back(day, calls);
        }
    }
}
