//! Two small memories of the gate: how many sign-ins an address began, and which upgraded connections a session has.
//!
//! In: addresses, session ids. Out: yes or no; a token that is cancelled when the session ends. Both are bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;

/// Addresses remembered at the most; beyond, the ones that rested longest are forgotten.
const MOST_ADDRESSES: usize = 10_000;
/// A spent burst is whole again after this.
const REFILL: Duration = Duration::from_secs(60);

/// Lets each address begin a burst of sign-ins, refilled over a minute (RFC 9700's advice to limit by address).
#[derive(Debug)]
pub(super) struct SignIns {
    burst: f64,
    spent: Mutex<HashMap<IpAddr, (f64, Timestamp)>>,
}

impl SignIns {
    pub(super) fn new(burst: u32) -> Self {
        Self { burst: f64::from(burst), spent: Mutex::default() }
    }

    /// Whether `address` may begin one more.
    pub(super) fn allow(&self, address: IpAddr, now: Timestamp) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= MOST_ADDRESSES && !spent.contains_key(&address) {
            spent.retain(|_, (_, last)| now.since(*last) < REFILL);
            if spent.len() >= MOST_ADDRESSES {
                spent.clear();
            }
        }
        let (level, last) = spent.entry(address).or_insert((0.0, now));
        let rested = now.since(*last).as_secs_f64() / REFILL.as_secs_f64() * self.burst;
        *level = (*level - rested).max(0.0);
        *last = now;
        let allowed = *level + 1.0 <= self.burst;
        if allowed {
            *level += 1.0;
        }
        allowed
    }
}

/// Ends the upgraded connections of a session with it.
#[derive(Debug, Default)]
pub(super) struct SessionEnds(Mutex<HashMap<String, Weak<CancellationToken>>>);

impl SessionEnds {
    /// The token of a session's upgrades; it lives as long as one of them. True where it was made just now, so that
    /// somebody has to look after it.
    pub(super) fn watch(&self, session: &str) -> (Arc<CancellationToken>, bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = known.get(session).and_then(Weak::upgrade) {
            return (token, false);
        }
        known.retain(|_, token| token.strong_count() > 0);
        let token = Arc::new(CancellationToken::new());
        known.insert(session.to_owned(), Arc::downgrade(&token));
        (token, true)
    }

    /// The session is over.
    pub(super) fn end(&self, session: &str) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        if let Some(token) = known.and_then(|token| token.upgrade()) {
            token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_burst_and_gets_it_back() {
        let limit = SignIns::new(3);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let start = Timestamp::from_seconds(1000);
        assert_eq!([(); 4].map(|()| limit.allow(one, start)), [true, true, true, false]);
        assert!(limit.allow(other, start));
        assert!(limit.allow(one, start.plus(Duration::from_secs(20))));
        assert!(!limit.allow(one, start.plus(Duration::from_secs(20))));
    }

    #[test]
    fn the_end_of_a_session_reaches_its_upgrades() {
        let ends = SessionEnds::default();
        let ((one, first), (same, again), (other, _)) = (ends.watch("a"), ends.watch("a"), ends.watch("b"));
        assert!(first && !again, "one looks after all of a session");
        ends.end("a");
        assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
        drop(other);
        ends.watch("c");
        assert_eq!(ends.0.lock().unwrap().len(), 1, "what nobody watches is forgotten");
    }
}
