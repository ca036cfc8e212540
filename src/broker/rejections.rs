//! Remembers fresh tokens that the API refused: another refresh would not help, so the next one waits.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::pacing::CallerId;
use crate::recent::{Recent, lock};

/// Callers remembered.
const MAX_CALLERS: usize = 10_000;
/// The pause after the first refusal; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// A refusal later than this starts a new series.
const KEPT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Rejection {
    pause: Duration,
    until: Timestamp,
}

/// By user, whose sessions may share one grant, or the service identity: set when a token that was refreshed after a
/// 401 got a 401 too.
#[derive(Debug)]
pub(super) struct Rejections(Mutex<Recent<CallerId, Rejection, Timestamp>>);

impl Default for Rejections {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MAX_CALLERS)))
    }
}

impl Rejections {
    /// Whether a fresh token is known to be refused and another refresh is not due yet.
    pub(super) fn is_known(&self, caller: &CallerId, now: Timestamp) -> bool {
        lock(&self.0).get(caller, now).is_some_and(|last| now < last.until)
    }

    /// Records whether the token that was refreshed after a 401 was `rejected` too, or could not be tried.
    pub(super) fn note(&self, caller: CallerId, rejected: bool, now: Timestamp) {
        let mut last = lock(&self.0);
        if !rejected {
            last.remove(&caller);
            return;
        }
        let before = last.get(&caller, now).map(|last| (last.pause, last.until));
        let (pause, until) = match before {
            // One of several simultaneous calls.
            Some((pause, until)) if now < until => (pause, until),
            Some((pause, _)) => ((pause * 2).min(MAX_PAUSE), now.plus((pause * 2).min(MAX_PAUSE))),
            None => (FIRST_PAUSE, now.plus(FIRST_PAUSE)),
        };
        last.insert(caller, Rejection { pause, until }, now, now.plus(KEPT));
    }
}
