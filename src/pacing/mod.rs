//! Keeps to Upwork's limits per address by making calls wait for their turn.
//!
//! Takes callers; returns a [`Permit`] for each call, fair between callers and within the limits, or [`RateLimited`]
//! with the time after which another try will succeed. It never makes a call wait longer than `pace.wait`, and never
//! releases one while Upwork wants a pause.
//!
//! All workers share one [`Pacer`]. `schedule` decides, without tasks; a task on the control runtime, which runs while
//! a call waits, issues the permits.
//!
//! Without other replicas, the store keeps the day's count, updated about once a second:
//! ```text
//! (day, calls) = pacer.take_unreported()          nothing to report: add 0 for pacer.today()
//! total = store.add_to_counter(day, calls)        failed: pacer.put_back(day, calls)
//! pacer.set_total(day, total)                     also once before the doors open
//! ```
//! With [`Pacer::share`], all replicas of a store share one budget for the second, the minute and the day.

mod limits;
mod pause;
mod queue;
mod quota;
mod replicas;
mod schedule;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderValue, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::clock::{SharedClock, Timestamp};
use crate::recent::lock;
use crate::seal::random;
use crate::store::{RateReply, RateRequest, StoreError};
pub use crate::telemetry::metrics::PaceRefusal;
use crate::telemetry::metrics::{Metrics, Observed};
pub(crate) use limits::OWN_WAIT;
pub use limits::{CallerId, Pace, RateLimited};
pub(crate) use quota::Quota;
use replicas::ModeChange;
use schedule::STORE_WAIT;
pub use schedule::{Admission, Release, Schedule};

/// How long after its time a forgotten call in the queue gives up.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Pacer {
    state: Mutex<State>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    control: Handle,
    /// Wakes the task that issues permits.
    changed: Notify,
    /// Wakes the task that asks the store: a call waits for a reservation.
    wanted: Notify,
    wait: Duration,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    /// Whether the task that issues permits is running.
    driven: bool,
}

type Outcome = Result<Permit, RateLimited>;

impl Pacer {
    /// A task on `control` issues the permits.
    pub fn new(pace: &Pace, clock: SharedClock, metrics: Arc<Metrics>, control: Handle) -> Arc<Self> {
        let state = State { schedule: Schedule::new(pace), waiting: HashMap::new(), driven: false };
        let (changed, wanted) = (Notify::new(), Notify::new());
        let pacer = Self { state: Mutex::new(state), clock, metrics, control, changed, wanted, wait: pace.wait };
        let pacer = Arc::new(pacer);
        pacer.observe(Observed::PaceQueue, |pacer| pacer.lock().schedule.queued() as u64);
        pacer.observe(Observed::PaceQuota, |pacer| pacer.quota().limit);
        pacer.observe(Observed::PaceQuotaLeft, |pacer| pacer.quota().remaining);
        pacer
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; a day has far fewer than 2^53 calls")]
    fn observe(self: &Arc<Self>, observed: Observed, read: impl Fn(&Self) -> u64 + Send + Sync + 'static) {
        let pacer = Arc::downgrade(self);
        self.metrics.observe(observed, move || pacer.upgrade().map(|pacer| read(&pacer) as f64));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for the permit of one call; dropping the future gives up the place in the queue. A retry is another call.
    pub async fn acquire(self: &Arc<Self>, caller: CallerId) -> Result<Permit, RateLimited> {
        let outcome = self.wait_for_permit(caller).await;
        match &outcome {
            Ok(permit) => self.metrics.pace_waited(permit.release.waited),
            Err(refusal) => self.metrics.pace_refused(refusal.reason),
        }
        outcome
    }

    fn permit(self: &Arc<Self>, release: Release) -> Permit {
        Permit { pacer: self.clone(), release, open: true }
    }

    async fn wait_for_permit(self: &Arc<Self>, caller: CallerId) -> Outcome {
        let now = self.clock.now();
        let (id, outcome, driven) = {
            let mut state = self.lock();
            let id = match state.schedule.admit(&caller, now)? {
                Admission::Released(release) => return Ok(self.permit(release)),
                Admission::Queued(id) => id,
            };
            let (sender, outcome) = oneshot::channel();
            state.waiting.insert(id, sender);
            (id, outcome, std::mem::replace(&mut state.driven, true))
        };
        self.wanted.notify_one();
        if driven {
            // The clock may have changed while the task slept.
            self.changed.notify_one();
        } else {
            self.control.spawn(self.clone().drive());
        }
        let until = now.plus(caller.wait(self.wait).max(STORE_WAIT) + GRACE);
        let mut place = QueuePlace { pacer: self.clone(), caller, id, outcome, until };
        place.outcome().await
    }

    async fn drive(self: Arc<Self>) {
        while let Some(again) = self.step() {
            tokio::select! {
                () = self.clock.sleep_until(again) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Issues the permits that are due. Returns when to check again, or `None` if no call waits.
    fn step(self: &Arc<Self>) -> Option<Timestamp> {
        let mut state = self.lock();
        let step = state.schedule.step(self.clock.now());
        let released = step.released.into_iter().map(|(id, release)| (id, Ok(self.permit(release))));
        let refused = step.refused.into_iter().map(|(id, refusal)| (id, Err(refusal)));
        let outcomes: Vec<_> =
            released.chain(refused).map(|(id, outcome)| (state.waiting.remove(&id), outcome)).collect();
        state.driven = step.again.is_some();
        drop(state);
        if step.again.is_some() {
            // A reservation that was used makes room for the next one.
            self.wanted.notify_one();
        }
        // Outside the lock, since cancelling a permit locks it.
        for (sender, outcome) in outcomes {
            let unsent = match sender {
                Some(sender) => sender.send(outcome).err(),
                None => Some(outcome),
            };
            if let Some(Ok(permit)) = unsent {
                permit.cancel();
            }
        }
        step.again
    }

    /// The metrics of all calls to Upwork.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn quota(&self) -> Quota {
        self.lock().schedule.days.quota(self.clock.now())
    }

    /// The number of this UTC day, counted from 1970-01-01.
    pub fn today(&self) -> i64 {
        quota::day_of(self.clock.now())
    }

    /// A day and its calls that were not reported to a store yet, each once. `None` if there is nothing to report.
    pub fn take_unreported(&self) -> Option<(i64, u64)> {
        self.lock().schedule.days.take_unreported()
    }

    /// Takes back the result of [`Pacer::take_unreported`], which could not be reported.
    pub fn put_back(&self, day: i64, calls: u64) {
        self.lock().schedule.days.put_back(day, calls);
    }

    /// Sets the store's count for a UTC day.
    pub fn set_total(&self, day: i64, total: u64) {
        self.lock().schedule.days.set_total(day, total);
        self.changed.notify_one();
    }

    /// Shares the limits with all replicas that ask the same store, as long as this is polled. It never ends.
    pub async fn share<F, R>(&self, ask: F)
    where
        F: Fn(RateRequest) -> R,
        R: Future<Output = Result<RateReply, StoreError>>,
    {
        self.begin_sharing();
        loop {
            let again = self.sync(&ask).await;
            tokio::select! {
                () = self.clock.sleep_until(again) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// The first step of [`Pacer::share`].
    pub fn begin_sharing(&self) {
        // Without random numbers nothing else works either.
        let replica = format!("{:016x}", random().map_or(0, u64::from_be_bytes));
        self.lock().schedule.share(replica);
    }

    /// Sends the store what is due. Returns when to check again, unless a call comes earlier.
    pub async fn sync<F, R>(&self, ask: &F) -> Timestamp
    where
        F: Fn(RateRequest) -> R,
        R: Future<Output = Result<RateReply, StoreError>>,
    {
        loop {
            let request = self.lock().schedule.request(self.clock.now());
            match request {
                Ok(request) => {
                    let reply = ask(request.clone()).await;
                    self.replied(request, &reply);
                }
                Err(again) => return again,
            }
        }
    }

    fn replied(&self, request: RateRequest, reply: &Result<RateReply, StoreError>) {
        let change = self.lock().schedule.replied(request, reply.as_ref().ok(), self.clock.now());
        match (change, reply) {
            (Some(ModeChange::StoreDown), Err(error)) => {
                tracing::warn!(%error, "the store is down: each replica keeps to its part of Upwork's limits");
            }
            (Some(ModeChange::StoreBack), _) => tracing::info!("replicas share Upwork's limits again"),
            (Some(ModeChange::StoreDown) | None, _) => {}
        }
        self.changed.notify_one();
    }
}

/// A place in the queue, given up when dropped.
struct QueuePlace {
    pacer: Arc<Pacer>,
    caller: CallerId,
    id: u64,
    outcome: oneshot::Receiver<Outcome>,
    until: Timestamp,
}

impl QueuePlace {
    async fn outcome(&mut self) -> Outcome {
        let outcome = tokio::select! {
            biased;
            outcome = &mut self.outcome => outcome.ok(),
            () = self.pacer.clock.sleep_until(self.until) => None,
        };
        outcome.unwrap_or(Err(RateLimited { reason: PaceRefusal::Busy, retry_after: GRACE }))
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.outcome.close();
        // A permit that arrived at the last moment goes to another call.
        if let Ok(Ok(permit)) = self.outcome.try_recv() {
            permit.cancel();
        }
        let mut state = self.pacer.lock();
        state.schedule.leave(&self.caller, self.id);
        state.waiting.remove(&self.id);
    }
}

/// Permission to make one call. Keep it until the head of the answer arrives: the call counts from then on.
#[must_use = "a permit that is dropped at once counts as a call"]
#[derive(Debug)]
pub struct Permit {
    pacer: Arc<Pacer>,
    release: Release,
    open: bool,
}

impl Permit {
    /// Call when Upwork has answered, with its `Retry-After`. After a 429 no call is released for as long as that says, or
    /// for a pause that doubles.
    pub fn answered(self, status: StatusCode, after: Option<&HeaderValue>) {
        let now = self.pacer.clock.now();
        let mut state = self.pacer.lock();
        if status == StatusCode::TOO_MANY_REQUESTS {
            state.schedule.too_many(&self.release, after.and_then(|after| retry_after(after, now)), now);
        } else {
            state.schedule.succeeded(&self.release);
        }
    }

    /// The call was never sent, so it does not count.
    pub fn cancel(mut self) {
        self.open = false;
        self.pacer.lock().schedule.cancel(&self.release);
        self.pacer.changed.notify_one();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let now = self.pacer.clock.now();
        let mut state = self.pacer.lock();
        state.schedule.finish(&self.release, now);
        let waiting = !state.schedule.is_idle();
        drop(state);
        if waiting {
            self.pacer.changed.notify_one();
        }
    }
}

/// `Retry-After` in seconds, or as a date (RFC 9110 section 10.2.3).
pub(crate) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let until_date = || {
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Timestamp::from_seconds(i64::try_from(date.as_secs()).ok()?).since(now))
    };
    text.parse().ok().map(Duration::from_secs).or_else(until_date)
}
