//! A request's body on its way to an upstream: watched, and held back until it is asked for.
//!
//! Passes on the client's frames until the response makes them pointless, and records whether all was sent and when
//! something last moved. It never buffers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::response_guard::ConnectionState;
use crate::body::{Body, Error};

/// How long to wait for the upstream's 100 (Continue): a client must not wait indefinitely (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// How far an upload is.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    done: AtomicBool,
    failed: AtomicBool,
    /// More is wanted, and the client has not sent it yet.
    waits: AtomicBool,
    /// The client's body was asked for.
    begun: AtomicBool,
    last_millis: AtomicU64,
    proceed: Notify,
}

impl Progress {
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Its door limits how long that may last.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn last_moved(&self) -> Instant {
        self.start + Duration::from_millis(self.last_millis.load(Ordering::Relaxed))
    }

    /// The upstream sent 100 (Continue).
    pub(super) fn proceed(&self) {
        self.proceed.notify_one();
    }

    fn moved(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body that hyper's client polls.
pub(super) struct Upload {
    body: Body,
    progress: Arc<Progress>,
    wait: Option<Wait>,
    connection: Option<Arc<ConnectionState>>,
}

impl Upload {
    /// With `expect`, the first byte waits for [`Progress::proceed`], at most a second.
    pub(super) fn new(body: Body, expect: bool) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress {
            start: Instant::now(),
            done: AtomicBool::new(http_body::Body::is_end_stream(&body)),
            failed: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            last_millis: AtomicU64::new(0),
            proceed: Notify::new(),
        });
        let wait = expect.then(|| {
            let progress = progress.clone();
            Box::pin(async move {
                // Either way the body may be sent.
                let _ = tokio::time::timeout(CONTINUE_WAIT, progress.proceed.notified()).await;
            }) as Wait
        });
        (Self { body, progress: progress.clone(), wait, connection: None }, progress)
    }

    pub(super) fn send_on(&mut self, connection: Arc<ConnectionState>) {
        self.connection = Some(connection);
    }

    /// An upstream that has answered may read what follows as the next request: it answered instead of 100 (Continue) (RFC
    /// 9110 section 10.1.1), or completed its response without reading all of the request.
    fn is_unwanted(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.response_complete() || (self.wait.is_some() && connection.head_received())
        })
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_unwanted() {
            // Forever: the connection is closed at the response's end, which an error here would cut short.
            return Poll::Pending;
        }
        if let Some(wait) = &mut self.wait {
            std::task::ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        self.progress.begun.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.waits.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.progress.moved();
                // hyper does not poll again after trailers.
                if frame.is_trailers() || http_body::Body::is_end_stream(&self.body) {
                    self.progress.done.store(true, Ordering::Relaxed);
                }
            }
            Poll::Ready(Some(Err(_))) => self.progress.failed.store(true, Ordering::Relaxed),
            Poll::Ready(None) => {
                self.progress.done.store(true, Ordering::Relaxed);
                self.progress.moved();
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// Limits the silence between two pieces of a body; armed only while nothing comes.
#[derive(Debug)]
pub(super) struct IdleTimer {
    allowed: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    pub(super) fn new(allowed: Duration) -> Self {
        Self { allowed, sleep: None }
    }

    pub(super) fn moved(&mut self) {
        self.sleep = None;
    }

    /// Ready when nothing has come for too long.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let allowed = self.allowed;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed))).as_mut().poll(cx)
    }
}
