//! Keeps the grants of personal access tokens alive while their owners do not call.
//!
//! Refreshes each grant that was not refreshed for days: Upwork's refresh tokens expire two weeks after their last use, and
//! a personal access token may be valid for a year. It never revives a grant that Upwork has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::oauth::refresh::Refresher;
use crate::store::{Store, StoreError};

const CHECK_INTERVAL: Duration = Duration::from_secs(3600);
/// A grant is refreshed this long after its last refresh, which leaves more than a week for an outage.
const IDLE: Duration = Duration::from_secs(5 * 86_400);

/// Runs until `ended`.
pub(super) async fn watch(store: Store, refresher: Arc<Refresher>, clock: SharedClock, ended: CancellationToken) {
    let refreshing = async {
        loop {
            // Read first, so that a clock change during the check does not delay the next one.
            let next = clock.now().plus(CHECK_INTERVAL);
            if let Err(error) = refresh_idle(&store, &refresher, &clock).await {
                tracing::debug!(%error, "the grants of personal access tokens could not be checked");
            }
            clock.sleep_until(next).await;
        }
    };
    ended.run_until_cancelled(refreshing).await;
}

async fn refresh_idle(store: &Store, refresher: &Arc<Refresher>, clock: &SharedClock) -> Result<(), StoreError> {
    for user in store.token_owners().await? {
        let Some(stored) = store.open_shared(&user).await? else { continue };
        if clock.now() >= stored.session.tokens.issued_at.plus(IDLE) {
            // The next check tries again; until then a call reports why.
            let _ = refresher.keep_fresh(stored).await;
        }
    }
    Ok(())
}
