//! Which sessions ended here, so that no late answer revives one. With the cookie store nothing else knows it.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::recent::{Recent, lock};
use crate::session::Session;

/// Sessions remembered. Beyond that, the one that ended longest ago is forgotten.
const MAX_SESSIONS: usize = 20_000;
/// An answer that was asked for before its session ended comes no later than this after it.
const LATEST_ANSWER: Duration = Duration::from_hours(1);

/// Which of a session's tokens are over. An old copy of a cookie, whose refresh token Upwork gave up long ago, says nothing
/// of what its session has become since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All it has or will get: the user signed out, or another session took its place.
    All,
    /// Those issued until then: Upwork ended them.
    IssuedUntil(Timestamp),
}

impl Extent {
    pub(super) fn covers(self, issued_at: Timestamp) -> bool {
        match self {
            Self::All => true,
            Self::IssuedUntil(moment) => issued_at <= moment,
        }
    }
}

#[derive(Debug)]
pub(super) struct EndedSessions(Mutex<Recent<String, Extent, Timestamp>>);

impl EndedSessions {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent::new(MAX_SESSIONS)))
    }

    /// Remembers an end for as long as a cookie of the session could be shown. False where it was known.
    pub(super) fn insert(&self, id: &str, extent: Extent, now: Timestamp, expires_at: Timestamp) -> bool {
        let mut ended = lock(&self.0);
        let news = match (ended.get(id, now), extent) {
            (Some(Extent::All), _) => false,
            (Some(Extent::IssuedUntil(before)), Extent::IssuedUntil(moment)) => moment > *before,
            (Some(Extent::IssuedUntil(_)), Extent::All) | (None, _) => true,
        };
        if news {
            ended.insert(id.to_owned(), extent, now, expires_at.max(now).plus(LATEST_ANSWER));
        }
        news
    }

    /// Whether this session ended here, with the tokens it has.
    pub(super) fn has_ended(&self, session: &Session, now: Timestamp) -> bool {
        lock(&self.0).get(&session.id, now).is_some_and(|extent| extent.covers(session.tokens.issued_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    fn named(id: &str) -> Session {
        Session { id: id.to_owned(), ..session(true) }
    }

    #[test]
    fn what_upwork_ended_is_over_and_what_it_became_since_is_not() {
        let (ended, old) = (EndedSessions::new(), named("a"));
        let mut new = old.clone();
        new.tokens.issued_at = old.tokens.issued_at.plus(Duration::from_secs(86_400));
        let now = new.tokens.issued_at;
        let until = |moment| Extent::IssuedUntil(moment);
        assert!(ended.insert("a", until(old.tokens.issued_at), now, now));
        assert!(ended.has_ended(&old, now) && !ended.has_ended(&new, now));
        assert!(!ended.insert("a", until(old.tokens.issued_at), now, now), "known");
        assert!(ended.insert("a", Extent::All, now, now) && ended.has_ended(&new, now));
        assert!(!ended.insert("a", until(now), now, now), "another answer said so");
    }

    #[test]
    fn the_end_that_is_oldest_makes_room() {
        let ended = EndedSessions::new();
        let start = Timestamp::from_seconds(1000);
        let over = |number: usize, now| ended.has_ended(&named(&number.to_string()), now);
        for number in 0..=MAX_SESSIONS {
            let now = start.plus(Duration::from_millis(number as u64));
            assert!(ended.insert(&number.to_string(), Extent::All, now, start));
        }
        assert!(!over(0, start) && over(1, start) && over(MAX_SESSIONS, start));
        let late = start.plus(LATEST_ANSWER * 2);
        assert!(ended.insert("late", Extent::All, late, start));
        assert!(!over(1, late) && !over(MAX_SESSIONS, late), "no cookie of theirs can be shown any more");
    }
}
