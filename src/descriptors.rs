//! File descriptors: how many connections the system allows, shared between those that come in and those that go out.
//!
//! In: the process's limit. Out: a [`Descriptor`] for each connection, given back by its `Drop`, or none: then a door says
//! 503 and an upstream is not asked, while the admin door, the stores and Upwork's token endpoint still have theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Descriptors for all but connections: listeners, runtimes, the admin door, stores, Upwork; a quarter where there are
/// few in all.
const KEPT: usize = 128;
/// One part of so many is left to connections to upstreams, so that those who are connected are served.
const UPSTREAMS: usize = 8;

/// The process's descriptors, as far as connections may have them.
#[derive(Debug)]
pub struct Descriptors {
    most: usize,
    used: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub struct Descriptor(Arc<Descriptors>);

impl Descriptors {
    /// As many as the process may open; `None` where the system sets no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Arc::new(Self { most: (limit - KEPT.min(limit / 4)).max(2), used: AtomicUsize::new(0) })
    }

    /// Connections that may come in while none goes out.
    pub fn connections(&self) -> usize {
        self.most - (self.most / UPSTREAMS).max(1)
    }

    /// For a connection that comes in.
    pub fn incoming(self: &Arc<Self>) -> Option<Descriptor> {
        self.take(self.connections())
    }

    /// For a connection to an upstream.
    pub fn outgoing(self: &Arc<Self>) -> Option<Descriptor> {
        self.take(self.most)
    }

    fn take(self: &Arc<Self>, most: usize) -> Option<Descriptor> {
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < most).then_some(used + 1)).ok()?;
        Some(Descriptor(self.clone()))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
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

    #[test]
    fn those_who_are_connected_are_served_when_nobody_else_can_connect() {
        let all = Descriptors::new(Some(20));
        let mut held: Vec<_> = (0..14).map(|_| all.incoming().unwrap()).collect();
        assert!(all.incoming().is_none());
        let upstream = all.outgoing().unwrap();
        assert!(all.outgoing().is_none(), "the rest is not for connections");
        drop(upstream);
        held.pop();
        assert!(all.incoming().is_some());
    }
}
