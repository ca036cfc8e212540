//! How sessions go on and end: which ended here, which waited in vain, which upgraded connections they have.
//!
//! In: sessions. Out: whether one may go on, and as what; a token that is cancelled when it ends. What is remembered is
//! bounded, and holds no token of Upwork's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::clock::Timestamp;
use crate::oauth::refresh::RefreshError;
use crate::recent::lock;
use crate::session::Session;
use crate::store::{SessionChange, StoredSession};

/// How long the app waits for a fresh token, which it needs for its ticket at the most.
const TOKEN_WAIT: Duration = Duration::from_secs(2);
/// How often it is looked whether a session with upgraded connections still lives.
const LOOK: Duration = Duration::from_secs(15);
/// Sessions remembered at the most that waited in vain.
const MOST_WAITED: usize = 20_000;
/// A session that waited in vain does not wait again before this.
const REST: Duration = Duration::from_secs(30);

/// Which sessions waited in vain for a fresh token a moment ago: an outage of Upwork is not to make every request slow.
#[derive(Debug, Default)]
struct InVain(Mutex<HashMap<String, Timestamp>>);

impl InVain {
    fn note(&self, session: &str, now: Timestamp) {
        let mut waited = lock(&self.0);
        if waited.len() >= MOST_WAITED {
            waited.retain(|_, at| now.since(*at) < REST);
            if waited.len() >= MOST_WAITED {
                waited.clear();
            }
        }
        waited.insert(session.to_owned(), now);
    }

    fn lately(&self, session: &str, now: Timestamp) -> bool {
        let waited = lock(&self.0);
        waited.get(session).is_some_and(|at| now.since(*at) < REST)
    }
}

/// Sessions whose end is remembered at the most; beyond, the one that ended longest ago is forgotten.
const MOST_OVER: usize = 20_000;
/// An answer that was asked for before its session ended is expected no later than this after it.
const LATEST: Duration = Duration::from_hours(1);

/// Which of a session's tokens are over. An old copy of a cookie, whose refresh token Upwork gave up long ago, says nothing
/// of what its session has become since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Whatever tokens it had or gets: it was signed out, or another took its place.
    Whole,
    /// Those issued up to then: Upwork ended them.
    Until(Timestamp),
}

impl Over {
    fn covers(self, issued_at: Timestamp) -> bool {
        match self {
            Self::Whole => true,
            Self::Until(moment) => issued_at <= moment,
        }
    }
}

/// Which sessions ended here, so that no late answer brings one back; ends their upgraded connections with them.
#[derive(Debug, Default)]
pub(super) struct SessionEnds {
    watched: Mutex<HashMap<String, Watched>>,
    /// With the cookie store nothing else knows that a session was ended here.
    over: Mutex<HashMap<String, (Over, Timestamp)>>,
    in_vain: InVain,
}

#[derive(Debug)]
struct Watched {
    token: Weak<CancellationToken>,
    ends_at: Timestamp,
    /// Of its newest tokens.
    issued_at: Timestamp,
}

impl SessionEnds {
    /// The token of a session's upgrades; it lives as long as one of them. True where it is the first, and so has nobody
    /// who looks after it yet.
    pub(super) fn watch(&self, session: &Session, ends_at: Timestamp) -> (Arc<CancellationToken>, bool) {
        let mut known = lock(&self.watched);
        if let Some(token) = known.get(&session.id).and_then(|watched| watched.token.upgrade()) {
            return (token, false);
        }
        known.retain(|_, watched| watched.token.strong_count() > 0);
        let token = Arc::new(CancellationToken::new());
        let watched = Watched { token: Arc::downgrade(&token), ends_at, issued_at: session.tokens.issued_at };
        known.insert(session.id.clone(), watched);
        (token, true)
    }

    /// The session was refreshed, and lives longer.
    pub(super) fn extend(&self, session: &Session, ends_at: Timestamp) {
        if let Some(watched) = lock(&self.watched).get_mut(&session.id) {
            watched.ends_at = watched.ends_at.max(ends_at);
            watched.issued_at = watched.issued_at.max(session.tokens.issued_at);
        }
    }

    /// When the session ends, as long as an upgrade with this token lives. Upgrades that come after it have another token,
    /// and somebody else who looks after them.
    fn ends_at(&self, session: &str, token: &Weak<CancellationToken>) -> Option<Timestamp> {
        let known = lock(&self.watched);
        let same = |watched: &&Watched| token.strong_count() > 0 && watched.token.ptr_eq(token);
        known.get(session).filter(same).map(|watched| watched.ends_at)
    }

    /// The session's upgrades end.
    pub(super) fn end(&self, session: &str) {
        self.end_issued(session, Over::Whole);
    }

    fn end_issued(&self, session: &str, over: Over) {
        let mut known = lock(&self.watched);
        if known.get(session).is_some_and(|watched| over.covers(watched.issued_at))
            && let Some(token) = known.remove(session).and_then(|watched| watched.token.upgrade())
        {
            token.cancel();
        }
    }

    /// The session is over, and its upgrades with it. False where that was known.
    pub(super) fn close(&self, session: &str, over: Over, now: Timestamp) -> bool {
        let mut known = lock(&self.over);
        let before = known.get(session).map(|(before, _)| *before);
        let news = match (before, over) {
            (Some(Over::Whole), _) => false,
            (Some(Over::Until(before)), Over::Until(moment)) => moment > before,
            (Some(Over::Until(_)), Over::Whole) | (None, _) => true,
        };
        if news {
            if known.len() >= MOST_OVER {
                known.retain(|_, (_, at)| now.since(*at) < LATEST);
            }
            if known.len() >= MOST_OVER {
                let oldest = known.iter().min_by_key(|(_, (_, at))| *at).map(|(id, _)| id.clone());
                oldest.map(|id| known.remove(&id));
            }
            known.insert(session.to_owned(), (over, now));
        }
        drop(known);
        self.end_issued(session, over);
        news
    }

    /// Whether this session ended here lately, with the tokens it has.
    pub(super) fn is_over(&self, session: &Session) -> bool {
        let known = lock(&self.over);
        known.get(&session.id).is_some_and(|(over, _)| over.covers(session.tokens.issued_at))
    }
}

impl Shared {
    /// What ends an upgraded connection with its session: a sign-out here at once, one on another replica at the next look,
    /// and the session's own end.
    pub(super) fn end_with(self: &Arc<Self>, held: &StoredSession) -> Arc<CancellationToken> {
        let (token, first) = self.ends.watch(&held.session, held.session.ends_at(self.session.lifetime));
        if first {
            tokio::spawn(self.clone().look_after(held.clone(), Arc::downgrade(&token)));
        }
        token
    }

    /// As long as one of the session's upgrades with this token lives.
    async fn look_after(self: Arc<Self>, mut held: StoredSession, token: Weak<CancellationToken>) {
        let id = held.session.id.clone();
        while let Some(ends_at) = self.ends.ends_at(&id, &token) {
            let now = self.clock.now();
            if now >= ends_at || !self.may_stay(&held) || self.ends.is_over(&held.session) {
                return self.ends.end(&id);
            }
            self.clock.sleep_until(ends_at.min(now.plus(LOOK))).await;
            if token.strong_count() == 0 {
                return;
            }
            match self.store.reload(&held).await {
                Ok(Some(fresh)) => held = fresh,
                Ok(None) => return self.ends.end(&id),
                // A store that cannot be asked has not said that the session is over.
                Err(_) => {}
            }
            self.ends.extend(&held.session, held.session.ends_at(self.session.lifetime));
        }
    }

    /// Whether the access rules, which may have changed, still let this session in.
    pub(super) fn may_stay(&self, held: &StoredSession) -> bool {
        let (access, session) = (self.access.load(), &held.session);
        let organization = session.organization.as_ref().map(|organization| organization.id.as_str());
        access.admits(&session.user.id, organization) && !access.ended(&session.user.id, session.began_at)
    }

    /// A session whose token ended over `session.recheck` ago is refreshed before the app is reached: only Upwork's own word
    /// ends it, an outage does not (docs/sessions.md "Lifetime"). Upwork is waited for a moment only, and not where the path
    /// is for anybody (`open`), nor just after this session waited in vain: the refresh goes on, and a later request finds
    /// what came of it.
    pub(super) async fn recheck(
        &self,
        who: Option<StoredSession>,
        open: impl Fn() -> bool,
    ) -> (Option<StoredSession>, SessionChange) {
        let Some(held) = who else { return (None, SessionChange::Keep) };
        let change = if held.reseal { SessionChange::Replace(held.clone()) } else { SessionChange::Keep };
        let (session, now) = (&held.session, self.clock.now());
        let needed = session.needs_recheck(now, self.session.recheck);
        if !needed && !self.needs_token_for_ticket(session) {
            return (Some(held), change);
        }
        let open = open();
        let waits = !open && !self.ends.in_vain.lately(&session.id, now);
        let patience = if waits { TOKEN_WAIT } else { Duration::ZERO };
        match tokio::time::timeout(patience, self.refresher.fresh(held.clone(), None)).await.ok() {
            Some(Ok(fresh)) if !Arc::ptr_eq(&fresh.session, session) => {
                return (Some(fresh.clone()), SessionChange::Replace(fresh));
            }
            Some(Err(RefreshError::Revoked)) => return (None, SessionChange::End(held)),
            // Whether it still is somebody's is not known yet, and nobody is needed here.
            None if open && needed => return (None, SessionChange::Keep),
            None
            | Some(
                Ok(_) | Err(RefreshError::Misconfigured(_) | RefreshError::Store(_) | RefreshError::Unavailable(_)),
            ) => {}
        }
        if waits {
            self.ends.in_vain.note(&session.id, now);
        }
        (Some(held), change)
    }

    /// With the cookie store a ticket holds the access token itself, so one that ends soon would be of no use to the app.
    fn needs_token_for_ticket(&self, session: &Session) -> bool {
        let holds_token = self.config.tickets && !self.store.keeps_records();
        holds_token && session.tokens.refresh.is_some() && self.clock.now() >= session.tokens.due_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    #[test]
    fn the_end_of_a_session_reaches_its_upgrades() {
        let ends = SessionEnds::default();
        let soon = Timestamp::from_seconds(10);
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let ((one, first), (same, second), (other, _)) =
            (ends.watch(&a, soon), ends.watch(&a, soon), ends.watch(&b, soon));
        assert!(first && !second);
        ends.extend(&b, Timestamp::from_seconds(20));
        let of_b = Arc::downgrade(&other);
        assert_eq!(ends.ends_at("b", &of_b), Some(Timestamp::from_seconds(20)));
        ends.end("a");
        assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
        drop(other);
        assert_eq!(ends.ends_at("b", &of_b), None);
        let (next, first) = ends.watch(&b, soon);
        let of_next = Arc::downgrade(&next);
        assert!(first && ends.ends_at("b", &of_b).is_none(), "whoever looked after the one before ends");
        assert_eq!(ends.ends_at("b", &of_next), Some(soon));
        drop(next);
        let _watched = ends.watch(&c, soon);
        assert_eq!(ends.watched.lock().unwrap().len(), 1, "what nobody watches is forgotten");
    }

    fn named(id: &str) -> Session {
        Session { id: id.to_owned(), ..session(true) }
    }

    #[test]
    fn what_upwork_ended_is_over_and_what_it_became_since_is_not() {
        let (ends, old) = (SessionEnds::default(), named("a"));
        let mut new = old.clone();
        new.tokens.issued_at = old.tokens.issued_at.plus(Duration::from_secs(86_400));
        let now = new.tokens.issued_at;
        let (socket, _) = ends.watch(&old, now);
        ends.extend(&new, now);
        assert!(ends.close("a", Over::Until(old.tokens.issued_at), now));
        assert!(ends.is_over(&old) && !ends.is_over(&new) && !socket.is_cancelled());
        assert!(!ends.close("a", Over::Until(old.tokens.issued_at), now), "known");
        assert!(ends.close("a", Over::Whole, now) && ends.is_over(&new) && socket.is_cancelled());
        assert!(!ends.close("a", Over::Until(now), now), "another answer said so");
    }

    #[test]
    fn the_end_that_is_oldest_makes_room() {
        let ends = SessionEnds::default();
        let start = Timestamp::from_seconds(1000);
        let over = |number: usize| ends.is_over(&named(&number.to_string()));
        for number in 0..=MOST_OVER {
            let now = start.plus(Duration::from_millis(number as u64));
            assert!(ends.close(&number.to_string(), Over::Whole, now));
        }
        assert!(!over(0) && over(1) && over(MOST_OVER));
        assert!(ends.close("late", Over::Whole, start.plus(LATEST * 2)));
        assert_eq!(ends.over.lock().unwrap().len(), 1);
    }
}
