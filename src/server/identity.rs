//! Keeps the service identity alive, whether anybody calls or not.
//!
//! In: the identity, the clock. Out: renewals in time; what is the matter, for the body of `/readyz`, whose status it leaves
//! alone: the app can be reached without a service identity.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::admin::Life;
use crate::clock::SharedClock;
use crate::oauth::service::Service;

/// Until `ended`.
pub(super) async fn watch(service: Arc<Service>, clock: SharedClock, life: Life, ended: CancellationToken) {
    let mut trouble = service.trouble();
    let telling = async {
        loop {
            let why = trouble.borrow_and_update().clone();
            life.note(why.map(|why| format!("service identity: dead: {why}")).into_iter().collect());
            if trouble.changed().await.is_err() {
                return;
            }
        }
    };
    let tending = async {
        while let Some(next) = service.tend().await {
            clock.sleep_until(next).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = telling => {}
        () = tending => {}
    }
}
