//! Who shows what: the session in a request's cookies.
//!
//! In: the `Cookie` fields. Out: a live session, or none; every fault of a cookie is the same "no session". A store that is
//! down is said so.

use http::HeaderMap;

use super::Shared;
use crate::store::{Held, StoreError};
use crate::telemetry::metrics::Opened;

impl Shared {
    /// The first of the request's cookies that opens as a live session.
    pub(super) async fn identify(&self, headers: &HeaderMap) -> Result<Option<Held>, StoreError> {
        let candidates = self.jar.candidates(headers);
        let now = self.clock.now();
        for value in &candidates {
            let Some(held) = self.store.open(value).await? else { continue };
            if now < held.session.ends_at(self.session.lifetime) {
                self.metrics.session_opened(if held.reseal { Opened::Resealed } else { Opened::Live });
                return Ok(Some(held));
            }
        }
        self.metrics.session_opened(if candidates.is_empty() { Opened::None } else { Opened::Unusable });
        Ok(None)
    }

    /// Whether a cookie of this name is ours, and so nobody else's business.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.jar.owns(name) || self.logins.owns(name)
    }
}
