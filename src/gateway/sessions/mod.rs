//! Opens sessions from a request's cookies, rechecks them before the app is reached, writes them back, and ends them
//! with everything that depends on them.
//!
//! [`Sessions::commit`] is the only code that writes `Set-Cookie`. Any fault in a cookie means "no session"; an outage
//! of the store is reported as such, never as "no session".

mod change;
mod ended;
mod grants;
mod held_body;
mod recheck;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use crate::body::Body;
use crate::clock::{SharedClock, Timestamp};
use crate::cookies::{Jar, RequestCookies, TooLarge};
use crate::fields::Fields;
use crate::oauth::refresh::{FailedRefresh, Refresher};
use crate::policy::{self, Access, Credential, Decision, Facts};
use crate::session::{self, Lifetime, Session};
use crate::store::{Store, StoreError, StoredSession};
use crate::telemetry::metrics::{CookieOutcome, Metrics};
pub(super) use change::SessionChange;
use ended::{EndedSessions, Extent};
pub(super) use grants::GrantUse;
use recheck::Recheck;
use watch::Watches;

/// What every part of the gateway needs: the clock and the metrics.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Arc<Metrics>,
}

impl Context {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

#[derive(Debug)]
pub(crate) struct Sessions {
    pub(super) store: Store,
    pub(super) cookie: Jar,
    bounds: Bounds,
    /// Access rules, which a reload replaces.
    pub(super) rules: Arc<ArcSwap<Access>>,
    ends: Ends,
    recheck: Recheck,
    pub(super) context: Context,
}

/// How long a session lives, and how many a user has in a store.
#[derive(Debug)]
struct Bounds {
    lifetime: Lifetime,
    per_user: usize,
}

/// Cuts a long answer off when `end` is cancelled.
pub(super) fn hold_until(body: Body, end: impl FnOnce() -> Arc<CancellationToken>) -> Body {
    if held_body::is_long(&body) { held_body::until(end(), body) } else { body }
}

/// Sessions that ended here, and sessions with something open.
#[derive(Debug)]
struct Ends {
    ended: EndedSessions,
    watches: Watches,
}

/// How often a session with something open is checked.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_secs(15);

impl Sessions {
    pub(crate) fn new(
        config: &session::Config,
        store: Store,
        rules: Arc<ArcSwap<Access>>,
        refresher: Arc<Refresher>,
        context: Context,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            cookie: Jar::new(&config.cookie, config.secure),
            bounds: Bounds { lifetime: config.lifetime, per_user: config.per_user },
            rules,
            ends: Ends { ended: EndedSessions::new(), watches: Watches::default() },
            recheck: Recheck::new(refresher, config.recheck),
            context,
        })
    }

    /// The newest live session that the request's cookies open. `None` if they belong to two users: a sibling domain
    /// may have planted one, and it is impossible to tell which.
    pub(super) async fn open(&self, cookies: &RequestCookies) -> Result<Option<StoredSession>, StoreError> {
        let candidates = self.cookie.candidates(cookies);
        let none_shown = candidates.is_empty();
        let mut found: Option<StoredSession> = None;
        for value in self.store.ring().load().plausible(candidates) {
            let Some(stored) = self.store.open(&value).await? else { continue };
            if !self.is_live(&stored.session) {
                continue;
            }
            match &found {
                Some(first) if first.session.user.id != stored.session.user.id => {
                    tracing::warn!("a request shows live sessions of two users, so it has none");
                    self.context.metrics.session_opened(CookieOutcome::Unusable);
                    return Ok(None);
                }
                // A cookie from before a refresh leads to the same session.
                Some(first) if first.session.tokens.issued_at >= stored.session.tokens.issued_at => {}
                Some(_) | None => found = Some(stored),
            }
        }
        self.context.metrics.session_opened(match &found {
            Some(stored) if stored.reseal => CookieOutcome::Resealed,
            Some(_) => CookieOutcome::Live,
            None if none_shown => CookieOutcome::None,
            None => CookieOutcome::Unusable,
        });
        Ok(found)
    }

    /// Whether it has neither expired nor ended here.
    pub(super) fn is_live(&self, session: &Session) -> bool {
        let now = self.context.now();
        now < self.expires_at(session) && !self.ends.ended.has_ended(session, now)
    }

    pub(super) fn expires_at(&self, session: &Session) -> Timestamp {
        session.ends_at(self.bounds.lifetime)
    }

    pub(super) fn decide(&self, facts: Facts<'_>, credential: Credential<'_>) -> Decision {
        policy::decide(facts, credential, &self.rules.load())
    }

    /// Whether the access rules, which may have changed, still admit this session.
    pub(super) fn is_admitted(&self, session: &Session) -> bool {
        let rules = self.rules.load();
        let organization = session.organization.as_ref().map(|organization| organization.id.as_str());
        rules.admits(&session.user.id, organization) && !rules.ended(&session.user.id, session.began_at)
    }

    /// The last refresh that failed since one succeeded.
    pub(super) fn refresh_failure(&self, session: &Session) -> Option<FailedRefresh> {
        self.recheck.refresher.failure(&session.id).filter(|failed| Some(failed.at) >= session.refreshed)
    }

    /// Stores a new session, and returns the `Set-Cookie` values that give it to the browser.
    pub(super) async fn begin(&self, stored: &StoredSession, seen: &RequestCookies) -> Result<Vec<HeaderValue>, Fault> {
        let value = self.save(stored).await?;
        // If the store fails now, there is one session too many, but this one is good.
        let _ = self.store.end_surplus(&stored.session.user.id, self.bounds.per_user).await;
        Ok(self.set_cookie(stored, &value, seen)?)
    }

    async fn save(&self, stored: &StoredSession) -> Result<String, StoreError> {
        let ends_at = self.expires_at(&stored.session);
        let value = self.store.save(stored, ends_at).await?;
        self.ends.watches.extend(&stored.session, ends_at);
        Ok(value)
    }

    fn set_cookie(
        &self,
        stored: &StoredSession,
        value: &str,
        seen: &RequestCookies,
    ) -> Result<Vec<HeaderValue>, TooLarge> {
        let age = self.expires_at(&stored.session).since(self.context.now());
        self.cookie.set(value, age, seen)
    }

    /// Writes our cookies into an answer: the session's by `change`, and a sign-in's as `others`. If the session has
    /// ended meanwhile, its cookie is not written, because the browser may have a new session.
    pub(super) async fn commit(
        &self,
        change: SessionChange,
        others: Vec<HeaderValue>,
        seen: &RequestCookies,
        headers: &mut Fields,
    ) {
        let mut lines = match change {
            SessionChange::Begin(lines) => lines,
            SessionChange::Renew(stored) => Box::pin(self.renewed(&stored, seen)).await,
            SessionChange::End(stored) if self.end_by_upwork(&stored.session) => self.cookie.clear(seen),
            SessionChange::Keep | SessionChange::End(_) => Vec::new(),
            SessionChange::SignOut => self.cookie.clear(seen),
        };
        lines.extend(others);
        if lines.is_empty() {
            return;
        }
        headers.extend(lines.into_iter().map(|line| (SET_COOKIE, line)));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }

    async fn renewed(&self, stored: &StoredSession, seen: &RequestCookies) -> Vec<HeaderValue> {
        let lines = match self.save(stored).await {
            Ok(value) => self.set_cookie(stored, &value, seen).map_err(Fault::from),
            // Signed out meanwhile, here or on another replica. The remaining cookie opens nothing.
            Err(StoreError::Ended) => return Vec::new(),
            Err(error) => Err(error.into()),
        };
        match lines {
            Ok(lines) if !self.ends.ended.has_ended(&stored.session, self.context.now()) => lines,
            Ok(_) => Vec::new(),
            Err(fault) => {
                let row = fault.row();
                tracing::error!(fault = row.name, seen = row.log.seen, "the session could not be saved");
                Vec::new()
            }
        }
    }

    /// Ends what the session has open. The session itself may still have to be ended in the store.
    pub(super) fn disconnect(&self, session: &Session) {
        self.ends.watches.end(&session.id, Extent::All);
    }

    /// Ends the session with all its tokens, present and future: what it has open ends, and no late answer revives it.
    pub(super) fn close(&self, session: &Session) {
        self.end(session, Extent::All);
    }

    /// Upwork has ended the session's tokens, and so the session. False if it had ended already.
    pub(super) fn end_by_upwork(&self, session: &Session) -> bool {
        self.end(session, Extent::IssuedUntil(session.tokens.issued_at))
    }

    fn end(&self, session: &Session, extent: Extent) -> bool {
        let news = self.ends.ended.insert(&session.id, extent, self.context.now(), self.expires_at(session));
        self.ends.watches.end(&session.id, extent);
        news
    }

    pub(super) fn is_due_for_recheck(&self, session: &Session) -> bool {
        self.recheck.is_due(session, self.context.now())
    }

    /// The session whose user the app sees, refreshed if that is due: see [`Recheck::run`].
    pub(super) async fn recheck(
        &self,
        stored: StoredSession,
        needs_token: bool,
        open: impl Fn() -> bool,
    ) -> (Option<StoredSession>, SessionChange) {
        self.recheck.run(stored, needs_token, self.context.now(), open).await
    }

    /// Ends an upgraded connection or a long answer with its session: at once after a sign-out here, at the next check
    /// after a sign-out on another replica or a change of access rules, and when the session expires.
    pub(super) fn watch(self: &Arc<Self>, stored: &StoredSession) -> Arc<CancellationToken> {
        let (token, new) = self.ends.watches.token(&stored.session, self.expires_at(&stored.session));
        if new {
            tokio::spawn(self.clone().look_after(stored.clone(), token.clone()));
        }
        token
    }

    /// Checks a session for as long as it has something open. It keeps the token, so that the many short streams of one
    /// session share one task.
    async fn look_after(self: Arc<Self>, mut stored: StoredSession, token: Arc<CancellationToken>) {
        let id = stored.session.id.clone();
        let watches = &self.ends.watches;
        while let Some(ends_at) = watches.ends_at(&id, &token) {
            let now = self.context.now();
            let session = &stored.session;
            if now >= ends_at || !self.is_admitted(session) || self.ends.ended.has_ended(session, now) {
                return watches.end(&id, Extent::All);
            }
            self.context.clock.sleep_until(ends_at.min(now.plus(WATCH_INTERVAL))).await;
            if watches.forget_unused(&id, &token) {
                return;
            }
            match self.store.reload(&stored).await {
                Ok(Some(fresh)) => stored = fresh,
                Ok(None) => return watches.end(&id, Extent::All),
                // An outage of the store does not mean that the session is over.
                Err(_) => {}
            }
            watches.extend(&stored.session, self.expires_at(&stored.session));
        }
    }
}
