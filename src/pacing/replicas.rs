//! One budget of Upwork's limits for all replicas that share a store.
//!
//! Builds requests to the store and processes its replies, without knowing the store or tasks. While the store answers,
//! each call is reserved there first. A replica has one reservation at a time, so replicas are served in the order of
//! their requests, and many waiting calls of one do not delay the others. While the store is down, each replica keeps
//! to an equal part of the limits by its own windows, and reports those calls when the store is back. For a minute
//! after that it does both, since other replicas may not have reported yet.

use std::time::Duration;

use super::limits::Pace;
use super::windows::{MINUTE, SECOND, SLACK, SlidingWindows};
use crate::clock::Timestamp;
use crate::store::{RateLimits, RateReply, RateRequest};

/// How often every replica asks the store, so that it is counted and sees the calls of the others.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long the recovery after an outage of the store lasts: a minute, and the time that other replicas need to notice.
const RECOVERY: Duration = Duration::from_secs(70);
/// The assumed number of replicas until the store has counted them.
const ASSUMED_REPLICAS: u64 = 3;

/// A call that the store allows at a set time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) id: u64,
    pub(super) at: Timestamp,
    /// A later call could count too late.
    pub(super) until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Sharing,
    StoreDown,
    Recovering { until: Timestamp },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeChange {
    StoreDown,
    StoreBack,
}

#[derive(Clone, Debug)]
pub(super) struct SharedBudget {
    /// Unique among replicas.
    replica: String,
    pace: Pace,
    mode: Mode,
    replicas: u64,
    reservation: Option<Reservation>,
    /// The store does not reserve calls before this time.
    not_before: Option<Timestamp>,
    next_view: Option<Timestamp>,
    /// When the store was asked last.
    asked_at: Option<Timestamp>,
    /// After a failure.
    retry_at: Option<Timestamp>,
    /// When calls counted, to be reported to the store.
    counted: Vec<(u64, Timestamp)>,
    /// The part of it that was sent and not yet answered.
    in_flight: Vec<(u64, Timestamp)>,
    /// Calls that the store counts and that were not made.
    cancelled: Vec<u64>,
}

impl SharedBudget {
    pub(super) fn new(pace: Pace, replica: String) -> Self {
        Self {
            replica,
            pace,
            mode: Mode::Sharing,
            replicas: ASSUMED_REPLICAS,
            reservation: None,
            not_before: None,
            next_view: None,
            asked_at: None,
            retry_at: None,
            counted: Vec::new(),
            in_flight: Vec::new(),
            cancelled: Vec::new(),
        }
    }

    /// Whether a call must be reserved before it is sent.
    pub(super) fn reserves(&self) -> bool {
        self.mode != Mode::StoreDown
    }

    /// Whether a call must fit into this replica's own windows.
    pub(super) fn keeps_to_its_part(&self) -> bool {
        self.mode != Mode::Sharing
    }

    pub(super) fn reservation(&self) -> Option<Reservation> {
        self.reservation
    }

    pub(super) fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    pub(super) fn take_reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }

    /// No call can use the reservation.
    pub(super) fn cancel_reservation(&mut self, windows: &mut SlidingWindows) {
        if let Some(Reservation { id, .. }) = self.reservation.take() {
            windows.cancel(id);
            self.cancelled.push(id);
        }
    }

    /// A call counts at `at`.
    pub(super) fn count(&mut self, id: u64, at: Timestamp) {
        self.counted.push((id, at));
    }

    /// A call was not made; false if the store counts it.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        let before = self.counted.len();
        self.counted.retain(|(other, _)| *other != id);
        let unsent = self.counted.len() < before;
        self.cancelled.extend((!unsent).then_some(id));
        unsent
    }

    /// How many calls of all replicas are ahead of one with `ahead` calls of this replica before it, if the others call
    /// as often as in the last minute. Each has at most an equal part of the limit.
    pub(super) fn ahead_of_all(&self, ahead: u64, windows: &SlidingWindows, now: Timestamp) -> u64 {
        if self.keeps_to_its_part() {
            return ahead;
        }
        let limit = u64::from(self.pace.per_minute.max(1));
        let others = windows.foreign(now).min(limit * (self.replicas - 1) / self.replicas);
        ahead * limit / (limit - others)
    }

    /// The request to the store, or when to check again. The next waiting call could be sent at `earliest`, with the id
    /// `id`; it is not reserved if it would have to wait longer than `patience`.
    pub(super) fn request(
        &mut self,
        now: Timestamp,
        earliest: Option<Timestamp>,
        id: u64,
        patience: Duration,
    ) -> Result<RateRequest, Timestamp> {
        if let Some(retry_at) = self.retry_at.filter(|at| *at > now) {
            return Err(retry_at);
        }
        let view = self.next_view.is_none_or(|at| at <= now);
        let earliest = earliest.filter(|_| self.reserves() && self.reservation.is_none());
        let earliest = earliest.map(|at| at.max(self.not_before.unwrap_or(at)));
        let call = earliest.is_some_and(|at| at <= now).then_some(id);
        if !view && call.is_none() {
            let next_view = self.next_view.unwrap_or(now);
            return Err(earliest.map_or(next_view, |at| at.min(next_view)));
        }
        // The store has forgotten older ones.
        self.counted.retain(|(_, at)| at.plus(MINUTE) > now);
        self.asked_at = Some(now);
        self.in_flight = std::mem::take(&mut self.counted);
        let ago = |at: Timestamp| now.millis().saturating_sub(at.millis());
        Ok(RateRequest {
            replica: self.replica.clone(),
            limits: RateLimits {
                per_second: self.pace.per_second.max(1),
                per_minute: self.pace.per_minute.max(1),
                per_day: self.pace.per_day,
                second: millis(SECOND),
                minute: millis(MINUTE),
                slack: millis(SLACK),
            },
            call,
            patience: millis(patience),
            view,
            counted: self.in_flight.iter().map(|(id, at)| (*id, ago(*at))).collect(),
            cancelled: std::mem::take(&mut self.cancelled),
            unreported: None,
        })
    }

    /// The store answered at `now`.
    pub(super) fn replied(
        &mut self,
        request: &RateRequest,
        reply: &RateReply,
        windows: &mut SlidingWindows,
        now: Timestamp,
    ) -> Option<ModeChange> {
        self.in_flight.clear();
        let before = self.mode;
        match before {
            Mode::StoreDown => self.mode = Mode::Recovering { until: now.plus(RECOVERY) },
            Mode::Recovering { until } if now >= until && request.view => {
                self.mode = Mode::Sharing;
                *windows = SlidingWindows::new(self.pace.per_second, self.pace.per_minute);
            }
            Mode::Recovering { .. } | Mode::Sharing => {}
        }
        // Right after an outage the store may not have seen every replica yet.
        let known = if self.keeps_to_its_part() { self.replicas } else { 1 };
        self.replicas = reply.replicas.max(known);
        if request.view {
            self.next_view = Some(now.plus(HEARTBEAT));
            if !self.keeps_to_its_part() {
                let at = |ago: i64| Timestamp::from_millis(now.millis().saturating_sub(ago));
                windows.replace(reply.calls.iter().map(|(ago, id)| (at(*ago), *id)));
            }
        }
        if let (Some(id), Some(wait)) = (request.call, reply.wait) {
            let at = now.plus(Duration::from_millis(wait));
            self.not_before = (!reply.reserved).then_some(at);
            if reply.reserved {
                windows.release(id, at);
                // The store may have reserved it as early as the request, however late its reply is.
                let earliest = self.asked_at.map_or(at, |asked| asked.plus(Duration::from_millis(wait)));
                self.reservation = Some(Reservation { id, at, until: earliest.plus(SLACK) });
            }
        }
        (before == Mode::StoreDown).then_some(ModeChange::StoreBack)
    }

    /// At `now` it was known that the store did not answer; it may still have processed the request.
    pub(super) fn failed(
        &mut self,
        request: RateRequest,
        windows: &mut SlidingWindows,
        now: Timestamp,
    ) -> Option<ModeChange> {
        self.retry_at = Some(now.plus(HEARTBEAT));
        self.counted.splice(0..0, std::mem::take(&mut self.in_flight));
        self.cancelled.extend(request.cancelled.into_iter().chain(request.call));
        self.cancel_reservation(windows);
        self.not_before = None;
        if self.mode == Mode::StoreDown {
            return None;
        }
        if self.mode == Mode::Sharing {
            *windows = windows.part(self.replicas, now);
        }
        self.mode = Mode::StoreDown;
        Some(ModeChange::StoreDown)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
