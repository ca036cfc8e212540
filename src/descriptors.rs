//! File descriptors: how many connections the system allows, shared between those that come in and those that go out.
//!
//! In: the process's limit. Out: a [`Descriptor`] for each connection, given back by its `Drop`, or none: then a door says
//! 503 and an upstream is not asked, while the admin door, the stores and Upwork's token endpoint still have theirs. Before
//! that, connections to upstreams that lie idle are asked back.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::recent::lock;

/// Descriptors for all but connections: listeners, runtimes, the admin door, stores, Upwork; a quarter where there are
/// few in all.
const KEPT: usize = 128;
/// One part of so many is left to connections to upstreams, so that those who are connected are served.
const UPSTREAMS: usize = 8;

/// How long a connection that was asked back may take to close, and how many are asked for one.
const ASKED_BACK: (Duration, usize) = (Duration::from_millis(100), 4);

/// Closes one idle connection, and says whether there was one.
type GiveBack = Box<dyn Fn() -> bool + Send + Sync>;

/// The process's descriptors, as far as connections may have them.
pub struct Descriptors {
    most: usize,
    used: AtomicUsize,
    idle: Mutex<Vec<GiveBack>>,
    freed: Notify,
}

impl std::fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.used.load(Relaxed), self.most)
    }
}

/// One of them.
#[derive(Debug)]
pub struct Descriptor(Arc<Descriptors>);

impl Descriptors {
    /// As many as the process may open; `None` where the system sets no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Arc::new(Self {
            most: (limit - KEPT.min(limit / 4)).max(2),
            used: AtomicUsize::new(0),
            idle: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Connections that may come in while none goes out.
    pub fn connections(&self) -> usize {
        self.most - (self.most / UPSTREAMS).max(1)
    }

    /// Whom to ask for an idle connection when there are too few.
    pub fn lend(&self, give_back: GiveBack) {
        lock(&self.idle).push(give_back);
    }

    /// For a connection that comes in.
    pub fn incoming(self: &Arc<Self>) -> Option<Descriptor> {
        self.take(self.connections())
    }

    /// Before a connection comes in: where there is no room, asks for some and waits a moment for it.
    pub async fn make_room(&self) {
        for _ in 0..ASKED_BACK.1 {
            if self.used.load(Relaxed) < self.connections() || !self.ask_back().await {
                return;
            }
        }
    }

    /// For a connection to an upstream.
    pub async fn outgoing(self: &Arc<Self>) -> Option<Descriptor> {
        for _ in 0..ASKED_BACK.1 {
            if let Some(descriptor) = self.take(self.most) {
                return Some(descriptor);
            }
            if !self.ask_back().await {
                break;
            }
        }
        self.take(self.most)
    }

    /// Whether somebody had one to give back.
    async fn ask_back(&self) -> bool {
        let freed = self.freed.notified();
        let asked = lock(&self.idle).iter().any(|give_back| give_back());
        if asked {
            // Whoever drives that connection closes it when it is polled next. In time or not, the caller looks again.
            let _ = tokio::time::timeout(ASKED_BACK.0, freed).await;
        }
        asked
    }

    fn take(self: &Arc<Self>, most: usize) -> Option<Descriptor> {
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < most).then_some(used + 1)).ok()?;
        Some(Descriptor(self.clone()))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_and_some_are_left_for_upstreams() {
        let connections = [4, 100, 1024, 20_000].map(|limit| Descriptors::new(Some(limit)).connections());
        assert_eq!(connections, [2, 66, 784, 17_388]);
        assert!(Descriptors::new(None).connections() > 1 << 40);
    }

    #[tokio::test]
    async fn those_who_are_connected_are_served_when_nobody_else_can_connect() {
        let all = Descriptors::new(Some(20));
        let mut held: Vec<_> = (0..14).map(|_| all.incoming().unwrap()).collect();
        assert!(all.incoming().is_none());
        let upstream = all.outgoing().await.unwrap();
        assert!(all.outgoing().await.is_none(), "the rest is not for connections");
        drop(upstream);
        held.pop();
        assert!(all.incoming().is_some());
    }

    #[tokio::test]
    async fn what_lies_idle_is_asked_back_before_anybody_is_refused() {
        let all = Descriptors::new(Some(20));
        let idle = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..15 {
            let one = all.outgoing().await.unwrap();
            idle.lock().unwrap().push(one);
        }
        let pool = idle.clone();
        all.lend(Box::new(move || pool.lock().unwrap().pop().is_some()));
        let fresh = all.outgoing().await.unwrap();
        assert_eq!(idle.lock().unwrap().len(), 14);
        assert!(all.incoming().is_none());
        all.make_room().await;
        all.make_room().await;
        let client = all.incoming().unwrap();
        assert_eq!(idle.lock().unwrap().len(), 12);
        drop((fresh, client));
    }
}
