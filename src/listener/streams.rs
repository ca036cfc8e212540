//! The requests of one HTTP/2 connection, counted: how many are open, and how the others ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use super::Refused;
use crate::telemetry::Door;
use crate::telemetry::metrics::Metrics;

/// Aborted requests that are never too many.
const ABORTS: u64 = 100;

/// The counts of one connection.
pub(super) struct Streams {
    pub(super) door: Door,
    pub(super) metrics: Arc<Metrics>,
    open: AtomicU64,
    ended: AtomicU64,
    aborted: AtomicU64,
    pub(super) changed: Notify,
}

impl Streams {
    pub(super) fn new(door: Door, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            door,
            metrics,
            open: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    pub(super) fn refuse(&self, refused: Refused) {
        self.metrics.refused(self.door, refused.counted());
        tracing::info!(door = self.door.as_str(), reason = refused.reason, rule = refused.section, "refused");
    }

    /// More than a few requests aborted, and more than were answered: nobody who wants answers does that.
    pub(super) fn is_abused(&self) -> bool {
        let aborted = self.aborted.load(Relaxed);
        aborted > ABORTS && aborted > self.ended.load(Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }
}

/// One request, from its head to the end of its answer.
pub(super) struct Flight {
    streams: Arc<Streams>,
    ended: bool,
}

impl Flight {
    pub(super) fn new(streams: Arc<Streams>) -> Self {
        streams.open.fetch_add(1, Relaxed);
        Self { streams, ended: false }
    }

    /// The answer was taken to its end.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let count = if self.ended { &self.streams.ended } else { &self.streams.aborted };
        count.fetch_add(1, Relaxed);
        let last = self.streams.open.fetch_sub(1, Relaxed) == 1;
        if last || !self.ended {
            self.streams.changed.notify_one();
        }
    }
}
