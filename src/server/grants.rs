//! Keeps the grants alive that personal access tokens use, whether their owners call or not.
//!
//! In: the store's tokens, the clock. Out: a refresh for each grant that was not used for days: Upwork forgets a refresh
//! token that nobody used for two weeks, and a token may be made for a year. What Upwork ended stays ended.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::oauth::refresh::Refresher;
use crate::store::{Store, StoreError};

/// How often is looked.
const EACH: Duration = Duration::from_secs(3600);
/// A grant that was not refreshed for so long is; more than a week is left for an outage.
const IDLE: Duration = Duration::from_secs(5 * 86_400);

/// Until `ended`.
pub(super) async fn watch(store: Store, refresher: Arc<Refresher>, clock: SharedClock, ended: CancellationToken) {
    let keeping = async {
        loop {
            // From the beginning of a look, so that a clock that leaps meanwhile puts none off.
            let next = clock.now().plus(EACH);
            if let Err(error) = keep(&store, &refresher, &clock).await {
                tracing::debug!(%error, "the grants of personal access tokens could not be looked at");
            }
            clock.sleep_until(next).await;
        }
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = keeping => {}
    }
}

async fn keep(store: &Store, refresher: &Arc<Refresher>, clock: &SharedClock) -> Result<(), StoreError> {
    for user in store.token_owners().await? {
        let Some(held) = store.open_shared(&user).await? else { continue };
        if clock.now() >= held.session.tokens.issued_at.plus(IDLE) {
            // Tried again at the next look; whoever calls meanwhile is told what is the matter.
            let _ = refresher.fresh(held, None).await;
        }
    }
    Ok(())
}
