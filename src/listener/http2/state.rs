//! The streams of one HTTP/2 connection: how many are open, how the others ended, and whether the client reads the
//! responses.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::descriptors::{Answers, Waiting};
use crate::framing::Rejection;
use crate::listener::door;
use crate::recent::lock;
use crate::telemetry::Door;
use crate::telemetry::metrics::{Metrics, Refusal};

/// Acceptable number of aborted requests: a user who leaves a page aborts everything it was loading, possibly many
/// times.
const MAX_ABORTED: u64 = 500;
/// Aborts forgiven per second, besides one for each response that was read.
const FORGIVEN_PER_SECOND: u64 = 10;

pub(super) struct Http2State {
    pub(super) door: Door,
    pub(super) metrics: Arc<Metrics>,
    open: AtomicU64,
    /// Responses read since the last abort.
    completed: AtomicU64,
    aborted: Mutex<AbortScore>,
    abused: AtomicBool,
    start: Instant,
    /// Milliseconds after `start` when the client last enlarged a window.
    window_update: AtomicU64,
    leaving: OnceLock<Instant>,
    /// The progress of the newest stream, until its task is spawned.
    latest: Mutex<Option<Arc<Waiting>>>,
    answers: Arc<Answers>,
    pub(super) changed: Notify,
}

/// Aborted requests that are not forgiven yet.
struct AbortScore {
    count: u64,
    since: Instant,
}

impl AbortScore {
    /// Adds one, after `completed` responses were read.
    fn add(&mut self, completed: u64, now: Instant) -> u64 {
        let seconds = (now - self.since).as_secs();
        self.since += Duration::from_secs(seconds);
        self.count = self.count.saturating_sub(completed.saturating_add(seconds * FORGIVEN_PER_SECOND)) + 1;
        self.count
    }
}

impl Http2State {
    pub(super) fn new(door: Door, metrics: Arc<Metrics>, answers: Arc<Answers>) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self {
            door,
            metrics,
            open: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            aborted: Mutex::new(AbortScore { count: 0, since: start }),
            abused: AtomicBool::new(false),
            start,
            window_update: AtomicU64::new(0),
            leaving: OnceLock::new(),
            latest: Mutex::default(),
            answers,
            changed: Notify::new(),
        })
    }

    pub(super) fn count(&self, refusal: Refusal) {
        self.metrics.refused(self.door, refusal);
    }

    pub(super) fn reject(&self, rejection: Rejection) {
        door::report(rejection, self.door, &self.metrics);
    }

    /// Whether far more requests were aborted than answered, as by a client that wants no responses.
    pub(super) fn is_abused(&self) -> bool {
        self.abused.load(Relaxed)
    }

    fn abort(&self) {
        let mut aborted = lock(&self.aborted);
        if aborted.add(self.completed.swap(0, Relaxed), Instant::now()) > MAX_ABORTED {
            self.abused.store(true, Relaxed);
        }
    }

    /// Accepts only requests in transit from now on.
    pub(super) fn leave(&self) {
        let _ = self.leaving.set(Instant::now());
    }

    /// Since when the connection is closing.
    pub(super) fn leaving(&self) -> Option<Instant> {
        self.leaving.get().copied()
    }

    /// The client can receive more of a response.
    pub(super) fn note_window_update(&self) {
        self.window_update.store(millis(self.start), Relaxed);
    }

    pub(super) fn last_window_update(&self) -> Instant {
        self.start + Duration::from_millis(self.window_update.load(Relaxed))
    }

    /// The progress of the newest stream's response; once.
    pub(super) fn take_latest(&self) -> Option<Arc<Waiting>> {
        lock(&self.latest).take()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Returns once a piece of an answer has waited for `allowed`, or its descriptor is needed for another.
pub(super) async fn stalled(waiting: &Waiting, allowed: Duration) {
    let time_out = async {
        let mut next = Instant::now() + allowed;
        loop {
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            next = waiting.since().unwrap_or(now) + allowed;
            if next <= now {
                return;
            }
        }
    };
    tokio::select! {
        () = time_out => {}
        () = std::future::poll_fn(|cx| waiting.poll_cut(cx)) => {}
    }
}

/// A request, from its head to the end of its response.
pub(super) struct OpenStream {
    connection: Arc<Http2State>,
    /// Whether the client reads the response.
    pub(super) waiting: Arc<Waiting>,
    completed: bool,
}

impl OpenStream {
    pub(super) fn new(connection: Arc<Http2State>) -> Self {
        connection.open.fetch_add(1, Relaxed);
        let waiting = connection.answers.add();
        *lock(&connection.latest) = Some(waiting.clone());
        Self { connection, waiting, completed: false }
    }

    /// The response was read to its end.
    pub(super) fn complete(&mut self) {
        self.completed = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.connection.answers.remove(&self.waiting);
        if self.completed {
            self.connection.completed.fetch_add(1, Relaxed);
        } else {
            self.connection.abort();
        }
        let last = self.connection.open.fetch_sub(1, Relaxed) == 1;
        if last || !self.completed {
            self.connection.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_mostly_aborts_is_detected_but_not_one_that_leaves_pages() {
        let start = Instant::now();
        let mut person = AbortScore { count: 0, since: start };
        for page in 0..20 {
            let now = start + Duration::from_millis(page * 9_900);
            assert!((0..200).all(|one| person.add(if one == 0 { 100 } else { 0 }, now) <= MAX_ABORTED), "{page}");
        }
        let mut attacker = AbortScore { count: 0, since: start };
        let counts = (0..600).map(|one| attacker.add(0, start + Duration::from_millis(one)));
        assert_eq!(counts.filter(|count| *count > MAX_ABORTED).count(), 100);
    }
}
