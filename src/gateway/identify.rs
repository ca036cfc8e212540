//! The session in a request's cookies, and in an answer's.
//!
//! In: the `Cookie` fields; what became of a session. Out: a live session, or none; `Set-Cookie` lines. Every fault of a
//! cookie is the same "no session"; a store that is down is said so.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, SET_COOKIE};

use super::Shared;
use super::ends::Over;
use super::fault::Fault;
use crate::cookies::RequestCookies;
use crate::session::{Session, User};
use crate::store::{SessionChange, StoreError, StoredSession};
use crate::telemetry::metrics::Opened;

impl Shared {
    /// The first of the request's cookies that opens as a live session.
    pub(super) async fn identify(&self, cookies: &RequestCookies) -> Result<Option<StoredSession>, StoreError> {
        let candidates = self.jar.candidates(cookies);
        let now = self.clock.now();
        for value in &candidates {
            let Some(held) = self.store.open(value).await? else { continue };
            if now < held.session.ends_at(self.session.lifetime) && !self.ends.is_over(&held.session) {
                self.metrics.session_opened(if held.reseal { Opened::Resealed } else { Opened::Live });
                return Ok(Some(held));
            }
        }
        self.metrics.session_opened(if candidates.is_empty() { Opened::None } else { Opened::Unusable });
        Ok(None)
    }

    /// Whether a cookie of this name is ours, and so nobody else's business.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.jar.owns(name) || self.logins.owns(name) || self.tries.owns(name)
    }

    /// The session is over, whatever tokens it has or gets: its upgrades and tickets end, and no late answer brings it back.
    pub(super) fn close(&self, session: &Session) {
        self.tickets.end(&session.id);
        let _ = self.ends.close(&session.id, Over::Whole, self.clock.now());
    }

    /// Upwork has ended the session's tokens, and so the session. False where it was over already.
    pub(super) fn ended_by_upwork(&self, session: &Session) -> bool {
        self.tickets.end(&session.id);
        self.ends.close(&session.id, Over::Until(session.tokens.issued_at), self.clock.now())
    }

    /// The one place that writes the session's cookie. An answer that comes late, when its session is over, writes none: the
    /// browser was told, and may have another session by now.
    pub(super) async fn write_cookies(&self, change: SessionChange, seen: &RequestCookies, headers: &mut HeaderMap) {
        let lines = match change {
            SessionChange::End(held) if self.ended_by_upwork(&held.session) => self.jar.clear(seen),
            SessionChange::Keep | SessionChange::End(_) => return,
            SessionChange::Replace(held) => match self.session_cookies(&held, seen).await {
                Ok(lines) if !self.ends.is_over(&held.session) => lines,
                // Signed out here or elsewhere meanwhile. A cookie that is left opens nothing.
                Ok(_) | Err(Fault::SignInRequired { .. }) => return,
                Err(fault) => {
                    let told = fault.told();
                    tracing::error!(fault = told.name, seen = told.seen, "the session could not be kept");
                    return;
                }
            },
        };
        for line in lines {
            headers.append(SET_COOKIE, line);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }

    pub(super) async fn session_cookies(
        &self,
        held: &StoredSession,
        seen: &RequestCookies,
    ) -> Result<Vec<HeaderValue>, Fault> {
        let ends_at = held.session.ends_at(self.session.lifetime);
        let value = self.store.save(held, ends_at).await.map_err(|error| match error {
            StoreError::Ended => Fault::SignInRequired { sent: false },
            error => Fault::StoreDown(error.to_string()),
        })?;
        self.ends.extend(&held.session, ends_at);
        let age = ends_at.since(self.clock.now());
        self.jar.set(&value, age, seen).map_err(|error| Fault::SessionTooLarge(error.bytes))
    }
}

/// Name, or nid, and id.
pub(super) fn shown_as(user: &User) -> (String, String) {
    (user.name.clone().unwrap_or_else(|| user.nid.clone()), user.id.clone())
}
