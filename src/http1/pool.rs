//! The idle connections of one upstream.
//!
//! A connection comes back once its response was read to the end. One on which anything went wrong, or whose response was
//! left unread, is never used again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
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

/// The longest idle are in front.
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

    /// The connection used last, if it is still usable.
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

    pub(super) fn put(&self, mut connection: Box<Connection>) {
        // No buffer is held while idle.
        connection.input = BytesMut::new();
        let until = Instant::now() + connection.keep_idle;
        let mut idle = lock(&self.0);
        if idle.len() >= MAX_IDLE {
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
