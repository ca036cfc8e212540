//! A request's body on its way to an upstream: watched, and held back until it is asked for.
//!
//! In: the client's body. Out: the same frames, until the answer makes them pointless; and for whoever waits for the answer,
//! whether all was sent and when something last moved. It never buffers.

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

use super::wire::Told;
use crate::body::{Body, Error};

/// How long `Expect: 100-continue` is honoured for an upstream that says nothing (RFC 9110 section 10.1.1: a client does not
/// wait for ever).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What is known of an upload from outside.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    done: AtomicBool,
    failed: AtomicBool,
    waits: AtomicBool,
    begun: AtomicBool,
    last_millis: AtomicU64,
    go: Notify,
}

impl Progress {
    pub(super) fn done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// The client's side cut its body.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// More is wanted, and the client has not sent it yet; how long that may last its door says.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// The client's body was asked for.
    pub(super) fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn last_moved(&self) -> Instant {
        self.start + Duration::from_millis(self.last_millis.load(Ordering::Relaxed))
    }

    /// The upstream said 100 (Continue).
    pub(super) fn go_on(&self) {
        self.go.notify_one();
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
    /// The connection it goes out on.
    told: Option<Arc<Told>>,
}

impl Upload {
    /// With `expect`, the first byte waits for [`Progress::go_on`], or a second.
    pub(super) fn new(body: Body, expect: bool) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress {
            start: Instant::now(),
            done: AtomicBool::new(http_body::Body::is_end_stream(&body)),
            failed: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            last_millis: AtomicU64::new(0),
            go: Notify::new(),
        });
        let wait = expect.then(|| {
            let progress = progress.clone();
            Box::pin(async move {
                // Either way the body may go on.
                let _ = tokio::time::timeout(CONTINUE_WAIT, progress.go.notified()).await;
            }) as Wait
        });
        (Self { body, progress: progress.clone(), wait, told: None }, progress)
    }

    /// It goes out on this connection.
    pub(super) fn on(&mut self, told: Arc<Told>) {
        self.told = Some(told);
    }

    /// An upstream that has answered may take what follows for the next request: it has refused a body that was not to come
    /// without its word (RFC 9110 section 10.1.1), or has answered to the end without having read all.
    fn is_unwanted(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.ended() || (self.wait.is_some() && told.answered()))
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_unwanted() {
            // For ever: the connection is closed at the answer's end, which an error here would cut short.
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
                // After trailers nobody asks for more.
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

/// A timer for the silence between two pieces of a body; armed only while nothing comes.
#[derive(Debug)]
pub(super) struct IdleTimer {
    allowed: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    pub(super) fn new(allowed: Duration) -> Self {
        Self { allowed, sleep: None }
    }

    /// Something came.
    pub(super) fn moved(&mut self) {
        self.sleep = None;
    }

    /// Nothing came; ready when that has been so for too long.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let allowed = self.allowed;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed))).as_mut().poll(cx)
    }
}
