//! Upwork's sliding windows of a second and a minute, as far as they are known on this side of the network.
//!
//! Takes calls as they are released and as their answers arrive; returns when the next one may be sent. No call is sent
//! that could exceed Upwork's count, unless the transfer of one call takes over [`SLACK`] longer than that of another.
//!
//! A call reaches Upwork some time between its release and its answer. It is therefore counted from its *mark*, the
//! moment of its answer, since by then Upwork has counted it: two calls that are a window apart by their marks and
//! releases are a window apart at Upwork too, however long either took. A slow answer must not block the window
//! forever, so the mark is at most `SLACK` after the release.
//!
//! The last third of a minute's budget is spread over the rest of the minute. Otherwise a burst of thirty seconds would
//! be followed by thirty seconds without any call. The budget of the whole minute stays the same.
//!
//! `src/store/valkey/rate_limit.lua` has the same windows for all replicas together.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

/// A second, plus the rounding of clocks that count in milliseconds.
pub(super) const SECOND: Duration = Duration::from_millis(1_020);
/// A minute, plus the drift of two clocks within it.
pub(super) const MINUTE: Duration = Duration::from_millis(60_100);
/// A call is assumed to arrive at most this long after its release.
pub(super) const SLACK: Duration = Duration::from_millis(500);
/// The id of another replica's call.
pub(super) const FOREIGN: u64 = 0;

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    id: u64,
}

/// The calls of the last minute.
#[derive(Clone, Debug)]
pub(super) struct SlidingWindows {
    per_second: usize,
    per_minute: usize,
    /// By time; at most as many as fit into one window.
    marks: VecDeque<Mark>,
    released: Option<Timestamp>,
    /// How long after their release recent calls were marked.
    typical: Duration,
}

impl SlidingWindows {
    /// A limit of 0 counts as 1.
    pub(super) fn new(per_second: u32, per_minute: u32) -> Self {
        let limit = |number: u32| usize::try_from(number.max(1)).unwrap_or(usize::MAX);
        Self {
            per_second: limit(per_second),
            per_minute: limit(per_minute),
            marks: VecDeque::new(),
            released: None,
            typical: Duration::ZERO,
        }
    }

    /// Replaces the calls of the last minute, by time.
    pub(super) fn replace(&mut self, calls: impl Iterator<Item = (Timestamp, u64)>) {
        self.marks = calls.map(|(at, id)| Mark { at, id }).collect();
        self.released = self.released.max(self.marks.back().map(|mark| mark.at.minus(SLACK)));
    }

    /// The windows of one of `replicas`: its part of the limits and of the calls. Since the last count, the others may
    /// have sent as many calls as fit into a second.
    pub(super) fn part(&self, replicas: u64, now: Timestamp) -> Self {
        let replicas = usize::try_from(replicas.max(1)).unwrap_or(usize::MAX);
        let part = |limit: usize| (limit / replicas).max(1);
        let mut windows = Self { per_second: part(self.per_second), per_minute: part(self.per_minute), ..self.clone() };
        windows.marks = self.marks.iter().step_by(replicas).copied().collect();
        for _ in 0..self.per_second.div_ceil(replicas) {
            windows.insert(Mark { at: now.plus(SLACK), id: FOREIGN });
        }
        windows
    }

    /// How many calls of the last minute are not ours.
    pub(super) fn foreign(&self, now: Timestamp) -> u64 {
        self.marks.iter().filter(|mark| mark.id == FOREIGN && mark.at.plus(MINUTE) > now).count() as u64
    }

    /// When a call may be sent, at the earliest `now`.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let second = self.mark_from_last(self.per_second).map(|mark| mark.plus(SECOND));
        let minute = self.mark_from_last(self.per_minute).map(|mark| mark.plus(MINUTE));
        let free = now.max(second.unwrap_or(now)).max(minute.unwrap_or(now));
        self.spread(free).map_or(free, |spread| free.max(spread))
    }

    /// If the last third of the minute's budget is reached: a moment between the last release and the time when the
    /// minute's first call leaves the window, early enough that the rest can still be sent before.
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

    fn mark_from_last(&self, position: usize) -> Option<Timestamp> {
        self.marks.get(self.marks.len().checked_sub(position)?).map(|mark| mark.at)
    }

    /// The call `id` is sent at `now`.
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
        // Searched from the end: only calls in transit to Upwork are later.
        let before = self.marks.iter().rposition(|other| other.at <= mark.at);
        self.marks.insert(before.map_or(0, |before| before + 1), mark);
    }

    fn take(&mut self, id: u64) -> Option<Mark> {
        let position = self.marks.iter().rposition(|mark| mark.id == id)?;
        self.marks.remove(position)
    }

    /// The call `id` was answered, or its caller stopped waiting.
    pub(super) fn finish(&mut self, id: u64, now: Timestamp) {
        let Some(mark) = self.take(id) else { return };
        let at = mark.at.min(now);
        let took = at.since(mark.at.minus(SLACK));
        self.typical = (self.typical * 7 + took) / 8;
        self.insert(Mark { at, id });
    }

    /// The call `id` was never made.
    pub(super) fn cancel(&mut self, id: u64) {
        self.take(id);
    }

    /// When a call with `ahead` others before it is sent, if each is answered as fast as recent ones.
    pub(super) fn forecast(&self, now: Timestamp, ahead: u64) -> Timestamp {
        let mut next = self.next(now);
        if ahead == 0 {
            return next;
        }
        let mut future = self.clone();
        for _ in 0..ahead {
            future.count(Mark { at: next.plus(self.typical), id: FOREIGN }, next);
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

    /// Sends calls as early as possible, each answered after `took` milliseconds.
    fn releases(windows: &mut SlidingWindows, count: u64, took: u64) -> Vec<i64> {
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
        let released = releases(&mut SlidingWindows::new(10, 300), 21, 0);
        assert_eq!(released.get(9), Some(&0));
        assert_eq!(released.get(10), Some(&1_020));
        assert_eq!(released.get(20), Some(&2_040));
    }

    #[test]
    fn a_call_counts_from_its_answer_and_a_slow_one_soon_after_its_release() {
        let released = releases(&mut SlidingWindows::new(2, 300), 3, 200);
        assert_eq!(released, [0, 0, 1_220]);
        let released = releases(&mut SlidingWindows::new(2, 300), 3, 20_000);
        assert_eq!(released, [0, 0, 1_520]);
    }

    #[test]
    fn the_minute_is_never_idle_for_long_and_uses_its_whole_budget() {
        for took in [0, 50, 400, 3_000] {
            let released = releases(&mut SlidingWindows::new(10, 300), 2_000, took);
            let widest = released.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(widest <= 1_600, "{took}: {widest} ms between two calls");
            let last = *released.last().unwrap();
            // The limit itself allows 2,000 calls in six minutes and nineteen seconds.
            assert!(last <= 379_000 * 105 / 100, "{took}: {last} ms");
        }
    }

    #[test]
    fn a_cancelled_call_does_not_count() {
        let mut windows = SlidingWindows::new(1, 300);
        windows.release(7, at(0));
        assert_eq!(windows.next(at(5)), at(1_520));
        windows.cancel(7);
        assert_eq!(windows.next(at(5)), at(5));
    }

    #[test]
    fn the_forecast_comes_true() {
        let mut windows = SlidingWindows::new(3, 20);
        let forecast: Vec<i64> = (0..100).map(|ahead| windows.forecast(at(0), ahead).millis()).collect();
        assert_eq!(forecast, releases(&mut windows, 100, 0));
    }

    #[test]
    fn calls_of_other_replicas_may_still_be_in_transit() {
        assert_eq!(SlidingWindows::new(2, 300).part(2, at(0)).next(at(0)), at(1_520));
    }

    #[test]
    fn the_smallest_limit_is_one() {
        let released = releases(&mut SlidingWindows::new(0, 0), 3, 0);
        assert_eq!(released, [0, 60_100, 120_200]);
    }
}
