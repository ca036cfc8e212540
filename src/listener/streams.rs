//! The requests of one HTTP/2 connection: how many are open, how the others ended, and whose answers are not taken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Refused;
use super::h1::counted;
use crate::recent::lock;
use crate::telemetry::Door;
use crate::telemetry::metrics::{Metrics, Refusal};

/// Aborted requests that are not too many: a person who leaves a page aborts all that it was loading, and may do so again.
const ABORTS: u64 = 500;
/// So many of them are forgiven in a second; as is one for each answer that was taken.
const FORGIVEN: u64 = 10;

/// The counts of one connection.
pub(super) struct Streams {
    pub(super) door: Door,
    pub(super) metrics: Arc<Metrics>,
    open: AtomicU64,
    ended: AtomicU64,
    aborted: Mutex<Aborted>,
    abused: AtomicBool,
    began: Instant,
    /// Milliseconds after `began` when the client last made room for more.
    took: AtomicU64,
    leaving: OnceLock<Instant>,
    /// Of the request that was taken up last, until its task is made.
    latest: Mutex<Option<Arc<Taken>>>,
    pub(super) changed: Notify,
}

/// Aborted requests that are not forgiven yet.
struct Aborted {
    count: u64,
    since: Instant,
}

impl Aborted {
    /// How many there are with this one, after `ended` answers that were taken.
    fn one_more(&mut self, ended: u64, now: Instant) -> u64 {
        let seconds = (now - self.since).as_secs();
        self.since += Duration::from_secs(seconds);
        self.count = self.count.saturating_sub(ended.saturating_add(seconds * FORGIVEN)) + 1;
        self.count
    }
}

impl Streams {
    pub(super) fn new(door: Door, metrics: Arc<Metrics>) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(Self {
            door,
            metrics,
            open: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            aborted: Mutex::new(Aborted { count: 0, since: began }),
            abused: AtomicBool::new(false),
            began,
            took: AtomicU64::new(0),
            leaving: OnceLock::new(),
            latest: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(super) fn count(&self, refusal: Refusal) {
        self.metrics.refused(self.door, refusal);
    }

    pub(super) fn refuse(&self, refused: Refused) {
        self.metrics.refused(self.door, counted(refused));
        tracing::info!(door = self.door.as_str(), reason = refused.reason, rule = refused.section, "refused");
    }

    /// Far more requests aborted than answered: nobody who wants answers does that.
    pub(super) fn is_abused(&self) -> bool {
        self.abused.load(Relaxed)
    }

    fn abort(&self) {
        let mut aborted = lock(&self.aborted);
        if aborted.one_more(self.ended.swap(0, Relaxed), Instant::now()) > ABORTS {
            self.abused.store(true, Relaxed);
        }
    }

    /// From now on no request is taken up that was not on its way.
    pub(super) fn leave(&self) {
        let _ = self.leaving.set(Instant::now());
    }

    /// Since when.
    pub(super) fn leaving(&self) -> Option<Instant> {
        self.leaving.get().copied()
    }

    /// The client made room for more of an answer.
    pub(super) fn took(&self) {
        self.took.store(millis(self.began), Relaxed);
    }

    /// When it last did.
    pub(super) fn last_taken(&self) -> Instant {
        self.began + Duration::from_millis(self.took.load(Relaxed))
    }

    /// What watches the answer to the request that was taken up last; once.
    pub(super) fn latest(&self) -> Option<Arc<Taken>> {
        lock(&self.latest).take()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Whether the client takes an answer's bytes.
pub(super) struct Taken {
    began: Instant,
    /// Milliseconds after `began`, and one, since when a piece waits for the client; 0 where none does.
    since: AtomicU64,
}

impl Taken {
    /// A piece waits for the client.
    pub(super) fn given(&self) {
        self.since.store(millis(self.began) + 1, Relaxed);
    }

    /// It was taken.
    pub(super) fn asked(&self) {
        self.since.store(0, Relaxed);
    }

    /// Ends when a piece has waited for `allowed`.
    pub(super) async fn stalled(&self, allowed: Duration) {
        let mut next = Instant::now() + allowed;
        loop {
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            let since = match self.since.load(Relaxed) {
                0 => now,
                waits => self.began + Duration::from_millis(waits),
            };
            next = since + allowed;
            if next <= now {
                return;
            }
        }
    }
}

/// One request, from its head to the end of its answer.
pub(super) struct Flight {
    streams: Arc<Streams>,
    pub(super) taken: Arc<Taken>,
    ended: bool,
}

impl Flight {
    pub(super) fn new(streams: Arc<Streams>) -> Self {
        streams.open.fetch_add(1, Relaxed);
        let taken = Arc::new(Taken { began: Instant::now(), since: AtomicU64::new(0) });
        *lock(&streams.latest) = Some(taken.clone());
        Self { streams, taken, ended: false }
    }

    /// The answer was taken to its end.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.ended {
            self.streams.ended.fetch_add(1, Relaxed);
        } else {
            self.streams.abort();
        }
        let last = self.streams.open.fetch_sub(1, Relaxed) == 1;
        if last || !self.ended {
            self.streams.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_aborts_far_more_than_it_takes_is_found_out_and_who_leaves_pages_is_not() {
        let began = Instant::now();
        let mut person = Aborted { count: 0, since: began };
        for page in 0..20 {
            let now = began + Duration::from_millis(page * 9_900);
            assert!((0..200).all(|one| person.one_more(if one == 0 { 100 } else { 0 }, now) <= ABORTS), "{page}");
        }
        let mut attacker = Aborted { count: 0, since: began };
        let counts = (0..600).map(|one| attacker.one_more(0, began + Duration::from_millis(one)));
        assert_eq!(counts.filter(|count| *count > ABORTS).count(), 100);
    }
}
