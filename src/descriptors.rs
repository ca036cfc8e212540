//! Shares the process's file descriptors between incoming and outgoing connections.
//!
//! Each connection holds a [`Descriptor`], released by its `Drop`. When none is left, idle connections to upstreams are
//! closed; after that a door answers 503, while the admin door, the stores and Upwork's token endpoint keep theirs.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::recent::lock;

/// For everything but connections: listeners, runtimes, the admin door, stores, Upwork; a quarter if there are few in all.
const RESERVED: usize = 128;
/// One part in this many is reserved for connections to upstreams, so that connected clients are served.
const UPSTREAM_SHARE: usize = 8;
/// How long an idle connection may take to close.
const CLOSE_WAIT: Duration = Duration::from_millis(100);
/// Idle connections closed for one new one.
const CLOSE_TRIES: usize = 4;

/// Closes an idle connection; false if there is none.
type CloseIdle = Box<dyn Fn() -> bool + Send + Sync>;

/// The descriptors that connections may use.
pub struct Descriptors {
    limit: usize,
    used: AtomicUsize,
    pools: Mutex<Vec<CloseIdle>>,
    freed: Notify,
}

impl std::fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.used.load(Relaxed), self.limit)
    }
}

/// One connection's descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor(Arc<Descriptors>);

impl Descriptors {
    /// `limit` is what the process may open; `None` if the system sets no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Arc::new(Self {
            limit: (limit - RESERVED.min(limit / 4)).max(2),
            used: AtomicUsize::new(0),
            pools: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// How many incoming connections there may be.
    pub(crate) fn connections(&self) -> usize {
        self.limit - (self.limit / UPSTREAM_SHARE).max(1)
    }

    /// Registers a pool whose idle connections may be closed.
    pub(crate) fn add_pool(&self, close_idle: CloseIdle) {
        lock(&self.pools).push(close_idle);
    }

    pub(crate) fn incoming(self: &Arc<Self>) -> Option<Descriptor> {
        self.take(self.connections())
    }

    /// Before an incoming connection: closes idle connections if no descriptor is left, and waits a moment for that.
    pub(crate) async fn make_room(&self) {
        for _ in 0..CLOSE_TRIES {
            if self.used.load(Relaxed) < self.connections() || !self.close_idle().await {
                return;
            }
        }
    }

    /// For a connection to an upstream.
    pub(crate) async fn outgoing(self: &Arc<Self>) -> Option<Descriptor> {
        for _ in 0..CLOSE_TRIES {
            if let Some(descriptor) = self.take(self.limit) {
                return Some(descriptor);
            }
            if !self.close_idle().await {
                break;
            }
        }
        self.take(self.limit)
    }

    /// Whether there was an idle connection.
    async fn close_idle(&self) -> bool {
        let freed = self.freed.notified();
        let closing = lock(&self.pools).iter().any(|close_idle| close_idle());
        if closing {
            // The connection's task closes it when it is polled next. In time or not, the caller tries again.
            let _ = tokio::time::timeout(CLOSE_WAIT, freed).await;
        }
        closing
    }

    fn take(self: &Arc<Self>, limit: usize) -> Option<Descriptor> {
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < limit).then_some(used + 1)).ok()?;
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
    fn some_are_reserved_and_some_are_left_for_upstreams() {
        let connections = [4, 100, 1024, 20_000].map(|limit| Descriptors::new(Some(limit)).connections());
        assert_eq!(connections, [2, 66, 784, 17_388]);
        assert!(Descriptors::new(None).connections() > 1 << 40);
    }

    #[tokio::test]
    async fn connected_clients_are_served_when_no_one_else_can_connect() {
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
    async fn idle_connections_are_closed_before_anyone_is_refused() {
        let all = Descriptors::new(Some(20));
        let idle = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..15 {
            let one = all.outgoing().await.unwrap();
            idle.lock().unwrap().push(one);
        }
        let pool = idle.clone();
        all.add_pool(Box::new(move || pool.lock().unwrap().pop().is_some()));
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
