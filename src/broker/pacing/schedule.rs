//! Which call goes when: windows, pause, day and line together, without a wire or a task.
//!
//! In: calls, answers, and what the clock says. Out: who goes now, who waits, who is refused. Its time never runs back:
//! when the clock is set back, the difference is added from then on, and only the UTC day follows the clock.

use std::time::Duration;

use super::days::{Days, day_of, rest_of_day};
use super::hold::Hold;
use super::line::{Line, Waiting};
use super::windows::Windows;
use super::{CallerId, Late, Reason};
use crate::broker::Pace;
use crate::clock::Timestamp;

/// Calls of one caller that wait, at the most, however long `pace.wait` is.
const MOST_OF_ONE: usize = 2_000;
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
    line: Line,
    pub(super) days: Days,
    hold: Hold,
    wait: Duration,
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
            line: Line::default(),
            days: Days::new(pace.per_day),
            hold: Hold::default(),
            wait: pace.wait,
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
            None => self.windows.forecast(start, ahead),
            Some(tomorrow) => self.windows.forecast(start.max(moment.midnight()), tomorrow),
        }
    }

    fn late(&self, moment: Moment, caller: &CallerId) -> Late {
        let ahead = self.line.ahead_of(caller);
        let retry_after = self.forecast(moment, ahead).since(moment.now);
        let reason = if self.days.left(day_of(moment.wall)) <= ahead {
            Reason::Day
        } else if self.hold.until().is_some_and(|until| until > moment.now) {
            Reason::Held
        } else {
            Reason::Busy
        };
        Late { reason, retry_after }
    }

    fn go(&mut self, moment: Moment, id: u64, since: Timestamp) -> Go {
        let day = day_of(moment.wall);
        self.windows.release(id, moment.now);
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
        if full || at.since(moment.now) > self.wait {
            return Err(self.late(moment, caller));
        }
        let until = moment.now.plus(self.wait);
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
