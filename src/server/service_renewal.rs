//! Keeps the service identity alive while there are no calls, and shows its problem in the body of `/readyz`.
//!
//! The status of `/readyz` does not depend on it, because the app works without a service identity.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::clock::SharedClock;
use crate::oauth::service::ServiceIdentity;

/// Runs until `ended`.
pub(super) async fn watch(
    service: Arc<ServiceIdentity>,
    clock: SharedClock,
    readiness: Readiness,
    ended: CancellationToken,
) {
    let mut problem = service.problem();
    let report = async {
        loop {
            let text = problem.borrow_and_update().clone();
            readiness.set_note(text.map(|text| format!("service identity: dead: {text}")));
            if problem.changed().await.is_err() {
                return;
            }
        }
    };
    let renew = async {
        while let Some(next) = service.renew_if_due().await {
            clock.sleep_until(next).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = report => {}
        () = renew => {}
    }
}
