//! Fresh tokens for sessions: one call to the token endpoint however many requests need it, in a task that outlives them.
//!
//! With a store that keeps records, one replica refreshes at a time: it takes the session's lock, reads the record again,
//! asks Upwork only if no other replica has, and **writes the record before anyone uses the new token**. If the store is down
//! by then, the tokens wait in memory (`unsaved`) and are written as soon as it is back, whether or not a request needs
//! them. A process that dies between receiving and writing leaves the old refresh token in the record, which Upwork accepts
//! for another 24 hours (docs/upwork.md "Token").

mod error;
mod single_flight;
mod unsaved;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;

pub use self::error::RefreshError;
use self::single_flight::{Key, Receiver, RefreshResult, SingleFlight};
use self::unsaved::UnsavedTokens;
use super::dependencies::Dependencies;
use super::token::{TokenError, TokenGrant};
use super::upwork;
use crate::clock::Timestamp;
use crate::recent::{Recent, lock};
use crate::session::Session;
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::store::{LOCK_WAIT, StoredSession};

/// The longest that a refresh takes: the time for the lock, for the token endpoint, and for reading and writing.
const DEADLINE: Duration = Duration::from_secs(LOCK_WAIT.as_secs() + upwork::TIMEOUT.as_secs() + 15);
/// Waiting for a lock takes longer than its holder's request to Upwork, so a waiting replica does not ask too.
const _: () = assert!(LOCK_WAIT.as_secs() >= upwork::TIMEOUT.as_secs() + 8);
/// The longest that a request with a valid token waits for its successor.
const VALID_TOKEN_WAIT: Duration = Duration::from_secs(2);
/// The pauses after the attempts to write new tokens.
const WRITE_PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::ZERO];
/// How often the task that writes unsaved tokens checks a store that is down.
const STORE_CHECK: Duration = Duration::from_millis(50);
/// Unsaved tokens that are written at once.
const WRITES_AT_ONCE: usize = 16;
/// Successors that are followed from one cookie.
const MAX_STEPS: usize = 8;
/// Sessions whose failed refresh is remembered.
const MAX_FAILURES: usize = 10_000;
/// A session that was not refreshed for longer is over.
const FAILURE_KEPT: Duration = Duration::from_secs(14 * 86_400);

/// A refresh that brought no token, and left the session as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedRefresh {
    pub(crate) at: Timestamp,
    /// Upwork refused our client; otherwise there was no usable answer.
    pub(crate) misconfigured: bool,
}

/// Refreshes sessions.
#[derive(Debug)]
pub struct Refresher {
    deps: Dependencies,
    /// `session.lifetime`, after the last refresh.
    lifetime: Duration,
    single_flight: SingleFlight,
    unsaved: UnsavedTokens,
    /// By session: the last failure since the last success.
    failures: Mutex<Recent<String, FailedRefresh, Timestamp>>,
}

/// The result of a refresh, as one request got it.
struct Refreshed {
    stored: StoredSession,
    /// The request waited for it; otherwise it was there already, as for the cookie from before.
    waited: bool,
}

impl Refresher {
    /// For sessions that end `lifetime` after their last refresh.
    pub fn new(deps: Dependencies, lifetime: Duration) -> Arc<Self> {
        let (single_flight, unsaved) = (SingleFlight::default(), UnsavedTokens::default());
        let failures = Mutex::new(Recent::new(MAX_FAILURES));
        Arc::new(Self { deps, lifetime, single_flight, unsaved, failures })
    }

    /// The session's refresh that failed since the last that succeeded, as far as this process knows.
    pub(crate) fn failure(&self, session: &str) -> Option<FailedRefresh> {
        lock(&self.failures).get(session, self.deps.clock.now()).copied()
    }

    /// A session with a usable token, which is not the one that the API `rejected`: the same session, or its successor.
    ///
    /// A token that will soon expire is still used while Upwork does not answer or takes long: the refresh continues, and a
    /// later request finds its result. The result that a request waited for is used at least once, however short its
    /// lifetime: Upwork is not asked again for the same call.
    pub async fn fresh(self: &Arc<Self>, stored: StoredSession, rejected: Option<&AccessToken>) -> RefreshResult {
        let mut current = stored;
        for _ in 0..MAX_STEPS {
            let tokens = &current.session.tokens;
            let now = self.deps.clock.now();
            let rejected = rejected.is_some_and(|token| token.same_as(&tokens.access));
            let key = tokens.refresh.as_ref().map(|token| Key::new(token, &current));
            let replaced = key.as_ref().is_some_and(|key| self.single_flight.knows_better(key, &tokens.access));
            if !replaced && !rejected && now < tokens.due_at() {
                return Ok(current);
            }
            let valid = !rejected && now < tokens.expires_at;
            let Some(key) = key else {
                return if valid { Ok(current) } else { Err(RefreshError::Revoked) };
            };
            match self.refreshed(key, &current, valid.then_some(VALID_TOKEN_WAIT)).await {
                Ok(Refreshed { stored, waited: true }) => return Ok(stored),
                Ok(Refreshed { stored, waited: false }) => current = stored,
                Err(RefreshError::Misconfigured(_) | RefreshError::Store(_) | RefreshError::Unavailable(_))
                    if valid =>
                {
                    return Ok(current);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(current)
    }

    /// The result of the refresh that is in progress, has just ended, or now begins; waits at most `patience`.
    async fn refreshed(
        self: &Arc<Self>,
        key: Key,
        stored: &StoredSession,
        patience: Option<Duration>,
    ) -> Result<Refreshed, RefreshError> {
        let (mut receiver, waited) = self.join(key, stored);
        let finished = receiver.wait_for(Option::is_some);
        let finished = match patience {
            None => finished.await,
            Some(patience) => match tokio::time::timeout(patience, finished).await {
                Ok(finished) => finished,
                Err(_) => return Err(RefreshError::unavailable("the refresh is still in progress")),
            },
        };
        let result = finished.ok().and_then(|result| result.clone());
        let stopping = || Err(RefreshError::unavailable("the refresh was given up, since upwarden is stopping"));
        result.unwrap_or_else(stopping).map(|stored| Refreshed { stored, waited })
    }

    /// The result to wait for, and whether it has yet to come.
    fn join(self: &Arc<Self>, key: Key, stored: &StoredSession) -> (Receiver, bool) {
        let (receiver, sender) = self.single_flight.join(&key, &stored.session.tokens.access, DEADLINE);
        // Before the task begins: it may end at once.
        let waited = receiver.borrow().is_none();
        if let Some(sender) = sender {
            let (this, stored) = (self.clone(), stored.clone());
            self.deps.control.spawn(async move {
                let result = tokio::time::timeout(DEADLINE, this.refresh(&stored)).await;
                let result = result.unwrap_or_else(|_| Err(RefreshError::unavailable("the refresh took too long")));
                this.note_outcome(&stored.session.id, &result);
                this.single_flight.publish(&key, &sender, result);
                if this.unsaved.claim_writing() {
                    this.write_unsaved().await;
                }
            });
        }
        (receiver, waited)
    }

    fn note_outcome(&self, session: &str, result: &RefreshResult) {
        let at = self.deps.clock.now();
        let mut failures = lock(&self.failures);
        let misconfigured = match result {
            Ok(_) | Err(RefreshError::Revoked) => {
                failures.remove(session);
                return;
            }
            // Upwork was not asked, or gave new tokens.
            Err(RefreshError::Store(_)) => return,
            Err(RefreshError::Misconfigured(_)) => true,
            Err(RefreshError::Unavailable(_)) => false,
        };
        failures.insert(session.to_owned(), FailedRefresh { at, misconfigured }, at, at.plus(FAILURE_KEPT));
    }

    /// Refreshes under the session's lock, which all replicas share.
    async fn refresh(&self, stored: &StoredSession) -> RefreshResult {
        let busy = || RefreshError::unavailable("another replica has been refreshing this session for too long");
        let mut name = stored.lock_name();
        // The tokens may have moved into a shared grant in the meantime, which has its own lock.
        for _ in 0..MAX_STEPS {
            let lock = self.deps.store.lock(&name).await?.ok_or_else(busy)?;
            let current = self.deps.store.reload(stored).await;
            let moved = current.as_ref().ok().and_then(Option::as_ref).map(StoredSession::lock_name);
            if let Some(moved) = moved.filter(|moved| *moved != name) {
                lock.release().await;
                name = moved;
                continue;
            }
            let result = match current {
                Ok(Some(current)) => self.refresh_locked(stored, current).await,
                Ok(None) => Err(RefreshError::Revoked),
                Err(error) => Err(error.into()),
            };
            lock.release().await;
            return result;
        }
        Err(busy())
    }

    async fn refresh_locked(&self, stored: &StoredSession, current: StoredSession) -> RefreshResult {
        if !current.session.tokens.access.same_as(&stored.session.tokens.access) {
            // Another replica has refreshed it.
            return Ok(current);
        }
        let before = &current.session;
        let Some(token) = &before.tokens.refresh else { return Err(RefreshError::Revoked) };
        let tokens = match self.unsaved.get(token) {
            Some(tokens) => tokens,
            None => match self.deps.refresh(self.deps.upwork.client(), TokenGrant::Refresh(token)).await {
                Ok(tokens) => tokens,
                Err(error) => {
                    tracing::warn!(%error, user = before.user.id, "a refresh failed");
                    if matches!(error, TokenError::InvalidGrant(_)) {
                        self.end_everywhere(&current).await;
                    }
                    return Err(error.into());
                }
            },
        };
        let refreshed = Some(self.deps.clock.now());
        let successor = current.with(Session { tokens: tokens.clone(), refreshed, ..Session::clone(before) });
        if self.deps.store.keeps_records() {
            // From here on the task may be cancelled at any moment.
            self.unsaved.insert(token, &current, tokens);
        }
        self.write(token, &successor).await
    }

    /// Ends a session that Upwork ended, on all replicas at once.
    async fn end_everywhere(&self, stored: &StoredSession) {
        let shared = self.deps.store.end_shared(stored).await;
        if let Err(error) = self.deps.store.end(stored).await.and(shared) {
            tracing::warn!(%error, "a session that Upwork ended stays in the store until its own end");
        }
    }

    /// Writes the successor into the store, before anyone uses it.
    async fn write(&self, replaced: &RefreshToken, successor: &StoredSession) -> RefreshResult {
        let ends_at = successor.session.ends_at(self.lifetime);
        let mut result = Err(RefreshError::unavailable("the session could not be written"));
        for pause in WRITE_PAUSES {
            result = self.deps.store.save_record(successor, ends_at).await.map_err(RefreshError::from);
            if !matches!(result, Err(RefreshError::Store(_))) {
                self.unsaved.remove(&replaced.digest());
                break;
            }
            tokio::time::sleep(pause).await;
        }
        result
    }

    /// Writes the unsaved tokens as soon as the store accepts them, until none are left: another replica would ask Upwork
    /// with the refresh token in the record, and a crash would lose its successor.
    async fn write_unsaved(self: Arc<Self>) {
        loop {
            tokio::time::sleep(STORE_CHECK).await;
            let Some(pending) = self.unsaved.pending() else { return };
            if !self.deps.store.healthy() {
                continue;
            }
            let writes = pending.into_iter().map(|(replaced, before)| {
                let this = self.clone();
                async move {
                    let written = tokio::time::timeout(DEADLINE, this.refresh(&before)).await;
                    // Anything else is tried again.
                    if let Ok(Ok(_) | Err(RefreshError::Revoked)) = written {
                        this.unsaved.remove(&replaced);
                    }
                }
            });
            futures_util::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).for_each(std::future::ready).await;
        }
    }
}
