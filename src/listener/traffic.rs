//! What the guard and the service of one HTTP/1 connection tell each other.
//!
//! Both run in the connection's task, so every count is exact when it is read; the atomics only make it shareable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Refused;
use crate::recent::lock;
use crate::telemetry::Door;
use crate::telemetry::metrics::{self, Metrics};

/// The counts of one connection. Requests are numbered from 1.
#[derive(Debug)]
pub(super) struct Traffic {
    door: Door,
    metrics: Arc<Metrics>,
    passed: AtomicU64,
    called: AtomicU64,
    answered: AtomicU64,
    refused: OnceLock<(u64, Refused)>,
    body: Mutex<Option<(u64, Refused)>>,
    asking: AtomicU64,
    declined: AtomicU64,
    switched: AtomicBool,
    draining: OnceLock<Instant>,
    /// Told of the end of each answer while it drains.
    pub(super) ended: Notify,
    began: Instant,
    /// Milliseconds after `began` when the last answer ended.
    quiet: AtomicU64,
    dry: AtomicBool,
    awaited: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// Whether the connection becomes another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// Not answered yet.
    Undecided,
    /// A 101 was answered.
    Accepted,
    /// Something else was answered.
    Declined,
}

impl Traffic {
    pub(super) fn new(door: Door, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            door,
            metrics,
            passed: AtomicU64::new(0),
            called: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            refused: OnceLock::new(),
            body: Mutex::default(),
            asking: AtomicU64::new(0),
            declined: AtomicU64::new(0),
            switched: AtomicBool::new(false),
            draining: OnceLock::new(),
            ended: Notify::new(),
            began: Instant::now(),
            quiet: AtomicU64::new(0),
            dry: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            waker: Mutex::default(),
        })
    }

    /// A head was passed on; `upgrade` where it asks for one.
    pub(super) fn passed(&self, upgrade: bool) {
        let number = self.passed.fetch_add(1, Relaxed) + 1;
        if upgrade {
            self.asking.store(number, Relaxed);
        }
    }

    /// A head of our own is passed on in place of one that was refused.
    pub(super) fn refuse(&self, refused: Refused) {
        self.passed(false);
        // A connection has one refusal at the most: nothing passes after it.
        let _ = self.refused.set((self.passed.load(Relaxed), refused));
        self.log(refused);
    }

    /// The body of the last head that was passed on was refused in the middle.
    pub(super) fn refuse_body(&self, refused: Refused) {
        self.refuse_body_of(self.passed.load(Relaxed), refused);
    }

    /// The body of request `number` was refused in the middle.
    pub(super) fn refuse_body_of(&self, number: u64, refused: Refused) {
        let mut body = lock(&self.body);
        // The earliest is what the connection ends at.
        if body.is_none_or(|(kept, _)| number < kept) {
            *body = Some((number, refused));
        }
        drop(body);
        self.log(refused);
    }

    /// Why the body of request `number` was refused in the middle. Those before it are not touched by that.
    pub(super) fn body_refused(&self, number: u64) -> Option<Refused> {
        let body = *lock(&self.body);
        body.filter(|(refused, _)| *refused == number).map(|(_, refused)| refused)
    }

    /// Counts something that was refused at this door.
    pub(super) fn count(&self, refusal: metrics::Refusal) {
        self.metrics.refused(self.door, refusal);
    }

    fn log(&self, refused: Refused) {
        self.count(refused.counted());
        tracing::info!(door = self.door.as_str(), reason = refused.reason, rule = refused.section, "refused");
    }

    /// The service was called: the request's number, and the refusal it stands for.
    pub(super) fn called(&self) -> (u64, Option<Refused>) {
        let number = self.called.fetch_add(1, Relaxed) + 1;
        let refused = self.refused.get().filter(|(refused, _)| *refused == number);
        (number, refused.map(|(_, refused)| *refused))
    }

    /// The head of the answer to request `number` is there.
    pub(super) fn answering(&self, number: u64, switched: bool) {
        if self.asking.load(Relaxed) == number {
            if switched {
                self.switched.store(true, Relaxed);
            } else {
                self.declined.store(number, Relaxed);
            }
            self.wake();
        }
    }

    /// An answer was taken to its end.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
        let quiet = self.began.elapsed().as_millis();
        self.quiet.store(u64::try_from(quiet).unwrap_or(u64::MAX), Relaxed);
        self.wake();
        if self.draining.get().is_some() {
            self.ended.notify_one();
        }
    }

    /// When the last answer ended, or else the connection began.
    pub(super) fn quiet_since(&self) -> Instant {
        self.began + Duration::from_millis(self.quiet.load(Relaxed))
    }

    /// The guard can do nothing until an answer begins or ends. hyper asks a source of bytes again only after it was
    /// woken by it.
    pub(super) fn await_answer(&self, waker: &Waker) {
        let mut kept = lock(&self.waker);
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
        self.awaited.store(true, Relaxed);
    }

    fn wake(&self) {
        if self.awaited.swap(false, Relaxed)
            && let Some(waker) = lock(&self.waker).as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether the last look at the socket found nothing to read.
    pub(super) fn dry(&self, dry: bool) {
        self.dry.store(dry, Relaxed);
    }

    /// The client has sent nothing that was not passed on, as far as anybody has looked.
    pub(super) fn is_dry(&self) -> bool {
        self.dry.load(Relaxed)
    }

    /// True where a request was passed on whose answer is not at its end.
    pub(super) fn in_flight(&self) -> bool {
        self.passed.load(Relaxed) > self.answered.load(Relaxed)
    }

    /// What became of the last request that asked for an upgrade.
    pub(super) fn switch(&self) -> Switch {
        if self.switched.load(Relaxed) {
            Switch::Accepted
        } else if self.declined.load(Relaxed) == self.asking.load(Relaxed) {
            Switch::Declined
        } else {
            Switch::Undecided
        }
    }

    /// From now on every answer says `Connection: close`.
    pub(super) fn drain(&self) {
        let _ = self.draining.set(Instant::now());
    }

    /// Since when it drains and no answer has ended; `None` where it does not drain.
    pub(super) fn draining(&self) -> Option<Instant> {
        self.draining.get().map(|began| self.quiet_since().max(*began))
    }
}

/// In the extensions of an HTTP/1 request that has a body: tells after the fact why that body ended early, for a handler
/// that only knows that something upstream failed.
#[derive(Clone, Debug)]
pub struct BodyWatch(pub(super) Arc<Traffic>, pub(super) u64);

impl BodyWatch {
    /// Why the body was refused in the middle; `None` where it was not, or not yet.
    pub fn refused(&self) -> Option<Refused> {
        self.0.body_refused(self.1)
    }
}
