//! What the gate remembers of sessions: which ended here, and which upgraded connections they have.
//!
//! In: sessions. Out: yes or no; a token that is cancelled when the session ends. All is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::session::Session;

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
        let mut known = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
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
        if let Some(watched) = self.watched.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&session.id) {
            watched.ends_at = watched.ends_at.max(ends_at);
            watched.issued_at = watched.issued_at.max(session.tokens.issued_at);
        }
    }

    /// When the session ends, as long as one of its upgrades lives.
    pub(super) fn ends_at(&self, session: &str) -> Option<Timestamp> {
        let known = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(session).filter(|watched| watched.token.strong_count() > 0).map(|watched| watched.ends_at)
    }

    /// The session's upgrades end.
    pub(super) fn end(&self, session: &str) {
        self.end_issued(session, Over::Whole);
    }

    fn end_issued(&self, session: &str, over: Over) {
        let mut known = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(session).is_some_and(|watched| over.covers(watched.issued_at))
            && let Some(token) = known.remove(session).and_then(|watched| watched.token.upgrade())
        {
            token.cancel();
        }
    }

    /// The session is over, and its upgrades with it. False where that was known.
    pub(super) fn close(&self, session: &str, over: Over, now: Timestamp) -> bool {
        let mut known = self.over.lock().unwrap_or_else(PoisonError::into_inner);
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
        let known = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&session.id).is_some_and(|(over, _)| over.covers(session.tokens.issued_at))
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
        assert_eq!(ends.ends_at("b"), Some(Timestamp::from_seconds(20)));
        ends.end("a");
        assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
        drop(other);
        assert_eq!(ends.ends_at("b"), None);
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
