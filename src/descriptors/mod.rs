//! Shares the process's file descriptors between incoming and outgoing connections.
//!
//! Each connection holds a [`Descriptor`], released by its `Drop`. Neither side can use up the other's share. When none
//! is left, idle connections to upstreams are closed, then answers that clients do not read are cut. After that a door
//! answers 503, while the admin door, the stores and Upwork's token endpoint keep theirs.

mod answers;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::recent::lock;
pub(crate) use answers::Answers;
use answers::Connections;
pub use answers::Waiting;

/// For everything but connections: listeners, runtimes, the admin door, stores, Upwork; a quarter if the total is
/// small.
const RESERVED: usize = 128;
/// The reserved descriptors divided by this are for connections to Upwork's API, so that clients of the app cannot take
/// them all.
const API_SHARE: usize = 4;
/// The total divided by this is reserved for connections to upstreams, so that connected clients are served.
const UPSTREAM_SHARE: usize = 8;
/// The total divided by this is reserved for incoming connections, however many answers clients leave unread.
const CLIENT_SHARE: usize = 2;
/// How long an idle or cut connection may take to close.
const CLOSE_WAIT: Duration = Duration::from_millis(100);
/// How long a request waits for a connection to be closed for it.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// Connections closed for one new one.
const CLOSE_TRIES: usize = 8;

/// Closes an idle connection; false if there is none.
type CloseIdle = Box<dyn Fn() -> bool + Send + Sync>;

pub struct Descriptors {
    limit: usize,
    used: AtomicUsize,
    clients: AtomicUsize,
    /// Maximum number of connections to upstreams.
    places: usize,
    /// The free ones.
    upstreams: Arc<Semaphore>,
    /// Additional ones for Upwork's API, from the reserved descriptors.
    api: Arc<Semaphore>,
    connections: Connections,
    pools: Mutex<Vec<CloseIdle>>,
    freed: Notify,
}

impl std::fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.used.load(Relaxed), self.limit)
    }
}

#[derive(Debug)]
pub(crate) struct Descriptor {
    all: Arc<Descriptors>,
    place: Place,
}

/// The share that a connection's descriptor is taken from.
#[derive(Debug)]
enum Place {
    Client,
    Upstream(#[expect(dead_code, reason = "held until the connection closes")] OwnedSemaphorePermit),
    Reserved(#[expect(dead_code, reason = "held until the connection closes")] OwnedSemaphorePermit),
}

impl Descriptors {
    /// `limit`: how many files the process may open; `None` if the system sets no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Self::with_answers(limit, usize::MAX)
    }

    /// With at most this many connections to upstreams, each of which may hold a part of an answer.
    pub(crate) fn with_answers(limit: Option<u64>, answers: usize) -> Arc<Self> {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let reserved = RESERVED.min(limit / 4);
        let limit = (limit - reserved).max(2);
        let upstreams = (limit - limit / CLIENT_SHARE).min(answers).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            limit,
            places: upstreams,
            used: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            upstreams: Arc::new(Semaphore::new(upstreams)),
            api: Arc::new(Semaphore::new(reserved / API_SHARE)),
            connections: Connections::default(),
            pools: Mutex::default(),
            freed: Notify::new(),
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.limit - (self.limit / UPSTREAM_SHARE).max(1)
    }

    /// Registers the answers of a new client connection.
    pub(crate) fn answers(&self) -> Arc<Answers> {
        self.connections.add()
    }

    /// Registers a pool whose idle connections may be closed.
    pub(crate) fn add_pool(&self, close_idle: CloseIdle) {
        lock(&self.pools).push(close_idle);
    }

    pub(crate) fn incoming(self: &Arc<Self>) -> Option<Descriptor> {
        let most = self.connections();
        self.clients.fetch_update(Relaxed, Relaxed, |clients| (clients < most).then_some(clients + 1)).ok()?;
        if !self.take() {
            self.clients.fetch_sub(1, Relaxed);
            return None;
        }
        Some(self.descriptor(Place::Client))
    }

    /// Call before accepting a connection: closes idle connections if no descriptor is left, and waits briefly for
    /// that.
    pub(crate) async fn make_room(&self) {
        for _ in 0..CLOSE_TRIES {
            let (used, clients) = (self.used.load(Relaxed), self.clients.load(Relaxed));
            if used < self.limit || clients >= self.connections() || !self.close_idle().await {
                return;
            }
        }
    }

    /// For a connection to Upwork's API.
    pub(crate) async fn outgoing_to_api(self: &Arc<Self>) -> Option<Descriptor> {
        match self.api.clone().try_acquire_owned() {
            Ok(reserved) => Some(self.descriptor(Place::Reserved(reserved))),
            Err(_) => self.outgoing().await,
        }
    }

    /// Requests that one client may have in flight if many share a connection, so that one client cannot take all
    /// places.
    pub(crate) fn requests_of_a_client(&self) -> usize {
        (self.places / 2).max(1)
    }

    /// For a connection to an upstream. Requests wait in a queue for a connection to be closed, so that one client's
    /// many requests do not delay those of others.
    pub(crate) async fn outgoing(self: &Arc<Self>) -> Option<Descriptor> {
        let mut upstream = self.upstreams.clone().try_acquire_owned().ok();
        for _ in 0..CLOSE_TRIES {
            if let Some(descriptor) =
                upstream.take_if(|_| self.take()).map(|upstream| self.descriptor(Place::Upstream(upstream)))
            {
                return Some(descriptor);
            }
            let freed = self.freed.notified();
            if !self.begin_closing() && !self.connections.cut_longest(Instant::now()) {
                break;
            }
            if upstream.is_some() {
                let _ = tokio::time::timeout(CLOSE_WAIT, freed).await;
            } else {
                let queued = tokio::time::timeout(QUEUE_WAIT, self.upstreams.clone().acquire_owned());
                upstream = queued.await.ok().and_then(Result::ok);
            }
        }
        let upstream = upstream.or_else(|| self.upstreams.clone().try_acquire_owned().ok())?;
        self.take().then(|| self.descriptor(Place::Upstream(upstream)))
    }

    /// Closes an idle connection and waits for it, up to a limit. False if there was none.
    async fn close_idle(&self) -> bool {
        let freed = self.freed.notified();
        let closing = self.begin_closing();
        if closing {
            // The connection's task closes it when it is next polled. The caller tries again in any case.
            let _ = tokio::time::timeout(CLOSE_WAIT, freed).await;
        }
        closing
    }

    fn begin_closing(&self) -> bool {
        lock(&self.pools).iter().any(|close_idle| close_idle())
    }

    fn take(&self) -> bool {
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < self.limit).then_some(used + 1)).is_ok()
    }

    fn descriptor(self: &Arc<Self>, place: Place) -> Descriptor {
        Descriptor { all: self.clone(), place }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        match self.place {
            Place::Reserved(_) => return,
            Place::Client => drop(self.all.clients.fetch_sub(1, Relaxed)),
            Place::Upstream(_) => {}
        }
        self.all.used.fetch_sub(1, Relaxed);
        self.all.freed.notify_waiters();
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
    async fn the_api_has_places_that_no_client_of_the_app_can_take() {
        let all = Descriptors::new(Some(512));
        let mut held = Vec::new();
        while let Some(one) = all.outgoing().await {
            held.push(one);
        }
        let api: Vec<_> = std::iter::repeat_with(|| all.outgoing_to_api()).take(32).collect();
        for one in api {
            held.push(one.await.unwrap());
        }
        assert!(all.outgoing_to_api().await.is_none());
        assert_eq!((held.len(), all.requests_of_a_client()), (192 + 32, 96));
        held.clear();
        assert!(all.outgoing_to_api().await.is_some() && all.used.load(Relaxed) == 0);
    }

    #[tokio::test]
    async fn idle_connections_are_closed_before_anyone_is_refused() {
        let all = Descriptors::new(Some(20));
        let idle = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..8 {
            let one = all.outgoing().await.unwrap();
            idle.lock().unwrap().push(one);
        }
        assert!(all.outgoing().await.is_none(), "the other half is for clients");
        let clients: Vec<_> = (0..7).map(|_| all.incoming().unwrap()).collect();
        let pool = idle.clone();
        all.add_pool(Box::new(move || pool.lock().unwrap().pop().is_some()));
        let fresh = all.outgoing().await.unwrap();
        assert_eq!(idle.lock().unwrap().len(), 7);
        assert!(all.incoming().is_none());
        all.make_room().await;
        all.make_room().await;
        let client = all.incoming().unwrap();
        assert_eq!(idle.lock().unwrap().len(), 6);
        drop((fresh, client, clients));
    }
}
