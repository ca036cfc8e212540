//! Remembers which sessions ended here, so that no late answer revives one. With the cookie store, nothing else knows.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::recent::{Recent, lock};
use crate::session::Session;

/// Sessions remembered. Beyond that, the oldest end is forgotten.
const MAX_SESSIONS: usize = 20_000;
/// An answer to a request from before the session's end arrives at most this long after it.
const LATEST_ANSWER: Duration = Duration::from_hours(1);

/// Which of a session's tokens have ended. An old copy of a cookie, whose refresh token Upwork ended long ago, says
/// nothing about the session's newer tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All, including future ones: the user signed out, or another session replaced this one.
    All,
    /// Those issued until this time: Upwork ended them.
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

    /// Remembers an end for as long as a cookie of the session could come back. False if it was known already.
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

    /// Whether this session, with its current tokens, ended here.
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
    fn tokens_that_upwork_ended_are_over_and_newer_ones_are_not() {
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
    fn the_oldest_end_is_evicted() {
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
