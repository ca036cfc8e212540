//! The idle connections of one upstream.
//!
//! A connection returns once its response was read to the end. One that had any error, or whose response was left
//! unread, is never reused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::BytesMut;
use http::HeaderValue;
use tokio::time::Instant;

use super::connection::Connection;
use crate::descriptors::Descriptors;
use crate::recent::lock;

/// Per upstream and worker.
const MAX_IDLE: usize = 128;

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    until: Instant,
}

impl Idle {
    fn is_usable(&mut self, now: Instant) -> bool {
        self.until > now && self.connection.is_usable()
    }
}

/// Connections that authenticate one client. It needs one, and more only for simultaneous requests.
const MAX_BOUND: usize = 8;

/// The longest idle ones are at the front.
#[derive(Debug, Default)]
pub struct Pool(Mutex<VecDeque<Idle>>);

impl Pool {
    /// An empty pool, which closes idle connections when `descriptors` run short.
    pub fn new(descriptors: &Descriptors) -> Arc<Self> {
        let pool = Arc::new(Self::default());
        let idle = Arc::downgrade(&pool);
        let close_oldest = move || idle.upgrade().is_some_and(|pool| lock(&pool.0).pop_front().is_some());
        descriptors.add_pool(Box::new(close_oldest));
        pool
    }

    /// The most recently used connection that is still usable.
    pub fn take(&self) -> Option<Box<Connection>> {
        let now = Instant::now();
        let mut idle = lock(&self.0);
        loop {
            let mut last = idle.pop_back()?;
            if last.is_usable(now) {
                return Some(last.connection);
            }
        }
    }

    pub(crate) fn idle(&self) -> usize {
        lock(&self.0).len()
    }

    pub(super) fn put(&self, mut connection: Box<Connection>) {
        // No buffer is held while idle.
        connection.input = BytesMut::new();
        let until = Instant::now() + connection.keep_idle;
        let mut idle = lock(&self.0);
        let most = if connection.authenticates { MAX_BOUND } else { MAX_IDLE };
        if idle.len() >= most {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, until });
    }

    /// Closes connections that have been idle for too long, or were closed by the upstream.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        lock(&self.0).retain_mut(|entry| entry.is_usable(now));
    }
}

/// The upstream connections that authenticate one client's connection (NTLM, Negotiate): they are used for no other
/// (RFC 4559 section 6), and close with it. Even if an unknown front mixes clients on a connection, signed-in users are
/// kept apart.
#[derive(Debug, Default)]
pub struct BoundPool(OnceLock<Mutex<Bound>>);

#[derive(Debug, Default)]
struct Bound {
    user: Option<HeaderValue>,
    pool: Arc<Pool>,
}

impl BoundPool {
    fn pool(bound: &Mutex<Bound>, user: Option<&HeaderValue>) -> Arc<Pool> {
        let mut bound = lock(bound);
        if bound.user.as_ref() != user {
            // Connections that another user's requests still use return to the pool that is dropped here.
            *bound = Bound { user: user.cloned(), pool: Arc::default() };
        }
        bound.pool.clone()
    }
}

/// Where the connections of an exchange come from and return to.
#[derive(Clone, Copy, Debug)]
pub struct Pools<'a> {
    pub shared: &'a Arc<Pool>,
    /// `None` if connections that authenticate a client cannot be kept for it.
    pub bound: Option<&'a BoundPool>,
    /// The user that the request is made for.
    pub user: Option<&'a HeaderValue>,
}

impl<'a> Pools<'a> {
    pub fn shared(shared: &'a Arc<Pool>) -> Self {
        Self { shared, bound: None, user: None }
    }

    /// A connection that authenticates the client, or with `any` another one of the upstream's.
    pub(crate) fn take(&self, any: bool) -> Option<Box<Connection>> {
        let bound = self.bound.and_then(|bound| bound.0.get());
        let own = bound.and_then(|bound| BoundPool::pool(bound, self.user).take());
        own.or_else(|| if any { self.shared.take() } else { None })
    }

    /// The pool that `connection` returns to; `None` if it is closed after its response.
    pub(super) fn home(&self, connection: &Connection) -> Option<Arc<Pool>> {
        if !connection.authenticates {
            return Some(self.shared.clone());
        }
        Some(BoundPool::pool(self.bound?.0.get_or_init(Mutex::default), self.user))
    }
}
