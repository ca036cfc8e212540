//! Upwork's limits per address, kept by waiting for one's turn.
//!
//! In: callers. Out: a [`Turn`] each, fair between them and within the limits; or [`Late`], with the time after which
//! another try will do. It never lets a call wait longer than `pace.wait`, and never lets one go while Upwork wants a pause.
//!
//! One [`Pacer`] is shared by all workers. What it decides is in `schedule`, which knows no task; here a task on the
//! control runtime, alive while somebody waits, hands out the turns.
//!
//! The day's count is shared through a store by whoever owns one, each second or so:
//! ```text
//! (day, calls) = pacer.take_unreported()          nothing to tell: ask with 0 for pacer.today()
//! total = store.add_to_counter(day, calls)        failed: pacer.put_back(day, calls)
//! pacer.set_total(day, total)                     also once before the doors open
//! ```
//! With [`Pacer::share`] replicas keep the second and the minute together, too.

mod days;
mod hold;
mod line;
mod schedule;
mod share;
#[cfg(test)]
mod simulation;
mod together;
#[cfg(test)]
mod together_tests;
mod windows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::Pace;
use crate::clock::{SharedClock, Timestamp};
use crate::oauth::upwork;
use crate::telemetry::metrics::{Metrics, PaceRefusal};
pub(crate) use days::Quota;
use schedule::{Asked, Go, LEASE_WAIT, Schedule};

use crate::recent::lock;

/// A call gives up by itself this long after its time, should nobody have told it.
const GRACE: Duration = Duration::from_secs(1);

/// Between whom Upwork's limits are shared fairly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerId {
    /// The service identity: everybody at the neighbour door without a ticket.
    Service,
    /// A person by `user.id`, through whichever session, ticket or token.
    User(Arc<str>),
}

impl CallerId {
    /// The person with this `user.id`.
    pub fn user(id: &str) -> Self {
        Self::User(id.into())
    }
}

/// Why a call did not get its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Others go first.
    Busy,
    /// Upwork answered 429 lately.
    StoredSession,
    /// The day's budget is used up.
    Day,
}

/// A call that would have to wait too long: 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; try again in {} s", reason.text(), self.retry_after_seconds())]
pub struct Late {
    /// Why.
    pub reason: Reason,
    /// After this time a call of this caller would get its turn, as things stand.
    pub retry_after: Duration,
}

impl Reason {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Busy => "too many calls are waiting for their turn under Upwork's limits",
            Self::StoredSession => "Upwork has asked for a pause",
            Self::Day => "today's calls to Upwork are used up",
        }
    }
}

impl Late {
    /// For `Retry-After` (RFC 9110 section 10.2.3): whole seconds, at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        days::whole_seconds(self.retry_after).max(1)
    }
}

/// Deals out turns.
#[derive(Debug)]
pub struct Pacer {
    state: Mutex<State>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    control: Handle,
    changed: Notify,
    /// Somebody waits for a lease.
    wanted: Notify,
    wait: Duration,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Whether the task that hands out turns is alive.
    driven: bool,
}

type Answer = Result<Turn, Late>;

impl Pacer {
    /// Turns are handed out by a task on `control`.
    pub fn new(pace: &Pace, clock: SharedClock, metrics: Arc<Metrics>, control: Handle) -> Arc<Self> {
        let state = State { schedule: Schedule::new(pace), waiting: HashMap::new(), driven: false };
        let (changed, wanted) = (Notify::new(), Notify::new());
        let pacer = Self { state: Mutex::new(state), clock, metrics, control, changed, wanted, wait: pace.wait };
        pacer.metrics.pace_quota_left(pacer.quota().remaining);
        Arc::new(pacer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for the turn of one call; whoever stops waiting gives its place up. A retry is a call of its own.
    pub async fn turn(self: &Arc<Self>, caller: CallerId) -> Result<Turn, Late> {
        let answer = match self.enter(caller) {
            Ok(Entered::Now(go)) => Ok(Turn { pacer: self.clone(), go, open: true }),
            Ok(Entered::Wait(mut place)) => place.answer().await,
            Err(late) => Err(late),
        };
        match &answer {
            Ok(turn) => {
                self.metrics.pace_waited(turn.go.waited);
                self.metrics.pace_quota_left(turn.go.left);
            }
            Err(late) => self.metrics.pace_refused(match late.reason {
                Reason::Busy => PaceRefusal::Busy,
                Reason::StoredSession => PaceRefusal::StoredSession,
                Reason::Day => PaceRefusal::Day,
            }),
        }
        answer
    }

    fn enter(self: &Arc<Self>, caller: CallerId) -> Result<Entered, Late> {
        let now = self.clock.now();
        let mut state = self.lock();
        let id = match state.schedule.ask(&caller, now)? {
            Asked::Now(go) => return Ok(Entered::Now(go)),
            Asked::Wait(id) => id,
        };
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(id, sender);
        let driven = std::mem::replace(&mut state.driven, true);
        let shared = state.schedule.is_shared();
        drop(state);
        if shared {
            self.wanted.notify_one();
        }
        if driven {
            // The clock may have been turned under the sleeping task.
            self.changed.notify_one();
        } else {
            self.control.spawn(self.clone().drive());
        }
        Ok(Entered::Wait(Place {
            pacer: self.clone(),
            caller,
            id,
            answer,
            until: now.plus(self.wait.max(LEASE_WAIT) + GRACE),
        }))
    }

    async fn drive(self: Arc<Self>) {
        while let Some(again) = self.step() {
            tokio::select! {
                () = self.clock.sleep_until(again) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Hands out what is due; the moment of the next look, or `None` when nobody waits.
    fn step(self: &Arc<Self>) -> Option<Timestamp> {
        let mut answers = Vec::new();
        let mut state = self.lock();
        let step = state.schedule.step(self.clock.now());
        for go in step.go {
            let sender = state.waiting.remove(&go.id);
            answers.push((sender, Ok(Turn { pacer: self.clone(), go, open: true })));
        }
        for (id, late) in step.late {
            answers.push((state.waiting.remove(&id), Err(late)));
        }
        state.driven = step.again.is_some();
        let wants = state.driven && state.schedule.is_shared();
        drop(state);
        if wants {
            // What went may have made room for the next leases.
            self.wanted.notify_one();
        }
        // Outside the lock, since a turn that nobody takes locks it.
        for (sender, answer) in answers {
            let unheard = match sender {
                Some(sender) => sender.send(answer).err(),
                None => Some(answer),
            };
            if let Some(Ok(turn)) = unheard {
                turn.give_back();
            }
        }
        step.again
    }

    /// What is left of the day.
    pub fn quota(&self) -> Quota {
        self.lock().schedule.days.quota(self.clock.now())
    }

    /// The number of this UTC day, counted from 1970-01-01.
    pub fn today(&self) -> i64 {
        days::day_of(self.clock.now())
    }

    /// The calls of a UTC day, as far as is known here.
    pub fn day_used(&self, day: i64) -> u64 {
        self.lock().schedule.days.used(day)
    }

    /// A day, and how many calls of it no store has been told of; each call is handed out once. `None`: nothing to tell.
    pub fn take_unreported(&self) -> Option<(i64, u64)> {
        self.lock().schedule.days.take_unreported()
    }

    /// What [`Pacer::take_unreported`] gave could not be told.
    pub fn put_back(&self, day: i64, calls: u64) {
        self.lock().schedule.days.put_back(day, calls);
    }

    /// What the store counts for a UTC day, over all replicas.
    pub fn set_total(&self, day: i64, total: u64) {
        self.lock().schedule.days.set_total(day, total);
        self.metrics.pace_quota_left(self.quota().remaining);
        self.changed.notify_one();
    }
}

enum Entered {
    Now(Go),
    Wait(Place),
}

/// A place in the line, given up when dropped.
struct Place {
    pacer: Arc<Pacer>,
    caller: CallerId,
    id: u64,
    answer: oneshot::Receiver<Answer>,
    until: Timestamp,
}

impl Place {
    async fn answer(&mut self) -> Answer {
        let answer = tokio::select! {
            biased;
            answer = &mut self.answer => answer.ok(),
            () = self.pacer.clock.sleep_until(self.until) => None,
        };
        answer.unwrap_or(Err(Late { reason: Reason::Busy, retry_after: GRACE }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.answer.close();
        // A turn that came in the last moment goes to somebody else.
        if let Ok(Ok(turn)) = self.answer.try_recv() {
            turn.give_back();
        }
        let mut state = self.pacer.lock();
        state.schedule.leave(&self.caller, self.id);
        state.waiting.remove(&self.id);
    }
}

/// Leave to make one call. Keep it until the head of the answer is there: the call counts from then on.
#[must_use = "a turn that is dropped at once counts as a call"]
#[derive(Debug)]
pub struct Turn {
    pacer: Arc<Pacer>,
    go: Go,
    open: bool,
}

impl Turn {
    /// How long the call waited.
    pub fn waited(&self) -> Duration {
        self.go.waited
    }

    /// Upwork has answered. A 429 holds everybody up for as long as it says, or for a while that doubles.
    pub fn answered(self, status: StatusCode, headers: &HeaderMap) {
        let now = self.pacer.clock.now();
        let mut state = self.pacer.lock();
        if status == StatusCode::TOO_MANY_REQUESTS {
            state.schedule.too_many(&self.go, upwork::retry_after(headers), now);
        } else {
            state.schedule.went_well(&self.go);
        }
    }

    /// The call was never sent, and does not count.
    pub fn give_back(mut self) {
        self.open = false;
        self.pacer.lock().schedule.withdraw(&self.go);
        self.pacer.changed.notify_one();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let now = self.pacer.clock.now();
        let mut state = self.pacer.lock();
        state.schedule.finish(&self.go, now);
        let waiting = !state.schedule.is_idle();
        drop(state);
        if waiting {
            self.pacer.changed.notify_one();
        }
    }
}
