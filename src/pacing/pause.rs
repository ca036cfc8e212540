//! The pause that Upwork's 429 asks for.
//!
//! Takes answers; returns until when no call may be sent. Simultaneous calls count as one 429.

use std::time::Duration;

use crate::clock::Timestamp;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// A longer pause is cut to this. Then a single call probes whether Upwork still wants it.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);

#[derive(Clone, Debug, Default)]
pub(super) struct Pause {
    until: Option<Timestamp>,
    backoff: Duration,
    /// Upwork asked for a longer pause.
    cut_off: bool,
    /// When the probing call was released.
    probe: Option<Timestamp>,
}

impl Pause {
    /// `None` or a moment in the past means no pause.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// A call that was released at `released` was answered with 429 at `now`.
    pub(super) fn too_many(&mut self, released: Timestamp, retry_after: Option<Duration>, now: Timestamp) {
        // During a pause no call is released: a call from before its end belongs to the group that caused it.
        let known = self.until.is_some_and(|until| released < until);
        let pause = match retry_after.filter(|span| !span.is_zero()) {
            Some(span) => {
                self.cut_off = span > LONGEST_RETRY_AFTER;
                span.min(LONGEST_RETRY_AFTER)
            }
            None if known => return,
            None => {
                self.backoff = (self.backoff * 2).clamp(SHORTEST, LONGEST);
                self.backoff
            }
        };
        self.until = self.until.max(Some(now.plus(pause)));
    }

    /// A call is released at `now`. After a pause that was cut off, the others wait for its answer.
    pub(super) fn released(&mut self, now: Timestamp) {
        if self.cut_off && self.until.is_some_and(|until| now >= until) {
            self.probe = Some(now);
            self.until = Some(now.plus(LONGEST_RETRY_AFTER));
        }
    }

    /// A call that was released at `released` was answered with anything but 429.
    pub(super) fn succeeded(&mut self, released: Timestamp) {
        if self.until.is_some_and(|until| released >= until) || self.probe == Some(released) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_pause_lasts_as_long_as_retry_after_says() {
        let mut pause = Pause::default();
        pause.too_many(at(0), Some(Duration::from_secs(7)), at(1));
        assert_eq!(pause.until(), Some(at(8)));
        pause.too_many(at(0), Some(Duration::from_secs(2)), at(2));
        assert_eq!(pause.until(), Some(at(8)), "a shorter pause does not end a longer one");
        pause.too_many(at(0), Some(Duration::from_secs(1_000_000)), at(0));
        assert_eq!(pause.until(), Some(at(600)));
    }

    #[test]
    fn a_pause_of_a_day_is_cut_off_and_one_call_probes() {
        let mut pause = Pause::default();
        pause.too_many(at(0), Some(Duration::from_hours(24)), at(0));
        assert_eq!(pause.until(), Some(at(600)));
        pause.released(at(600));
        assert_eq!(pause.until(), Some(at(1200)), "the others wait for the probe");
        pause.succeeded(at(0));
        assert!(pause.until().is_some(), "a call from before the pause proves nothing");
        pause.too_many(at(600), Some(Duration::from_hours(24)), at(601));
        assert_eq!(pause.until(), Some(at(1201)));
        pause.released(at(1201));
        pause.succeeded(at(1201));
        assert_eq!(pause.until(), None, "the probe was answered");
        pause.too_many(at(2000), Some(Duration::from_secs(7)), at(2000));
        pause.released(at(2007));
        assert_eq!(pause.until(), Some(at(2007)), "a pause that was kept to needs no probe");
    }

    #[test]
    fn without_retry_after_the_pause_doubles_up_to_a_minute_and_calls_sent_together_count_once() {
        let mut pause = Pause::default();
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            for _ in 0..10 {
                pause.too_many(now, Some(Duration::ZERO), now);
            }
            pauses.push(pause.until().unwrap().since(now).as_secs());
            now = pause.until().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        pause.succeeded(at(0));
        assert!(pause.until().is_some(), "a call from before the pause proves nothing");
        pause.succeeded(now);
        pause.too_many(now, None, now);
        assert_eq!(pause.until().unwrap().since(now).as_secs(), 1);
    }
}
