//! Which call goes when: windows, pause, day and line together, without a wire or a task.
//!
//! In: calls, answers, and what the clock says. Out: who goes now, who waits, who is refused. Its time never runs back:
//! when the clock is set back, the difference is added from then on, and only the UTC day follows the clock.

use std::time::Duration;

use super::days::{Days, day_of, rest_of_day};
use super::hold::Hold;
use super::line::{Line, Waiting};
use super::share::{Errand, Share};
use super::windows::Windows;
use super::{CallerId, Late, Reason};
use crate::broker::Pace;
use crate::clock::Timestamp;

/// Calls of one caller that wait, at the most, however long `pace.wait` is.
const MOST_OF_ONE: usize = 2_000;
/// With replicas a call waits for its lease, even where `pace.wait` is nothing.
pub(super) const LEASE_WAIT: Duration = Duration::from_secs(4);
/// Calls that wait, at the most.
const MOST_OF_ALL: usize = 20_000;

/// A call that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Go {
    pub(super) id: u64,
    /// When, in the schedule's own time.
    pub(super) released: Timestamp,
    /// On which UTC day it counts.
    pub(super) day: i64,
    pub(super) waited: Duration,
    /// Calls left of that day, this one not counted.
    pub(super) left: u64,
}

/// What becomes of a new call.
#[derive(Debug)]
pub(super) enum Asked {
    /// It goes at once.
    Now(Go),
    /// It stands in the line.
    Wait(u64),
}

/// What has come about since the last look.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) go: Vec<Go>,
    pub(super) late: Vec<(u64, Late)>,
    /// When to look again; `None`: nobody waits.
    pub(super) again: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Schedule {
    windows: Windows,
    /// Where other replicas share the second and the minute.
    share: Option<Share>,
    pace: Pace,
    line: Line,
    pub(super) days: Days,
    hold: Hold,
    next_id: u64,
    /// The latest moment that was told, and what is added to the clock.
    latest: Timestamp,
    added: Duration,
}

/// One moment, as the schedule and as the clock tell it.
#[derive(Clone, Copy)]
struct Moment {
    now: Timestamp,
    wall: Timestamp,
}

impl Moment {
    fn midnight(self) -> Timestamp {
        self.now.plus(rest_of_day(self.wall))
    }
}

impl Schedule {
    pub(super) fn new(pace: &Pace) -> Self {
        Self {
            windows: Windows::new(pace.per_second, pace.per_minute),
            share: None,
            pace: *pace,
            line: Line::default(),
            days: Days::new(pace.per_day),
            hold: Hold::default(),
            next_id: 0,
            latest: Timestamp::from_millis(i64::MIN),
            added: Duration::ZERO,
        }
    }

    fn read(&mut self, wall: Timestamp) -> Moment {
        let now = wall.plus(self.added);
        self.added += self.latest.since(now);
        self.latest = self.latest.max(now);
        Moment { now: self.latest, wall }
    }

    /// When a call with `ahead` others before it goes.
    fn forecast(&self, moment: Moment, ahead: u64) -> Timestamp {
        let start = self.hold.until().map_or(moment.now, |until| until.max(moment.now));
        match ahead.checked_sub(self.days.left(day_of(moment.wall))) {
            None => self.earliest(moment, start, ahead),
            Some(tomorrow) => self.earliest(moment, start.max(moment.midnight()), tomorrow),
        }
    }

    fn earliest(&self, moment: Moment, start: Timestamp, ahead: u64) -> Timestamp {
        let Some(share) = self.share.as_ref().filter(|share| !share.alone()) else {
            return self.windows.forecast(start, ahead);
        };
        // Counters are of the clock's seconds.
        let wall = moment.wall.plus(start.since(moment.now));
        let leased = start.plus(share.forecast(wall, ahead).since(wall));
        if share.careful(moment.wall) { leased.max(self.windows.forecast(start, ahead)) } else { leased }
    }

    fn late(&self, moment: Moment, caller: &CallerId) -> Late {
        let ahead = self.line.ahead_of(caller);
        let retry_after = self.forecast(moment, ahead).since(moment.now);
        let reason = if self.days.left(day_of(moment.wall)) <= ahead {
            Reason::Day
        } else if self.hold.until().is_some_and(|until| until > moment.now) {
            Reason::StoredSession
        } else {
            Reason::Busy
        };
        Late { reason, retry_after }
    }

    fn go(&mut self, moment: Moment, id: u64, since: Timestamp) -> Go {
        let day = day_of(moment.wall);
        self.windows.release(id, moment.now);
        if let Some(share) = &mut self.share {
            share.take(moment.wall);
        }
        self.days.add(day);
        Go { id, released: moment.now, day, waited: moment.now.since(since), left: self.days.left(day) }
    }

    /// A new call. It is refused at once where its turn would come too late.
    pub(super) fn ask(&mut self, caller: &CallerId, wall: Timestamp) -> Result<Asked, Late> {
        let moment = self.read(wall);
        let ahead = self.line.ahead_of(caller);
        let at = self.forecast(moment, ahead);
        let full = self.line.len() >= MOST_OF_ALL || self.line.of(caller) >= MOST_OF_ONE;
        let id = self.next_id;
        self.next_id += 1;
        if at <= moment.now && self.line.is_empty() {
            return Ok(Asked::Now(self.go(moment, id, moment.now)));
        }
        if full || at.since(moment.now) > self.wait() {
            return Err(self.late(moment, caller));
        }
        let until = moment.now.plus(self.wait());
        self.line.push(caller.clone(), Waiting { id, since: moment.now, until });
        Ok(Asked::Wait(id))
    }

    /// Lets go whoever may go, and refuses whoever cannot be served in time any more.
    pub(super) fn step(&mut self, wall: Timestamp) -> Step {
        let moment = self.read(wall);
        let mut step = Step::default();
        let mut next = self.forecast(moment, 0);
        while next <= moment.now {
            let Some(Waiting { id, since, .. }) = self.line.pop() else { break };
            step.go.push(self.go(moment, id, since));
            next = self.forecast(moment, 0);
        }
        for (caller, calls) in self.line.remove_due_before(next) {
            let late = self.late(moment, &caller);
            step.late.extend(calls.into_iter().map(|call| (call.id, late)));
        }
        step.again = (!self.line.is_empty()).then(|| wall.plus(next.since(moment.now)));
        step
    }

    fn wait(&self) -> Duration {
        if self.share.is_some() { self.pace.wait.max(LEASE_WAIT) } else { self.pace.wait }
    }

    /// From now on the second and the minute are shared with other replicas.
    pub(super) fn share(&mut self) {
        self.share = Some(Share::new(self.pace.per_second, self.pace.per_minute));
    }

    /// Whether replicas share.
    pub(super) fn is_shared(&self) -> bool {
        self.share.is_some()
    }

    /// Whether it shares, and keeps to its part all the same.
    #[cfg(test)]
    pub(super) fn is_careful(&self, wall: Timestamp) -> bool {
        self.share.as_ref().is_some_and(|share| !share.alone() && share.careful(wall))
    }

    /// What is to be asked of the shared counters, or when to look again for it.
    pub(super) fn errand(&mut self, wall: Timestamp) -> Result<Errand, Timestamp> {
        let moment = self.read(wall);
        let held = self.hold.until().is_some_and(|until| until > moment.now);
        let free = if held { 0 } else { self.days.left(day_of(wall)) };
        let mut waiting = free.min(self.line.len() as u64);
        let Some(share) = &mut self.share else { return Err(wall.plus(LEASE_WAIT)) };
        if share.careful(wall) {
            // More than may go now would be claimed for nothing.
            waiting = waiting.min(u64::from(self.windows.next(moment.now) <= moment.now));
        }
        share.errand(wall, waiting).ok_or_else(|| share.next_errand(wall, !self.line.is_empty()))
    }

    /// What came of an errand; none where the store is down. The answer is whether this replica is by itself, where that
    /// has changed.
    pub(super) fn told(&mut self, errand: &Errand, sums: Option<&[u64]>, wall: Timestamp) -> Option<bool> {
        let share = self.share.as_mut()?;
        let changed = share.told(errand, sums, wall);
        let (per_second, per_minute) =
            if share.careful(wall) { share.part() } else { (self.pace.per_second, self.pace.per_minute) };
        self.windows.allow(per_second, per_minute);
        if changed && share.alone() {
            // What others have used lately is this replica's too, for its part.
            let now = wall.plus(self.added);
            let moved = |at: Timestamp| now.plus(at.since(wall)).minus(wall.since(at));
            self.windows.replace(share.part_used(wall).map(|(at, calls)| (moved(at), calls)));
        }
        changed.then_some(share.alone())
    }

    /// A call that waited gave up.
    pub(super) fn leave(&mut self, caller: &CallerId, id: u64) {
        self.line.remove(caller, id);
    }

    /// A call was answered, or given up on the way.
    pub(super) fn finish(&mut self, go: &Go, wall: Timestamp) {
        let moment = self.read(wall);
        self.windows.finish(go.id, moment.now);
    }

    /// A call that might have gone never went.
    pub(super) fn withdraw(&mut self, go: &Go) {
        self.windows.withdraw(go.id);
        self.days.take_back(go.day);
    }

    /// A call was answered 429.
    pub(super) fn too_many(&mut self, go: &Go, retry_after: Option<Duration>, wall: Timestamp) {
        let moment = self.read(wall);
        self.hold.too_many(go.released, retry_after, moment.now);
    }

    /// A call was answered anything else.
    pub(super) fn went_well(&mut self, go: &Go) {
        self.hold.went_well(go.released);
    }

    /// Whether nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty()
    }
}
