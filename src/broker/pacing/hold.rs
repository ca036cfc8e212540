//! What Upwork's 429 asks of everybody.
//!
//! In: answers. Out: until when nobody may call. A crowd of calls that were all on their way counts as one 429.

use std::time::Duration;

use crate::clock::Timestamp;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// No limit of Upwork's is longer than a day, so no pause is.
const LONGEST_TOLD: Duration = Duration::from_hours(24);

/// The pause, and how the next one grows.
#[derive(Debug, Default)]
pub(super) struct Hold {
    until: Option<Timestamp>,
    step: Duration,
}

impl Hold {
    /// Until when nobody may call; a moment that has passed, or `None`, is no pause.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// A call that had been let go at `released` was answered 429 at `now`, with this Retry-After.
    pub(super) fn too_many(&mut self, released: Timestamp, retry_after: Option<Duration>, now: Timestamp) {
        let told = retry_after.filter(|told| !told.is_zero());
        // While a pause lasts nothing is let go: a call from before its end belongs to the crowd that caused it.
        let known = self.until.is_some_and(|until| released < until);
        let pause = match told {
            Some(told) => told.min(LONGEST_TOLD),
            None if known => return,
            None => {
                self.step = (self.step * 2).clamp(SHORTEST, LONGEST);
                self.step
            }
        };
        self.until = self.until.max(Some(now.plus(pause)));
    }

    /// A call that had been let go at `released` was answered otherwise.
    pub(super) fn went_well(&mut self, released: Timestamp) {
        if self.until.is_some_and(|until| released >= until) {
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
    fn a_pause_lasts_as_long_as_it_was_told() {
        let mut hold = Hold::default();
        hold.too_many(at(0), Some(Duration::from_secs(7)), at(1));
        assert_eq!(hold.until(), Some(at(8)));
        hold.too_many(at(0), Some(Duration::from_secs(2)), at(2));
        assert_eq!(hold.until(), Some(at(8)), "a shorter one ends no longer one");
        hold.too_many(at(0), Some(Duration::from_secs(1_000_000)), at(0));
        assert_eq!(hold.until(), Some(at(86_400)));
    }

    #[test]
    fn without_a_word_the_pause_doubles_up_to_a_minute_and_a_crowd_counts_once() {
        let mut hold = Hold::default();
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            for _ in 0..10 {
                hold.too_many(now, Some(Duration::ZERO), now);
            }
            pauses.push(hold.until().unwrap().since(now).as_secs());
            now = hold.until().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        hold.went_well(at(0));
        assert!(hold.until().is_some(), "a call from before the pause proves nothing");
        hold.went_well(now);
        hold.too_many(now, None, now);
        assert_eq!(hold.until().unwrap().since(now).as_secs(), 1);
    }
}
