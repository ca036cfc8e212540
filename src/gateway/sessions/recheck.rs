//! Refreshes a session that was not checked with Upwork for `session.recheck`, before the app or the API is reached.
//! Only Upwork's answer ends a session; an outage does not (docs/sessions.md "Lifetime").

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::change::SessionChange;
use crate::clock::Timestamp;
use crate::oauth::refresh::{RefreshError, Refresher};
use crate::recent::{Recent, lock};
use crate::session::Session;
use crate::store::StoredSession;

/// How long a request waits for a fresh token, which the app needs only for its ticket.
const WAIT: Duration = Duration::from_secs(2);
/// A session that waited without success does not wait again for this long.
const BACKOFF: Duration = Duration::from_secs(30);
/// Sessions remembered that waited without success.
const MAX_SESSIONS: usize = 20_000;

#[derive(Debug)]
pub(super) struct Recheck {
    pub(super) refresher: Arc<Refresher>,
    after: Duration,
    /// Sessions that waited without success: an outage of Upwork must not slow down every request.
    waited: Mutex<Recent<String, (), Timestamp>>,
}

impl Recheck {
    pub(super) fn new(refresher: Arc<Refresher>, after: Duration) -> Self {
        Self { refresher, after, waited: Mutex::new(Recent::new(MAX_SESSIONS)) }
    }

    /// Whether a request has to wait for a refresh.
    pub(super) fn is_due(&self, session: &Session, now: Timestamp) -> bool {
        session.needs_recheck(now, self.after)
    }

    /// The session whose user the app sees. `needs_token`: its ticket contains the access token itself, which must not
    /// expire soon. A request waits for Upwork only briefly, and not at all if the path is public (`open`) or this
    /// session has just waited without success. The refresh continues, and a later request finds its outcome.
    pub(super) async fn run(
        &self,
        stored: StoredSession,
        needs_token: bool,
        now: Timestamp,
        open: impl Fn() -> bool,
    ) -> (Option<StoredSession>, SessionChange) {
        let change = if stored.reseal { SessionChange::Renew(stored.clone()) } else { SessionChange::Keep };
        let session = &stored.session;
        let due = self.is_due(session, now);
        let token_due = needs_token && session.tokens.refresh.is_some() && now >= session.tokens.due_at();
        if !due && !token_due {
            return (Some(stored), change);
        }
        let open = open();
        let waits = !open && lock(&self.waited).get(&session.id, now).is_none();
        let patience = if waits { WAIT } else { Duration::ZERO };
        // Boxed like the other less common paths, so that it does not enlarge every request's future.
        let fresh = Box::pin(self.refresher.fresh(stored.clone(), None));
        match tokio::time::timeout(patience, fresh).await.ok() {
            Some(Ok(fresh)) if !Arc::ptr_eq(&fresh.session, session) => {
                return (Some(fresh.clone()), SessionChange::Renew(fresh));
            }
            Some(Err(RefreshError::Revoked)) => return (None, SessionChange::End(stored)),
            // It is not known yet whether the session is still valid, and a public path needs none.
            None if open && due => return (None, SessionChange::Keep),
            None
            | Some(
                Ok(_) | Err(RefreshError::Misconfigured(_) | RefreshError::Store(_) | RefreshError::Unavailable(_)),
            ) => {}
        }
        if waits {
            lock(&self.waited).insert(session.id.clone(), (), now, now.plus(BACKOFF));
        }
        (Some(stored), change)
    }
}
