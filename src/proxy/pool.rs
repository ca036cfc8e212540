//! The idle connections of one upstream, and the response bodies that return them.
//!
//! A connection comes back once its response was read to the end. One on which anything went wrong, or whose response was
//! left unread, is never used again.

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

use super::response_guard::ConnectionState;
use super::upload::{IdleTimer, Progress, Upload};
use crate::body::Error;
use crate::descriptors::Descriptors;
use crate::recent::lock;

/// Per upstream and worker.
const MAX_IDLE: usize = 128;

/// A connection that can send. Dropping it closes it at once, whatever is still in progress.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    pub(super) state: Arc<ConnectionState>,
    /// The upstream's own `Keep-Alive: timeout` less a second, else the default.
    pub(super) keep_idle: Duration,
    pub(super) detach: oneshot::Sender<()>,
}

impl Connection {
    /// Lets the connection live on for the protocol it was upgraded to.
    pub(super) fn detach(self) {
        // No one receives it if the connection has ended already.
        let _ = self.detach.send(());
    }

    /// The request before was written to its end.
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.state.is_unusable()
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

impl Idle {
    fn is_alive(&self, now: Instant) -> bool {
        self.until > now && !self.connection.is_closed()
    }
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<VecDeque<Idle>>,
}

impl Pool {
    /// An empty pool, which closes idle connections when `descriptors` run short.
    pub(super) fn new(descriptors: &Descriptors) -> Arc<Self> {
        let pool = Arc::new(Self::default());
        let idle = Arc::downgrade(&pool);
        descriptors.add_pool(Box::new(move || idle.upgrade().is_some_and(|pool| pool.close_oldest())));
        pool
    }

    /// The connection used last, if it is still alive.
    pub(super) fn take(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = lock(&self.idle);
        while idle.back().is_some_and(|entry| !entry.is_alive(now)) {
            idle.pop_back();
        }
        // An upstream may answer before it has read the whole request; nothing else may be sent behind the rest of it.
        let place = idle.iter().rposition(|entry| entry.is_alive(now) && entry.connection.is_ready())?;
        idle.remove(place).map(|entry| entry.connection)
    }

    fn put_back(&self, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let now = Instant::now();
        let until = now + connection.keep_idle;
        let mut idle = lock(&self.idle);
        // The longest idle are in front.
        while idle.front().is_some_and(|entry| !entry.is_alive(now)) || idle.len() >= MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, until });
    }

    /// Whether there was one.
    fn close_oldest(&self) -> bool {
        lock(&self.idle).pop_front().is_some()
    }

    pub(super) fn sweep(&self) {
        let now = Instant::now();
        lock(&self.idle).retain(|entry| entry.is_alive(now));
    }
}

/// Puts its connection back into the pool at its end.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    upload: Arc<Progress>,
    timer: IdleTimer,
}

impl ResponseBody {
    pub(super) fn new(
        body: Incoming,
        connection: Connection,
        pool: Arc<Pool>,
        upload: Arc<Progress>,
        idle: Duration,
    ) -> Self {
        let mut response = Self { body, connection: Some(connection), pool, upload, timer: IdleTimer::new(idle) };
        if response.body.is_end_stream() {
            response.finish();
        }
        response
    }

    fn finish(&mut self) {
        // A response that came before the upload's end leaves the connection in the middle of a request: it is closed, and
        // nothing more of that request is sent.
        if let Some(connection) = self.connection.take().filter(|_| self.upload.is_done()) {
            self.pool.put_back(connection);
        }
    }
}

impl http_body::Body for ResponseBody {
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
                self.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                std::task::ready!(self.timer.poll_idle(cx));
                self.connection = None;
                Poll::Ready(Some(Err("the upstream's body stalled for too long".into())))
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
