//! Idle connections of one upstream, and the answers that give them back.
//!
//! In: connections whose answer was read to its end. Out: one that can be used again. A connection on which anything went
//! wrong, or whose answer was left unread, is never given out again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::upload::{IdleTimer, Progress, Upload};
use super::wire::Told;
use crate::body::Error;
use crate::descriptors::Descriptors;
use crate::recent::lock;

/// Idle connections kept at the most, per upstream and worker.
const MOST_IDLE: usize = 128;

/// A connection that can send. Dropped, it is closed at once, whatever is still under way on it.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) sender: SendRequest<Upload>,
    /// What its reader is told, and tells.
    pub(super) told: Arc<Told>,
    /// How long it may lie idle: the upstream's own `Keep-Alive: timeout` less a second, else the default.
    pub(super) keep: Duration,
    /// Lets the connection live without a lease.
    pub(super) release: oneshot::Sender<()>,
}

impl Lease {
    /// The connection goes on by itself, to its own end.
    pub(super) fn release(self) {
        // Nobody listens where the connection has ended already.
        let _ = self.release.send(());
    }

    /// The next request could be written now: the one before was, to its end.
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Closed, or read something that should not have been there.
    fn is_spent(&self) -> bool {
        self.sender.is_closed() || self.told.tainted()
    }
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    until: Instant,
}

impl Idle {
    fn lives(&self, now: Instant) -> bool {
        self.until > now && !self.lease.is_spent()
    }
}

/// The idle connections.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<VecDeque<Idle>>,
}

impl Pool {
    /// Without a connection yet; what lies idle in it is given back when `descriptors` are short.
    pub(super) fn new(descriptors: &Descriptors) -> Arc<Self> {
        let pool = Arc::new(Self::default());
        let lent = Arc::downgrade(&pool);
        descriptors.lend(Box::new(move || lent.upgrade().is_some_and(|pool| pool.give_back())));
        pool
    }

    /// The connection that was used last, if it still lives.
    pub(super) fn take(&self) -> Option<Lease> {
        let now = Instant::now();
        let mut idle = lock(&self.idle);
        while idle.back().is_some_and(|entry| !entry.lives(now)) {
            idle.pop_back();
        }
        // An upstream may answer before it has taken the whole request; behind the rest of it nothing else is sent.
        let place = idle.iter().rposition(|entry| entry.lives(now) && entry.lease.is_ready())?;
        idle.remove(place).map(|entry| entry.lease)
    }

    fn give(&self, lease: Lease) {
        if lease.is_spent() {
            return;
        }
        let now = Instant::now();
        let until = now + lease.keep;
        let mut idle = lock(&self.idle);
        // The front has lain longest: what ended there need not wait to be found.
        while idle.front().is_some_and(|entry| !entry.lives(now)) || idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { lease, until });
    }

    /// Drops the one that has lain longest; whether there was one.
    pub(super) fn give_back(&self) -> bool {
        lock(&self.idle).pop_front().is_some()
    }

    /// Drops what has lain too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut idle = lock(&self.idle);
        idle.retain(|entry| entry.lives(now));
    }
}

/// An answer's body; gives its connection back at its end.
#[derive(Debug)]
pub(super) struct Answer {
    body: Incoming,
    lease: Option<Lease>,
    pool: Arc<Pool>,
    upload: Arc<Progress>,
    timer: IdleTimer,
}

impl Answer {
    pub(super) fn new(body: Incoming, lease: Lease, pool: Arc<Pool>, upload: Arc<Progress>, idle: Duration) -> Self {
        let mut answer = Self { body, lease: Some(lease), pool, upload, timer: IdleTimer::new(idle) };
        if answer.body.is_end_stream() {
            answer.finish();
        }
        answer
    }

    fn finish(&mut self) {
        // An answer that came before the upload's end leaves the connection in the middle of a request: it is closed, and
        // nothing more of that request is sent.
        if let Some(lease) = self.lease.take().filter(|_| self.upload.done()) {
            self.pool.give(lease);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer.moved();
                if self.body.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                std::task::ready!(self.timer.poll_idle(cx));
                self.lease = None;
                Poll::Ready(Some(Err("the upstream's body stood still for too long".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
