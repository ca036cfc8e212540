//! Answers that wait for their clients. One of them is cut when descriptors run short.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use crate::recent::lock;

/// Answers that one connection may leave unread before it becomes the first to lose one.
const FEW: usize = 16;
/// If a connection has no more than [`FEW`] unread, an answer is cut only after it has waited this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// One answer, and since when its client has not read from it.
#[derive(Debug)]
pub struct Waiting {
    start: Instant,
    /// Milliseconds after `start`, plus one; 0 if nothing waits.
    since: AtomicU64,
    /// It holds a connection to an upstream, so cutting it frees a descriptor.
    holds: AtomicBool,
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl Waiting {
    pub fn new() -> Arc<Self> {
        let (since, holds, cut) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { start: Instant::now(), since, holds, cut, waker: AtomicWaker::new() })
    }

    /// Its body comes from an upstream.
    pub(crate) fn hold(&self) {
        self.holds.store(true, Relaxed);
    }

    pub(crate) fn begin(&self) {
        self.begin_at(Instant::now());
    }

    fn begin_at(&self, now: Instant) {
        let millis = u64::try_from((now - self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(millis + 1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.since.store(0, Relaxed);
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        let millis = self.since.load(Relaxed).checked_sub(1)?;
        Some(self.start + Duration::from_millis(millis))
    }

    /// Ready once its descriptor is needed for another answer.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.cut.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The answers on one client's connection.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Vec<Arc<Waiting>>>);

impl Answers {
    pub(crate) fn add(&self) -> Arc<Waiting> {
        let waiting = Waiting::new();
        lock(&self.0).push(waiting.clone());
        waiting
    }

    pub(crate) fn remove(&self, waiting: &Arc<Waiting>) {
        lock(&self.0).retain(|one| !Arc::ptr_eq(one, waiting));
    }

    /// The answer that has waited longest, since when, and whether too many on this connection are waiting.
    fn longest(&self) -> Option<(Arc<Waiting>, Instant, bool)> {
        let answers = lock(&self.0);
        let open = answers.iter().filter(|one| one.holds.load(Relaxed) && !one.cut.load(Relaxed));
        let waiting: Vec<_> = open.filter_map(|one| Some((one, one.since()?))).collect();
        let (longest, since) = waiting.iter().min_by_key(|(_, since)| *since)?;
        Some(((*longest).clone(), *since, waiting.len() > FEW))
    }
}

#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Vec<Weak<Answers>>>);

impl Connections {
    pub(super) fn add(&self) -> Arc<Answers> {
        let answers = Arc::default();
        let mut all = lock(&self.0);
        if all.len() == all.capacity() {
            all.retain(|answers| answers.strong_count() > 0);
        }
        all.push(Arc::downgrade(&answers));
        answers
    }

    /// Cuts the answer that has waited longest, first on a connection that leaves many unread; false if there is none.
    pub(super) fn cut_longest(&self, now: Instant) -> bool {
        let connections = lock(&self.0);
        let longest = connections.iter().filter_map(|answers| answers.upgrade()?.longest()).filter(|found| {
            let (_, since, many) = found;
            *many || now - *since >= PATIENCE
        });
        let Some((waiting, ..)) = longest.min_by_key(|(_, since, many)| (!many, *since)) else { return false };
        waiting.cut.store(true, Relaxed);
        waiting.waker.wake();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stalled_is_cut_first_and_before_it_those_of_a_connection_with_many() {
        let all = Connections::default();
        let (reader, crowd) = (all.add(), all.add());
        let old = reader.add();
        let many: Vec<_> = (0..=FEW).map(|_| crowd.add()).collect();
        many.iter().chain([&old]).for_each(|one| one.hold());
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        old.begin_at(at(0));
        assert!(!all.cut_longest(at(0)), "it may still be slow");
        for (one, millis) in many.iter().zip(1..) {
            one.begin_at(at(millis));
        }
        many[0].end();
        assert!(!all.cut_longest(at(100)));
        many[0].begin_at(at(100));
        assert!(all.cut_longest(at(100)) && many[1].cut.load(Relaxed) && !old.cut.load(Relaxed));
        assert!(!all.cut_longest(at(100)), "the others are few");
        let later = at(100) + PATIENCE;
        assert!(all.cut_longest(later) && old.cut.load(Relaxed));
        assert!(all.cut_longest(later) && many[2].cut.load(Relaxed));
        assert_eq!(many.iter().filter(|one| one.cut.load(Relaxed)).count(), 2);
        let ours = reader.add();
        ours.begin_at(at(0));
        // At 100 ms the last began to wait.
        assert!(many[3..].iter().all(|_| all.cut_longest(later)) && !many[0].cut.load(Relaxed));
        assert!(all.cut_longest(later) && many[0].cut.load(Relaxed));
        assert!(!all.cut_longest(later), "an answer of our own holds nothing");
        drop(crowd);
        assert!(!all.cut_longest(later), "what is closed is forgotten");
    }
}
