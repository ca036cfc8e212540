//! The refreshes that failed, so that people can be told on their page.
//!
//! In: sessions' ids, and how their refresh went. Out: the last failure since the last success, as far as this process
//! remembers. It holds no token, decides nothing, and is bounded.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::clock::Timestamp;
use crate::recent::lock;

/// Sessions remembered at the most; beyond, the one that failed longest ago is forgotten.
const MOST: usize = 10_000;

/// A refresh that brought no token, and left the session as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it ended.
    pub at: Timestamp,
    /// Upwork refused our key; otherwise there was no usable answer.
    pub misconfigured: bool,
}

#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<String, Failure>>);

impl Failures {
    pub(super) fn note(&self, session: &str, failure: Failure) {
        let mut known = lock(&self.0);
        if known.len() >= MOST && !known.contains_key(session) {
            let oldest = known.iter().min_by_key(|(_, failure)| failure.at).map(|(id, _)| id.clone());
            oldest.map(|id| known.remove(&id));
        }
        known.insert(session.to_owned(), failure);
    }

    pub(super) fn forget(&self, session: &str) {
        lock(&self.0).remove(session);
    }

    pub(super) fn of(&self, session: &str) -> Option<Failure> {
        lock(&self.0).get(session).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_failure_makes_room() {
        let failures = Failures::default();
        let at = |seconds| Failure { at: Timestamp::from_seconds(seconds), misconfigured: false };
        for number in 0..=MOST {
            failures.note(&number.to_string(), at(i64::try_from(number).unwrap()));
        }
        assert_eq!(failures.of("0"), None);
        assert_eq!(failures.of("1"), Some(at(1)));
        failures.forget("1");
        assert_eq!(failures.of("1"), None);
        assert_eq!(failures.0.lock().unwrap().len(), MOST - 1);
    }
}
