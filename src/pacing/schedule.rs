//! Decides which call is sent when, from windows, pause, daily quota and queue, without network or tasks.
//!
//! Takes calls, answers and the time; decides which calls are released, wait, or are refused. Its own time never runs
//! backwards: if the clock is set back, the difference is added from then on, and only the UTC day follows the clock.

use std::time::Duration;

use super::limits::{CallerId, Pace, RateLimited};
use super::pause::Pause;
use super::queue::{FairQueue, QueuedCall};
use super::quota::{DailyCounts, day_of, until_midnight};
use super::replicas::{HEARTBEAT, ModeChange, Reservation, SharedBudget};
use super::windows::{SLACK, SlidingWindows};
use crate::clock::Timestamp;
use crate::store::{RateReply, RateRequest};
use crate::telemetry::metrics::PaceRefusal;

/// Maximum number of waiting calls of one caller, however long `pace.wait` is.
const MAX_QUEUED_OF_CALLER: usize = 2_000;
/// Maximum number of waiting calls.
const MAX_QUEUED: usize = 20_000;
/// With replicas a call waits this long for the store, even if `pace.wait` is shorter.
pub(super) const STORE_WAIT: Duration = Duration::from_secs(4);

/// A call that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub id: u64,
    /// When it was released, in the schedule's own time.
    pub(super) at: Timestamp,
    /// The UTC day on which it counts.
    pub(super) day: i64,
    pub(super) waited: Duration,
}

/// The decision about a new call.
#[derive(Debug)]
pub enum Admission {
    Released(Release),
    Queued(u64),
}

/// The changes since the last step.
#[derive(Debug, Default)]
pub struct Step {
    /// By the id under which the call was queued.
    pub released: Vec<(u64, Release)>,
    pub(super) refused: Vec<(u64, RateLimited)>,
    /// When to check again; `None` if no call waits.
    pub(super) again: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    /// This replica's calls; those of all replicas while they share the limits.
    windows: SlidingWindows,
    /// Set if other replicas share the limits.
    shared: Option<SharedBudget>,
    pace: Pace,
    queue: FairQueue,
    pub(super) days: DailyCounts,
    pause: Pause,
    next_id: u64,
    /// The latest moment seen, and what is added to the clock.
    latest: Timestamp,
    added: Duration,
}

/// One moment in the schedule's own time and by the clock.
#[derive(Clone, Copy)]
struct Moment {
    now: Timestamp,
    wall: Timestamp,
}

impl Moment {
    fn midnight(self) -> Timestamp {
        self.now.plus(until_midnight(self.wall))
    }

    fn wall_at(self, at: Timestamp) -> Timestamp {
        self.wall.plus(at.since(self.now))
    }
}

impl Schedule {
    pub fn new(pace: &Pace) -> Self {
        Self {
            windows: SlidingWindows::new(pace.per_second, pace.per_minute),
            shared: None,
            pace: *pace,
            queue: FairQueue::default(),
            days: DailyCounts::new(pace.per_day),
            pause: Pause::default(),
            // 0 is a call of another replica.
            next_id: 1,
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

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// When a call with `ahead` others before it is sent, if its kind has `left` calls left today.
    fn forecast(&self, moment: Moment, ahead: u64, left: u64) -> Timestamp {
        let start = self.pause.until().map_or(moment.now, |until| until.max(moment.now));
        let reservation = self.reservation(moment.now);
        let Some(ahead) = ahead.checked_sub(u64::from(reservation.is_some())) else {
            return reservation.map_or(start, |reservation| reservation.at);
        };
        let (start, ahead) = match ahead.checked_sub(left) {
            None => (start, ahead),
            Some(tomorrow) => (start.max(moment.midnight()), tomorrow),
        };
        let Some(shared) = &self.shared else { return self.windows.forecast(start, ahead) };
        let start = start.max(shared.not_before().unwrap_or(start));
        self.windows.forecast(start, shared.ahead_of_all(ahead, &self.windows, moment.now))
    }

    /// The store's reservation, while it can be used: a late call could count too late.
    fn reservation(&self, now: Timestamp) -> Option<Reservation> {
        let reservation = self.shared.as_ref()?.reservation()?;
        let paused = self.pause.until().is_some_and(|until| until > reservation.at.max(now));
        (!paused && now <= reservation.until).then_some(reservation)
    }

    fn reserves(&self) -> bool {
        self.shared.as_ref().is_some_and(SharedBudget::reserves)
    }

    fn rate_limited(&self, moment: Moment, caller: &CallerId) -> RateLimited {
        let ahead = self.queue.ahead_of(caller);
        let left = self.days.left_for(day_of(moment.wall), caller);
        let retry_after = self.forecast(moment, ahead, left).since(moment.now);
        let unreserved = ahead.checked_sub(u64::from(self.reservation(moment.now).is_some()));
        let reason = if unreserved.is_some_and(|ahead| left <= ahead) {
            PaceRefusal::Day
        } else if self.pause.until().is_some_and(|until| until > moment.now) {
            PaceRefusal::Paused
        } else {
            PaceRefusal::Busy
        };
        RateLimited { reason, retry_after }
    }

    fn release(&mut self, moment: Moment, caller: &CallerId, queued: u64, since: Timestamp) -> Release {
        self.pause.released(moment.now);
        let day = day_of(moment.wall);
        if matches!(caller, CallerId::SignIn(_)) {
            self.days.count_sign_in(day);
        }
        let reserved = self.shared.as_mut().and_then(SharedBudget::take_reservation);
        if reserved.is_none() {
            self.windows.release(queued, moment.now);
            self.days.add(day);
            if let Some(shared) = &mut self.shared {
                shared.count(queued, moment.now.plus(SLACK));
            }
        }
        Release {
            id: reserved.map_or(queued, |reservation| reservation.id),
            at: moment.now,
            day,
            waited: moment.now.since(since),
        }
    }

    /// A new call. It is refused at once if it would have to wait too long.
    pub fn admit(&mut self, caller: &CallerId, wall: Timestamp) -> Result<Admission, RateLimited> {
        let moment = self.read(wall);
        let ahead = self.queue.ahead_of(caller);
        let left = self.days.left_for(day_of(moment.wall), caller);
        let at = self.forecast(moment, ahead, left);
        let id = self.new_id();
        if at <= moment.now && self.queue.is_empty() && !self.reserves() {
            return Ok(Admission::Released(self.release(moment, caller, id, moment.now)));
        }
        let full = self.queue.len() >= MAX_QUEUED || self.queue.len_of(caller) >= MAX_QUEUED_OF_CALLER;
        let wait = self.wait(caller);
        if full || at.since(moment.now) > wait {
            return Err(self.rate_limited(moment, caller));
        }
        let until = moment.now.plus(wait);
        self.queue.push(caller.clone(), QueuedCall { id, since: moment.now, until });
        Ok(Admission::Queued(id))
    }

    /// Releases the calls that may go, and refuses those that cannot go in time any more.
    pub fn step(&mut self, wall: Timestamp) -> Step {
        let moment = self.read(wall);
        let mut step = Step::default();
        while self.is_due(moment) {
            let Some((caller, QueuedCall { id, since, .. })) = self.queue.pop() else { break };
            step.released.push((id, self.release(moment, &caller, id, since)));
        }
        let next = self.next(moment);
        for (caller, calls) in self.queue.remove_due_before(next) {
            let refusal = self.rate_limited(moment, &caller);
            step.refused.extend(calls.into_iter().map(|call| (call.id, refusal)));
        }
        // The store's reply is also a reason to check.
        let asks = self.reserves() && self.reservation(moment.now).is_none();
        let again = if asks { moment.now.plus(HEARTBEAT) } else { next };
        step.again = (!self.queue.is_empty()).then(|| moment.wall_at(again));
        step
    }

    fn is_due(&self, moment: Moment) -> bool {
        if self.reserves() {
            self.reservation(moment.now).is_some_and(|reservation| reservation.at <= moment.now)
        } else {
            self.next(moment) <= moment.now
        }
    }

    /// When the next call is sent. Waiting calls were admitted, so they may use the rest of the day.
    fn next(&self, moment: Moment) -> Timestamp {
        self.forecast(moment, 0, self.days.left(day_of(moment.wall)))
    }

    fn wait(&self, caller: &CallerId) -> Duration {
        let wait = caller.wait(self.pace.wait);
        if self.shared.is_some() { wait.max(STORE_WAIT) } else { wait }
    }

    /// The longest that any call in the queue waits.
    fn patience(&self) -> Duration {
        let callers = self.wait(&CallerId::Service);
        if self.queue.has_own() { callers.max(self.wait(&CallerId::Refresh)) } else { callers }
    }

    /// Starts sharing the limits with other replicas; `replica` is the name of this one.
    pub fn share(&mut self, replica: String) {
        self.shared = Some(SharedBudget::new(self.pace, replica));
    }

    /// The request to the store, or when to check again.
    pub fn request(&mut self, wall: Timestamp) -> Result<RateRequest, Timestamp> {
        let (moment, id, patience) = (self.read(wall), self.new_id(), self.patience());
        let usable = !self.queue.is_empty() && self.reservation(moment.now).is_some();
        let pause = self.pause.until().unwrap_or(moment.now);
        let Some(shared) = &mut self.shared else { return Err(wall.plus(HEARTBEAT)) };
        if !usable {
            shared.cancel_reservation(&mut self.windows);
        }
        let own = if shared.keeps_to_its_part() { self.windows.next(moment.now) } else { moment.now };
        let earliest = (!self.queue.is_empty()).then(|| own.max(pause));
        let mut request = shared.request(moment.now, earliest, id, patience).map_err(|again| moment.wall_at(again))?;
        request.unreported = self.days.take_unreported();
        Ok(request)
    }

    /// Processes the store's reply; `None` if it is down.
    pub fn replied(&mut self, request: RateRequest, reply: Option<&RateReply>, wall: Timestamp) -> Option<ModeChange> {
        let Moment { now, .. } = self.read(wall);
        let shared = self.shared.as_mut()?;
        if let Some(reply) = reply {
            self.days.set_total(reply.day, reply.used);
            return shared.replied(&request, reply, &mut self.windows, now);
        }
        if let Some((day, calls)) = request.unreported {
            self.days.put_back(day, calls);
        }
        shared.failed(request, &mut self.windows, now)
    }

    /// A queued call stopped waiting.
    pub(super) fn leave(&mut self, caller: &CallerId, id: u64) {
        self.queue.remove(caller, id);
    }

    /// A call was answered, or its caller stopped waiting for the answer.
    pub fn finish(&mut self, release: &Release, wall: Timestamp) {
        let moment = self.read(wall);
        self.windows.finish(release.id, moment.now);
        if let Some(shared) = &mut self.shared {
            shared.count(release.id, moment.now.min(release.at.plus(SLACK)));
        }
    }

    /// A released call was not made.
    pub(super) fn cancel(&mut self, release: &Release) {
        self.windows.cancel(release.id);
        if self.shared.as_mut().is_none_or(|shared| shared.forget(release.id)) {
            self.days.cancel(release.day);
        }
    }

    /// A call was answered with 429.
    pub(super) fn too_many(&mut self, release: &Release, retry_after: Option<Duration>, wall: Timestamp) {
        let moment = self.read(wall);
        self.pause.too_many(release.at, retry_after, moment.now);
    }

    /// A call was answered with anything else.
    pub(super) fn succeeded(&mut self, release: &Release) {
        self.pause.succeeded(release.at);
    }

    /// How many calls wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether no call waits.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
}
