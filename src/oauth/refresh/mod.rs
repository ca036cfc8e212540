//! Refreshes the tokens of sessions: one call to the token endpoint however many requests need it, in a task that
//! outlives them.
//!
//! With a store that keeps records, one replica refreshes at a time: it takes the session's lock, reads the record
//! again, asks Upwork only if no other replica has, and **writes the record before anyone uses the new token**. Every
//! `session.recheck` it also asks whose the fresh token is, and updates user and organization. If the store is down by
//! then, the tokens wait in memory (`unsaved`) and are written as soon as it is back, whether or not a request needs
//! them. A process that dies between receiving and writing leaves the old refresh token in the record, which Upwork
//! accepts for another 24 hours (docs/upwork.md "Token").

mod error;
mod single_flight;
mod unsaved;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;

pub use self::error::RefreshError;
use self::single_flight::{Key, Receiver, RefreshResult, SingleFlight, is_newer};
use self::unsaved::UnsavedTokens;
use super::dependencies::Dependencies;
use super::token::{TokenError, TokenGrant};
use super::upwork::{self, UserInfo};
use crate::clock::Timestamp;
use crate::pacing::CallerId;
use crate::recent::{Recent, lock};
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::session::{Lifetime, Organization, Session, User};
use crate::store::{LOCK_WAIT, StoredSession};
use crate::telemetry::metrics::Observed;
use crate::telemetry::trace;

/// The longest that a refresh takes: the time for the lock, for the token endpoint, and for reading and writing.
const DEADLINE: Duration = Duration::from_secs(LOCK_WAIT.as_secs() + upwork::LONGEST.as_secs() + 15);
/// Waiting for a lock takes longer than its holder's request to Upwork, so a waiting replica does not ask too.
const _: () = assert!(LOCK_WAIT.as_secs() >= upwork::LONGEST.as_secs() + CHECK_WAIT.as_secs() + 5);
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
/// A session that was not refreshed for longer has ended.
const FAILURE_KEPT: Duration = Duration::from_secs(14 * 86_400);

/// The longest that a refresh waits for Upwork's answer about the token's user.
const CHECK_WAIT: Duration = Duration::from_secs(5);
/// The minimum pause after a check without an answer.
const CHECK_PAUSE: Duration = Duration::from_secs(60);

/// A refresh that returned no token and left the session unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedRefresh {
    pub(crate) at: Timestamp,
    /// Upwork refused our client; otherwise there was no usable answer.
    pub(crate) misconfigured: bool,
}

#[derive(Debug)]
pub struct Refresher {
    deps: Dependencies,
    lifetime: Lifetime,
    /// `session.recheck`
    recheck: Duration,
    single_flight: SingleFlight,
    unsaved: UnsavedTokens,
    /// By session: the last failure since the last success.
    failures: Mutex<Recent<String, FailedRefresh, Timestamp>>,
    /// Sessions whose user could not be checked recently.
    unchecked: Mutex<Recent<String, (), Timestamp>>,
}

/// The result of a refresh, as one request got it.
struct JoinedRefresh {
    stored: StoredSession,
    /// Whether the request waited for it; otherwise it existed already, for example for a request with an older cookie.
    waited: bool,
}

impl Refresher {
    /// `lifetime`: of sessions; `recheck`: how often a session's user is checked.
    pub fn new(deps: Dependencies, lifetime: Lifetime, recheck: Duration) -> Arc<Self> {
        let (single_flight, unsaved) = (SingleFlight::default(), UnsavedTokens::default());
        let (failures, unchecked) = (Mutex::new(Recent::new(MAX_FAILURES)), Mutex::new(Recent::new(MAX_FAILURES)));
        let metrics = deps.metrics.clone();
        let refresher = Arc::new(Self { deps, lifetime, recheck, single_flight, unsaved, failures, unchecked });
        let observed = Arc::downgrade(&refresher);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; there are far fewer than 2^53 refreshes")]
        let in_flight = move || observed.upgrade().map(|refresher| refresher.single_flight.in_flight() as f64);
        metrics.observe(Observed::RefreshesInFlight, in_flight);
        refresher
    }

    /// The session's last failed refresh since one succeeded, as far as this process knows.
    pub(crate) fn failure(&self, session: &str) -> Option<FailedRefresh> {
        lock(&self.failures).get(session, self.deps.clock.now()).copied()
    }

    /// A session with a usable token, which is not the one that the API `rejected`: the same session, or its successor.
    ///
    /// A token that will soon expire is still used while Upwork does not answer or takes long: the refresh continues,
    /// and a later request finds its result. The result that a request waited for is used at least once, however short
    /// its lifetime: Upwork does not get the same call twice.
    pub async fn fresh(self: &Arc<Self>, stored: StoredSession, rejected: Option<&AccessToken>) -> RefreshResult {
        self.fresh_for(&CallerId::Refresh, stored, rejected).await
    }

    /// Like [`Self::fresh`], for a session that no request waits for.
    pub(crate) async fn keep_fresh(self: &Arc<Self>, stored: StoredSession) -> RefreshResult {
        self.fresh_for(&CallerId::Renewal, stored, None).await
    }

    async fn fresh_for(
        self: &Arc<Self>,
        caller: &CallerId,
        stored: StoredSession,
        rejected: Option<&AccessToken>,
    ) -> RefreshResult {
        let mut current = stored;
        for _ in 0..MAX_STEPS {
            let tokens = &current.session.tokens;
            let now = self.deps.clock.now();
            let rejected = rejected.is_some_and(|token| token.same_as(&tokens.access));
            // Awaited below as it is now: it may end meanwhile, and this session needs no other.
            let successor = self.single_flight.successor(&current.session);
            let check = self.needs_check(&current.session, now);
            if successor.is_none() && !rejected && !check && now < tokens.due_at() {
                return Ok(current);
            }
            let valid = !rejected && now < tokens.expires_at;
            if tokens.refresh.is_none() && !(valid && (successor.is_some() || check)) {
                return if valid { Ok(current) } else { Err(RefreshError::Revoked) };
            }
            match self.refreshed(caller, &current, successor, valid.then_some(VALID_TOKEN_WAIT)).await {
                Ok(JoinedRefresh { stored, waited: true }) => return Ok(stored),
                Ok(JoinedRefresh { stored, waited: false }) => current = stored,
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

    fn needs_check(&self, session: &Session, now: Timestamp) -> bool {
        session.needs_recheck(now, self.recheck) && lock(&self.unchecked).get(&session.id, now).is_none()
    }

    /// The result of the refresh that is in progress (`known`), has just ended, or now begins; waits at most `patience`.
    async fn refreshed(
        self: &Arc<Self>,
        caller: &CallerId,
        stored: &StoredSession,
        known: Option<Receiver>,
        patience: Option<Duration>,
    ) -> Result<JoinedRefresh, RefreshError> {
        let (mut receiver, waited) = known.map_or_else(|| self.join(caller, stored), awaited);
        let finished = receiver.wait_for(Option::is_some);
        let finished = match patience {
            None => finished.await,
            Some(patience) => match tokio::time::timeout(patience, finished).await {
                Ok(finished) => finished,
                Err(_) => return Err(RefreshError::unavailable("the refresh is still in progress")),
            },
        };
        let result = finished.ok().and_then(|result| result.clone());
        let stopping = || Err(RefreshError::unavailable("the refresh was cancelled, since upwarden is stopping"));
        result.unwrap_or_else(stopping).map(|stored| JoinedRefresh { stored, waited })
    }

    /// The result to wait for, and whether it has yet to come.
    fn join(self: &Arc<Self>, caller: &CallerId, stored: &StoredSession) -> (Receiver, bool) {
        let key = Key::new(&stored.session);
        let (receiver, sender) = self.single_flight.join(&key, &stored.session, DEADLINE);
        // Before the task begins: it may end at once.
        let result = awaited(receiver);
        if let Some(sender) = sender {
            let (this, stored, caller) = (self.clone(), stored.clone(), caller.clone());
            self.deps.control.spawn(trace::carry(async move {
                let result = tokio::time::timeout(DEADLINE, this.refresh(&caller, &stored)).await;
                let result = result.unwrap_or_else(|_| Err(RefreshError::unavailable("the refresh took too long")));
                this.note_outcome(&stored.session.id, &result);
                this.single_flight.publish(&key, &sender, result);
                if this.unsaved.claim_writing() {
                    this.write_unsaved().await;
                }
            }));
        }
        result
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
        self.put_off_check(session, at);
        failures.insert(session.to_owned(), FailedRefresh { at, misconfigured }, at, at.plus(FAILURE_KEPT));
    }

    fn put_off_check(&self, session: &str, now: Timestamp) {
        lock(&self.unchecked).insert(session.to_owned(), (), now, now.plus(CHECK_PAUSE));
    }

    /// Refreshes under the session's lock, which all replicas share.
    async fn refresh(&self, caller: &CallerId, stored: &StoredSession) -> RefreshResult {
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
                Ok(Some(current)) => self.refresh_locked(caller, stored, current).await,
                Ok(None) => Err(RefreshError::Revoked),
                Err(error) => Err(error.into()),
            };
            lock.release().await;
            return result;
        }
        Err(busy())
    }

    async fn refresh_locked(&self, caller: &CallerId, stored: &StoredSession, current: StoredSession) -> RefreshResult {
        if is_newer(&current.session, &stored.session) {
            // Another replica has refreshed it.
            return Ok(current);
        }
        let successor = match current.session.tokens.refresh.clone() {
            Some(token) => self.renew(caller, &token, &current).await?,
            None => current,
        };
        self.check(caller, successor).await
    }

    /// The session with new tokens, written.
    async fn renew(&self, caller: &CallerId, token: &RefreshToken, current: &StoredSession) -> RefreshResult {
        let before = &current.session;
        let tokens = if let Some(tokens) = self.unsaved.get(token) {
            tokens
        } else {
            let (secret, grant) = (self.deps.upwork.secret(), TokenGrant::Refresh(token));
            match self.deps.refresh(self.deps.upwork.client(&secret), grant, caller.clone()).await {
                Ok(tokens) => tokens,
                Err(error) => {
                    tracing::warn!(%error, user = before.user.id, "a refresh failed");
                    if matches!(error, TokenError::InvalidGrant(_)) {
                        self.end_everywhere(current).await;
                    }
                    return Err(error.into());
                }
            }
        };
        let refreshed = Some(self.deps.clock.now());
        let successor = current.with(Session { tokens: tokens.clone(), refreshed, ..Session::clone(before) });
        if self.deps.store.keeps_records() {
            // From here on the task may be cancelled at any moment.
            self.unsaved.insert(token, current, tokens);
        }
        self.write(Some(token), &successor).await
    }

    /// The session with its current user according to Upwork, if a check is due. Without an answer it stays unchanged.
    async fn check(&self, caller: &CallerId, stored: StoredSession) -> RefreshResult {
        let (session, now) = (&stored.session, self.deps.clock.now());
        if !self.needs_check(session, now) {
            return Ok(stored);
        }
        let identity = self.deps.upwork.identity(&session.tokens.access, caller.clone());
        let asked = tokio::time::timeout(CHECK_WAIT, identity).await;
        let UserInfo { user, organization } = match asked {
            Ok(Ok(info)) => info,
            Ok(Err(error)) => {
                tracing::warn!(%error, user = session.user.id, "Upwork does not say whose session it is");
                self.put_off_check(&session.id, now);
                return Ok(stored);
            }
            Err(_) => {
                self.put_off_check(&session.id, now);
                return Ok(stored);
            }
        };
        if user.id != session.user.id {
            tracing::warn!(user = session.user.id, now = user.id, "the session's token is another user's, so it ends");
            self.end_everywhere(&stored).await;
            return Err(RefreshError::Revoked);
        }
        // Names were fetched at the sign-in, and stay with the same ids.
        let same = |before: &Organization| organization.as_ref().is_some_and(|after| after.id == before.id);
        let known = session.organization.clone().filter(same);
        let user = User { name: session.user.name.clone(), ..user };
        let organization = known.or(organization);
        let checked = stored.with(Session { user, organization, checked: Some(now), ..Session::clone(session) });
        match self.write(None, &checked).await {
            // The tokens are written, and the user is checked again later.
            Err(RefreshError::Store(_)) => Ok(stored),
            result @ (Ok(_)
            | Err(RefreshError::Revoked | RefreshError::Misconfigured(_) | RefreshError::Unavailable(_))) => result,
        }
    }

    /// Ends a session that Upwork ended, on all replicas at once.
    async fn end_everywhere(&self, stored: &StoredSession) {
        let shared = self.deps.store.end_shared(stored).await;
        if let Err(error) = self.deps.store.end(stored).await.and(shared) {
            tracing::warn!(%error, "a session that Upwork ended stays in the store until its own end");
        }
    }

    /// Writes the successor into the store, before it is used. `replaced`: its tokens are new.
    async fn write(&self, replaced: Option<&RefreshToken>, successor: &StoredSession) -> RefreshResult {
        let ends_at = successor.session.ends_at(self.lifetime);
        let mut result = Err(RefreshError::unavailable("the session could not be written"));
        for pause in WRITE_PAUSES {
            result = self.deps.store.save_record(successor, ends_at).await.map_err(RefreshError::from);
            if !matches!(result, Err(RefreshError::Store(_))) {
                if let Some(replaced) = replaced {
                    self.unsaved.remove(&replaced.digest());
                }
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
                    let written = tokio::time::timeout(DEADLINE, this.refresh(&CallerId::Renewal, &before)).await;
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

/// A result, and whether it has yet to come.
fn awaited(receiver: Receiver) -> (Receiver, bool) {
    let waits = receiver.borrow().is_none();
    (receiver, waits)
}
