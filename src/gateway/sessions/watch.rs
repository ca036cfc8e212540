//! What sessions have open and what ends with them: upgraded connections, event streams and other long answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio_util::sync::CancellationToken;

use super::ended::Extent;
use crate::clock::Timestamp;
use crate::recent::lock;
use crate::session::Session;

/// The sessions that have something open, or had a moment ago: at most one for each connection in that time.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<String, Watch>>);

#[derive(Debug)]
struct Watch {
    /// Lives as long as something is open, or the task that checks it runs.
    token: Weak<CancellationToken>,
    ends_at: Timestamp,
    /// When its newest tokens were issued.
    issued_at: Timestamp,
}

impl Watch {
    fn has(&self, token: &Arc<CancellationToken>) -> bool {
        std::ptr::eq(self.token.as_ptr(), Arc::as_ptr(token))
    }
}

impl Watches {
    /// The cancellation token for what a session has open. True if it is new and no task checks it yet.
    pub(super) fn token(&self, session: &Session, ends_at: Timestamp) -> (Arc<CancellationToken>, bool) {
        let mut watches = lock(&self.0);
        if let Some(token) = watches.get(&session.id).and_then(|watch| watch.token.upgrade()) {
            return (token, false);
        }
        watches.retain(|_, watch| watch.token.strong_count() > 0);
        let token = Arc::new(CancellationToken::new());
        let watch = Watch { token: Arc::downgrade(&token), ends_at, issued_at: session.tokens.issued_at };
        watches.insert(session.id.clone(), watch);
        (token, true)
    }

    /// Call when the session was refreshed and lives longer.
    pub(super) fn extend(&self, session: &Session, ends_at: Timestamp) {
        if let Some(watch) = lock(&self.0).get_mut(&session.id) {
            watch.ends_at = watch.ends_at.max(ends_at);
            watch.issued_at = watch.issued_at.max(session.tokens.issued_at);
        }
    }

    /// When the session ends, if this is still its token: after an end, the session gets a new token and a new task.
    pub(super) fn ends_at(&self, session: &str, token: &Arc<CancellationToken>) -> Option<Timestamp> {
        lock(&self.0).get(session).filter(|watch| watch.has(token)).map(|watch| watch.ends_at)
    }

    /// Forgets a session that has nothing open, because only the caller has its token. False if something is open.
    pub(super) fn forget_unused(&self, session: &str, token: &Arc<CancellationToken>) -> bool {
        let mut watches = lock(&self.0);
        if Arc::strong_count(token) > 1 {
            return false;
        }
        if watches.get(session).is_some_and(|watch| watch.has(token)) {
            watches.remove(session);
        }
        true
    }

    /// Ends what the session has open, if `extent` covers its newest tokens.
    pub(super) fn end(&self, session: &str, extent: Extent) {
        let mut watches = lock(&self.0);
        if watches.get(session).is_some_and(|watch| extent.covers(watch.issued_at))
            && let Some(token) = watches.remove(session).and_then(|watch| watch.token.upgrade())
        {
            token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::tests::session;

    fn named(id: &str) -> Session {
        Session { id: id.to_owned(), ..session(true) }
    }

    #[test]
    fn the_end_of_a_session_reaches_its_connections() {
        let watches = Watches::default();
        let soon = Timestamp::from_seconds(10);
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let ((one, first), (same, second), (other, _)) =
            (watches.token(&a, soon), watches.token(&a, soon), watches.token(&b, soon));
        assert!(first && !second);
        watches.extend(&b, Timestamp::from_seconds(20));
        assert_eq!(watches.ends_at("b", &other), Some(Timestamp::from_seconds(20)));
        watches.end("a", Extent::All);
        assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
        assert_eq!(watches.ends_at("a", &one), None);
        let task = other.clone();
        assert!(!watches.forget_unused("b", &task));
        drop(other);
        assert!(watches.forget_unused("b", &task));
        let (next, first) = watches.token(&b, soon);
        assert!(first && watches.ends_at("b", &task).is_none(), "the task of the one before ends");
        assert_eq!(watches.ends_at("b", &next), Some(soon));
        drop(next);
        let _token = watches.token(&c, soon);
        assert_eq!(watches.0.lock().unwrap().len(), 1, "a session without connections is forgotten");
    }

    #[test]
    fn an_end_of_old_tokens_leaves_the_connections_of_newer_ones() {
        let (watches, old) = (Watches::default(), named("a"));
        let mut new = old.clone();
        new.tokens.issued_at = old.tokens.issued_at.plus(Duration::from_secs(86_400));
        let now = new.tokens.issued_at;
        let (token, _) = watches.token(&old, now);
        watches.extend(&new, now);
        watches.end("a", Extent::IssuedUntil(old.tokens.issued_at));
        assert!(!token.is_cancelled());
        watches.end("a", Extent::All);
        assert!(token.is_cancelled());
    }
}
