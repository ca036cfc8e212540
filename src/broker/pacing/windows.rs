//! Upwork's sliding second and minute, as they can be known from this side of the wire.
//!
//! In: calls as they are let go, and as their answers come. Out: when the next one may go. It never lets a call go that
//! Upwork could count as one too many, unless the way there takes over [`SLACK`] longer for one call than for another.
//!
//! A call reaches Upwork some time between its release and its answer. It is therefore counted from its *mark*, the moment of its
//! answer, since then it has surely been counted there: two calls a window apart by their marks and releases are a window
//! apart at Upwork too, however long either took. A slow answer must not hold its place for ever, so the mark is never
//! later than `SLACK` after the release.
//!
//! The last third of a minute's budget is spread over what is left of the minute. Otherwise a burst of thirty seconds
//! would be followed by thirty seconds in which nobody may call; the budget of the minute as a whole stays the same.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

/// A second, and what clocks that count in milliseconds may hide.
const SECOND: Duration = Duration::from_millis(1_020);
/// A minute, and what two clocks may drift apart in it.
const MINUTE: Duration = Duration::from_millis(60_100);
/// How much later than its release a call is taken to arrive, at the most.
pub(super) const SLACK: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    id: u64,
}

/// The calls of the last minute.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    per_second: usize,
    per_minute: usize,
    /// By time; no more than one window can hold.
    marks: VecDeque<Mark>,
    released: Option<Timestamp>,
    /// How long after the release the mark was set lately.
    typical: Duration,
}

impl Windows {
    /// None of the two numbers is taken for less than one.
    pub(super) fn new(per_second: u32, per_minute: u32) -> Self {
        let mut windows =
            Self { per_second: 1, per_minute: 1, marks: VecDeque::new(), released: None, typical: Duration::ZERO };
        windows.allow(per_second, per_minute);
        windows
    }

    /// From now on these limits.
    pub(super) fn allow(&mut self, per_second: u32, per_minute: u32) {
        let whole = |number: u32| usize::try_from(number.max(1)).unwrap_or(usize::MAX);
        (self.per_second, self.per_minute) = (whole(per_second), whole(per_minute));
    }

    /// From now on these calls are those of the last minute, by time.
    pub(super) fn replace(&mut self, calls: impl Iterator<Item = (Timestamp, u64)>) {
        self.marks.clear();
        for (at, count) in calls {
            self.marks.extend((0..count).map(|_| Mark { at, id: u64::MAX }));
        }
    }

    /// When a call may go that would go at `now` at the earliest.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let second = self.mark_from_last(self.per_second).map(|mark| mark.plus(SECOND));
        let minute = self.mark_from_last(self.per_minute).map(|mark| mark.plus(MINUTE));
        let free = now.max(second.unwrap_or(now)).max(minute.unwrap_or(now));
        self.spread(free).map_or(free, |spread| free.max(spread))
    }

    /// Where the last third of the minute's budget is reached: a moment between the last release and the one at which the
    /// minute's first call leaves the window, early enough that all that is left can still go before.
    fn spread(&self, now: Timestamp) -> Option<Timestamp> {
        let counted = self.marks.len() - self.marks.partition_point(|mark| mark.at.plus(MINUTE) <= now);
        if counted < self.per_minute - self.per_minute / 3 {
            return None;
        }
        let frees = self.mark_from_last(counted)?.plus(MINUTE);
        let left = u32::try_from(self.per_minute.saturating_sub(counted)).unwrap_or(u32::MAX);
        let released = self.released?;
        Some(released.plus(frees.since(released) / left.saturating_add(1)))
    }

    fn mark_from_last(&self, place: usize) -> Option<Timestamp> {
        self.marks.get(self.marks.len().checked_sub(place)?).map(|mark| mark.at)
    }

    /// The call `id` goes at `now`.
    pub(super) fn release(&mut self, id: u64, now: Timestamp) {
        self.count(Mark { at: now.plus(SLACK), id }, now);
    }

    fn count(&mut self, mark: Mark, now: Timestamp) {
        self.released = Some(now);
        self.insert(mark);
        let most = self.per_second.max(self.per_minute);
        while self.marks.len() > most || self.marks.front().is_some_and(|mark| mark.at.plus(MINUTE) <= now) {
            self.marks.pop_front();
        }
    }

    fn insert(&mut self, mark: Mark) {
        let place = self.marks.partition_point(|other| other.at <= mark.at);
        self.marks.insert(place, mark);
    }

    fn take(&mut self, id: u64) -> Option<Mark> {
        let place = self.marks.iter().rposition(|mark| mark.id == id)?;
        self.marks.remove(place)
    }

    /// The call `id` was answered, or given up.
    pub(super) fn finish(&mut self, id: u64, now: Timestamp) {
        let Some(mark) = self.take(id) else { return };
        let at = mark.at.min(now);
        let took = at.since(mark.at.minus(SLACK));
        self.typical = (self.typical * 7 + took) / 8;
        self.insert(Mark { at, id });
    }

    /// The call `id` was never made.
    pub(super) fn withdraw(&mut self, id: u64) {
        self.take(id);
    }

    /// When a call goes that has `ahead` others before it, if each is answered as fast as lately.
    pub(super) fn forecast(&self, now: Timestamp, ahead: u64) -> Timestamp {
        let mut next = self.next(now);
        if ahead == 0 {
            return next;
        }
        let mut future = self.clone();
        for _ in 0..ahead {
            future.count(Mark { at: next.plus(self.typical), id: u64::MAX }, next);
            next = future.next(next);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Lets calls go as early as possible, each answered after `took` milliseconds.
    fn releases(windows: &mut Windows, count: u64, took: u64) -> Vec<i64> {
        let mut now = at(0);
        let mut open: VecDeque<(u64, Timestamp)> = VecDeque::new();
        let mut released = Vec::new();
        for id in 0..count {
            loop {
                let next = windows.next(now);
                let Some((answered, end)) = open.pop_front_if(|(_, end)| *end <= next) else {
                    now = next;
                    break;
                };
                now = now.max(end);
                windows.finish(answered, end);
            }
            windows.release(id, now);
            open.push_back((id, now.plus(Duration::from_millis(took))));
            released.push(now.millis());
        }
        released
    }

    #[test]
    fn a_burst_is_as_long_as_the_second_allows() {
        let released = releases(&mut Windows::new(10, 300), 21, 0);
        assert_eq!(released.get(9), Some(&0));
        assert_eq!(released.get(10), Some(&1_020));
        assert_eq!(released.get(20), Some(&2_040));
    }

    #[test]
    fn a_call_counts_from_its_answer_but_a_slow_one_not_for_ever() {
        let released = releases(&mut Windows::new(2, 300), 3, 200);
        assert_eq!(released, [0, 0, 1_220]);
        let released = releases(&mut Windows::new(2, 300), 3, 20_000);
        assert_eq!(released, [0, 0, 1_520]);
    }

    #[test]
    fn the_minute_is_never_idle_for_long_and_loses_nothing() {
        for took in [0, 50, 400, 3_000] {
            let released = releases(&mut Windows::new(10, 300), 2_000, took);
            let widest = released.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(widest <= 1_600, "{took}: {widest} ms between two calls");
            let last = *released.last().unwrap();
            // The limit itself allows 2,000 calls in six minutes and nineteen seconds.
            assert!(last <= 379_000 * 105 / 100, "{took}: {last} ms");
        }
    }

    #[test]
    fn a_withdrawn_call_does_not_count() {
        let mut windows = Windows::new(1, 300);
        windows.release(7, at(0));
        assert_eq!(windows.next(at(5)), at(1_520));
        windows.withdraw(7);
        assert_eq!(windows.next(at(5)), at(5));
    }

    #[test]
    fn the_forecast_is_what_then_happens() {
        let mut windows = Windows::new(3, 20);
        let forecast: Vec<i64> = (0..100).map(|ahead| windows.forecast(at(0), ahead).millis()).collect();
        assert_eq!(forecast, releases(&mut windows, 100, 0));
    }

    #[test]
    fn the_smallest_pace_is_one() {
        let released = releases(&mut Windows::new(0, 0), 3, 0);
        assert_eq!(released, [0, 60_100, 120_200]);
    }
}
