//! Fresh tokens: one call to the token endpoint however many ask, in a task that outlives them all.
//!
//! In: a held session, and why its token will not do. Out: a successor, or a [`RefreshError`]. Only `Revoked` ends a session.
//! A flight's answer is kept for a while, so that a request with the cookie from before finds the successor (docs/design.md "Refresh races").
//!
//! With a store that keeps records, one replica refreshes at a time: it takes the session's lock, reads the record again,
//! asks Upwork only where nobody else has, and **writes the record before anyone uses the new token**. A store that is gone
//! by then does not lose what Upwork gave: it waits in memory, and is written as soon as the store is back, whether anybody
//! asks or not (`unwritten`). A process that dies between receiving and
//! writing leaves the old refresh token in the record, which Upwork goes on accepting for 24 hours (docs/upwork.md "Token").

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::TOKEN_TIMEOUT;
use super::failures::{Failure, Failures};
use super::token::{TokenError, TokenGrant};
use super::unwritten::{Unwritten, key};
use super::upwork::Upwork;
use crate::clock::SharedClock;
use crate::recent::lock;
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::session::{Session, Tokens};
use crate::store::{LOCK_WAIT, Store, StoreError, StoredSession};
use crate::telemetry::metrics::{self, Metrics};

/// A successor is kept this long for requests that carry the cookie from before.
const GRACE: Duration = Duration::from_secs(30);
/// A failure is kept this long, so that a crowd does not ask one by one.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// A flight that takes longer is given up: the time for the lock, for the token endpoint, and for reading and writing.
const DEADLINE: Duration = Duration::from_secs(LOCK_WAIT.as_secs() + TOKEN_TIMEOUT.as_secs() + 15);
/// Whoever waits for a lock outwaits its holder's question to Upwork, and does not ask too.
const _: () = assert!(LOCK_WAIT.as_secs() >= TOKEN_TIMEOUT.as_secs() + 8);
/// A token that is still good is not kept waiting for its successor longer than this.
const COURTESY: Duration = Duration::from_secs(2);
/// Tries to write what Upwork gave, and the pauses between them.
const WRITE_PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::ZERO];
/// A store that is down is looked at this often, where something waits to be written.
const LOOK: Duration = Duration::from_millis(50);
/// So many are written at once when it is back.
const AT_ONCE: usize = 16;
/// Successors that are followed from one cookie, at the most.
const MOST_STEPS: usize = 8;

/// Why the token at hand will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It may have ended, or will soon.
    Due,
    /// The API answered 401 to it.
    Rejected,
}

/// Why there is no fresh token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// Upwork says the grant is over, or there is nothing to refresh with: the session ends.
    #[error("Upwork has ended this sign-in")]
    Revoked,
    /// Upwork refuses our client: the session stays.
    #[error("{0}")]
    Misconfigured(String),
    /// The store cannot be asked or written: the session stays.
    #[error("{0}")]
    Store(String),
    /// No usable answer: the session stays.
    #[error("{why}")]
    Unavailable {
        /// What was seen.
        why: String,
        /// What Upwork asked us to wait.
        retry_after: Option<Duration>,
    },
}

type Answer = Result<StoredSession, RefreshError>;

/// Whether a flight's answer was there when it was asked for, as for a cookie from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landed {
    Before,
    JustNow,
}

#[derive(Debug)]
struct Flight {
    answer: watch::Receiver<Option<Answer>>,
    until: Instant,
}

/// Where sessions are kept, and for how long.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The store.
    pub store: Store,
    /// `session.lifetime`, after the last refresh.
    pub lifetime: Duration,
}

impl Flight {
    /// Whether it is still kept, and brings something else than `access`. Where Upwork kept the refresh token, the flight
    /// that brought this very token is found under it again, and is of no more use.
    fn serves(&self, access: &AccessToken) -> bool {
        let same = |held: &StoredSession| held.session.tokens.access.expose() == access.expose();
        let spent = matches!(&*self.answer.borrow(), Some(Ok(held)) if same(held));
        !spent && self.until > Instant::now()
    }
}

/// Refreshes sessions.
#[derive(Debug)]
pub struct Refresher {
    upwork: Arc<Upwork>,
    keeping: Keeping,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    control: Handle,
    flights: Mutex<HashMap<[u8; 32], Flight>>,
    unwritten: Unwritten,
    failures: Failures,
}

impl Refresher {
    /// Flights fly on `control`.
    pub fn new(
        upwork: Arc<Upwork>,
        keeping: Keeping,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        control: Handle,
    ) -> Arc<Self> {
        let (flights, unwritten) = (Mutex::default(), Unwritten::default());
        let failures = Failures::default();
        Arc::new(Self { upwork, keeping, clock, metrics, control, flights, unwritten, failures })
    }

    /// The refresh of this session that failed since the last one that worked, as far as this process knows.
    pub fn failure(&self, session: &str) -> Option<Failure> {
        self.failures.of(session)
    }

    /// A session whose token will do: the same one, or a successor. A token that is only near its end still serves while
    /// Upwork cannot be asked, or takes long: the flight goes on, and who asks later finds its answer.
    /// What a flight brings while somebody waits for it is used at least once, however short its life: Upwork is not asked
    /// again for the same call.
    pub async fn fresh(self: &Arc<Self>, held: StoredSession, need: Need) -> Answer {
        let rejected = (need == Need::Rejected).then(|| held.session.tokens.access.clone());
        let mut current = held;
        for _ in 0..MOST_STEPS {
            let tokens = &current.session.tokens;
            let now = self.clock.now();
            let refused = rejected.as_ref().is_some_and(|token| token.expose() == tokens.access.expose());
            let known = tokens.refresh.as_ref().and_then(|token| self.known(token, &current));
            if known.is_none() && !refused && now < tokens.due_at() {
                return Ok(current);
            }
            let alive = !refused && now < tokens.expires_at;
            let Some(refresh) = tokens.refresh.clone() else {
                return if alive { Ok(current) } else { Err(RefreshError::Revoked) };
            };
            match self.join(&refresh, &current, alive.then_some(COURTESY)).await {
                Ok((successor, Landed::JustNow)) => return Ok(successor),
                Ok((successor, Landed::Before)) => current = successor,
                Err(RefreshError::Misconfigured(_) | RefreshError::Store(_) | RefreshError::Unavailable { .. })
                    if alive =>
                {
                    return Ok(current);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(current)
    }

    /// A flight that landed well, with something else than what is at hand, or is still in the air.
    fn known(&self, token: &RefreshToken, held: &StoredSession) -> Option<()> {
        let flights = lock(&self.flights);
        let flight =
            flights.get(&flight_key(token, held)).filter(|flight| flight.serves(&held.session.tokens.access))?;
        (!matches!(*flight.answer.borrow(), Some(Err(_)))).then_some(())
    }

    /// The flight of this token: the one in the air, the one that landed lately, or a new one.
    async fn join(
        self: &Arc<Self>,
        token: &RefreshToken,
        held: &StoredSession,
        patience: Option<Duration>,
    ) -> Result<(StoredSession, Landed), RefreshError> {
        let mut answer = self.flight(flight_key(token, held), held);
        let when = if answer.borrow().is_some() { Landed::Before } else { Landed::JustNow };
        let landing = answer.wait_for(Option::is_some);
        let landed = match patience {
            None => landing.await,
            Some(patience) => match tokio::time::timeout(patience, landing).await {
                Ok(landed) => landed,
                Err(_) => return Err(unavailable("the refresh is still under way")),
            },
        };
        let landed = landed.ok().and_then(|answer| answer.clone());
        let stopping = || Err(unavailable("the refresh was given up, since upwarden is stopping"));
        landed.unwrap_or_else(stopping).map(|held| (held, when))
    }

    fn flight(self: &Arc<Self>, key: [u8; 32], held: &StoredSession) -> watch::Receiver<Option<Answer>> {
        let now = Instant::now();
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key).filter(|flight| flight.serves(&held.session.tokens.access)) {
            return flight.answer.clone();
        }
        flights.retain(|_, flight| flight.until > now);
        let (landing, answer) = watch::channel(None);
        flights.insert(key, Flight { answer: answer.clone(), until: now + DEADLINE + GRACE });
        let (this, held) = (self.clone(), held.clone());
        self.control.spawn(async move {
            let result = match tokio::time::timeout(DEADLINE, this.refresh(&held)).await {
                Ok(result) => result,
                Err(_) => Err(unavailable("the refresh took too long")),
            };
            this.land(&key, &held.session.id, &result);
            landing.send_replace(Some(result));
            if this.unwritten.begin() {
                this.write_what_waits().await;
            }
        });
        answer
    }

    fn land(&self, key: &[u8; 32], session: &str, result: &Answer) {
        let at = self.clock.now();
        match result {
            Ok(_) | Err(RefreshError::Revoked) => self.failures.forget(session),
            // Nothing was asked of Upwork, or it answered well.
            Err(RefreshError::Store(_)) => {}
            Err(RefreshError::Misconfigured(_)) => self.failures.note(session, Failure { at, misconfigured: true }),
            Err(RefreshError::Unavailable { .. }) => self.failures.note(session, Failure { at, misconfigured: false }),
        }
        let kept = match result {
            Ok(_) | Err(RefreshError::Revoked) => GRACE,
            Err(RefreshError::Misconfigured(_) | RefreshError::Store(_) | RefreshError::Unavailable { .. }) => {
                FAILURE_GRACE
            }
        };
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get_mut(key) {
            flight.until = Instant::now() + kept;
        }
    }

    /// Refreshes, alone among all replicas.
    async fn refresh(&self, held: &StoredSession) -> Answer {
        let busy = || unavailable("another replica has been refreshing this session for too long");
        let mut name = held.lock_name();
        // Its tokens may have been moved into a shared grant meanwhile, which has a lock of its own.
        for _ in 0..MOST_STEPS {
            let lock = self.keeping.store.lock(&name).await?.ok_or_else(busy)?;
            let current = self.keeping.store.reload(held).await;
            let moved =
                current.as_ref().ok().and_then(Option::as_ref).map(StoredSession::lock_name).filter(|now| *now != name);
            if let Some(now) = moved {
                lock.release().await;
                name = now;
                continue;
            }
            let answer = match current {
                Ok(Some(current)) => self.refresh_locked(held, current).await,
                Ok(None) => Err(RefreshError::Revoked),
                Err(error) => Err(error.into()),
            };
            lock.release().await;
            return answer;
        }
        Err(busy())
    }

    async fn refresh_locked(&self, held: &StoredSession, current: StoredSession) -> Answer {
        if current.session.tokens.access.expose() != held.session.tokens.access.expose() {
            // Another replica was here first.
            return Ok(current);
        }
        let before = &current.session;
        let Some(token) = &before.tokens.refresh else { return Err(RefreshError::Revoked) };
        let tokens = match self.unwritten.get(&key(token)) {
            Some(tokens) => tokens,
            None => match self.ask(token).await {
                Ok(tokens) => tokens,
                Err(error) => {
                    tracing::warn!(%error, user = before.user.id, "a refresh failed");
                    if matches!(error, TokenError::InvalidGrant(_)) {
                        self.revoked(&current).await;
                    }
                    return Err(error.into());
                }
            },
        };
        let refreshed = Some(self.clock.now());
        let successor = current.with(Session { tokens: tokens.clone(), refreshed, ..Session::clone(before) });
        if self.keeping.store.keeps_records() {
            // From here on this flight may be given up at any moment.
            self.unwritten.put(key(token), &current, tokens);
        }
        self.write(&key(token), &successor).await
    }

    async fn ask(&self, token: &RefreshToken) -> Result<Tokens, TokenError> {
        let outcome = self.upwork.tokens(TokenGrant::Refresh(token)).await;
        self.metrics.refreshed(match &outcome {
            Ok(_) => metrics::Refreshed::Renewed,
            Err(TokenError::InvalidGrant(_)) => metrics::Refreshed::Revoked,
            Err(TokenError::Misconfigured { .. }) => metrics::Refreshed::Misconfigured,
            Err(TokenError::Unavailable { .. }) => metrics::Refreshed::Unavailable,
        });
        outcome
    }

    /// Upwork's word ends the session on every replica at once.
    async fn revoked(&self, held: &StoredSession) {
        let shared = self.keeping.store.end_shared(held).await;
        if let Err(error) = self.keeping.store.end(held).await.and(shared) {
            tracing::warn!(%error, "a session that Upwork ended stays in the store until its own end");
        }
    }

    /// Writes the successor into the store, before anyone sees it.
    async fn write(&self, replaced: &[u8; 32], successor: &StoredSession) -> Answer {
        let ends_at = successor.session.ends_at(self.keeping.lifetime);
        let mut answer = Err(unavailable("the session could not be written"));
        for pause in WRITE_PAUSES {
            answer = self.keeping.store.keep(successor, ends_at).await.map_err(RefreshError::from);
            if !matches!(answer, Err(RefreshError::Store(_))) {
                self.unwritten.remove(replaced);
                break;
            }
            tokio::time::sleep(pause).await;
        }
        answer
    }

    /// Writes what the store did not take, as soon as it does, until nothing is left: another replica would ask Upwork with
    /// the token in the record, and a crash would lose the one that replaced it.
    async fn write_what_waits(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(left) = self.unwritten.left() else { return };
            if !self.keeping.store.healthy() {
                continue;
            }
            let writing = left.into_iter().map(|(replaced, before)| {
                let this = self.clone();
                async move {
                    let written = tokio::time::timeout(DEADLINE, this.refresh(&before)).await;
                    // Anything else is tried again at the next look.
                    if let Ok(Ok(_) | Err(RefreshError::Revoked)) = written {
                        this.unwritten.remove(&replaced);
                    }
                }
            });
            futures_util::stream::iter(writing).buffer_unordered(AT_ONCE).for_each(std::future::ready).await;
        }
    }
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Ended => Self::Revoked,
            StoreError::Down(_) | StoreError::Setup(_) | StoreError::KeepsNothing | StoreError::Sealing(_) => {
                Self::Store(error.to_string())
            }
        }
    }
}

impl From<TokenError> for RefreshError {
    fn from(error: TokenError) -> Self {
        let text = error.to_string();
        match error {
            TokenError::InvalidGrant(_) => Self::Revoked,
            TokenError::Misconfigured { .. } => Self::Misconfigured(text),
            TokenError::Unavailable { retry_after, .. } => Self::Unavailable { why: text, retry_after },
        }
    }
}

fn unavailable(why: &str) -> RefreshError {
    RefreshError::Unavailable { why: why.to_owned(), retry_after: None }
}

/// What a flight is known by: whoever shares a grant with others gets an answer of their own, and never another session.
fn flight_key(token: &RefreshToken, held: &StoredSession) -> [u8; 32] {
    let text = zeroize::Zeroizing::new(format!("{} {}", held.session.id, token.expose()));
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap_or_default()
}
