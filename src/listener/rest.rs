//! What a handler leaves of an HTTP/1 request's body.
//!
//! In: hyper's body. Out: the same for the handler; and once there is an answer, whether another request can follow on the
//! connection. A client that was not told otherwise counts on it, while hyper closes a connection whose request was not
//! read to its end: so a short rest is read for nothing, and an answer before a longer one says that it is the last
//! (RFC 9112 sections 9.3 and 9.6). It never keeps an answer back for bytes that have not come yet.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::traffic::Traffic;

use crate::recent::lock;

/// So many bytes are read for nothing.
const MOST: u64 = 64 << 10;
/// So long they are waited for, behind an answer.
const WAIT: Duration = Duration::from_secs(5);

/// What is known of one request's body.
#[derive(Debug, Default)]
struct Known {
    /// Somebody asked for bytes: a client that expects a 100 (Continue) has got it.
    begun: AtomicBool,
    ended: AtomicBool,
    answered: AtomicBool,
    left: Mutex<Option<Incoming>>,
}

/// A body for a handler, which gives back what it does not read.
#[derive(Debug)]
pub(super) struct Lent {
    body: Option<Incoming>,
    known: Arc<Known>,
}

/// The connection's view of it.
#[derive(Debug)]
pub(super) struct Rest {
    known: Arc<Known>,
    expects: bool,
}

/// A body in two: one for the handler, one for the connection. `expects` where the client waits for a 100 (Continue).
pub(super) fn lend(body: Incoming, expects: bool) -> (Lent, Rest) {
    let known = Arc::<Known>::default();
    (Lent { body: Some(body), known: known.clone() }, Rest { known, expects })
}

/// The answer is there, with this status: whether a request can follow it. One without a body has no rest.
pub(super) async fn lets_another_follow(rest: Option<Rest>, status: StatusCode, traffic: &Traffic) -> bool {
    match rest {
        Some(rest) => rest.lets_another_follow(status, traffic).await,
        None => true,
    }
}

impl Rest {
    async fn lets_another_follow(self, status: StatusCode, traffic: &Traffic) -> bool {
        let known = &self.known;
        known.answered.store(true, Relaxed);
        // RFC 9110 section 10.1.1: who was not told to send the body may leave it out.
        if self.expects && !known.begun.load(Relaxed) {
            return false;
        }
        let Some(mut body) = known.left().take() else {
            // Still on its way to the app: one that has accepted the request reads on, one that has not might not.
            return known.ended.load(Relaxed) || status.is_success();
        };
        if body.size_hint().lower() > MOST {
            return false;
        }
        if let Some(all) = discard(&mut body, Some(traffic)).await {
            return all;
        }
        // Of a known length, and not yet here: it comes while the answer goes.
        let short = body.size_hint().exact().is_some();
        if short {
            discard_behind(body);
        }
        short
    }
}

impl Known {
    fn left(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        lock(&self.left)
    }
}

/// Whether all of it was read, and no more than is allowed; `None` where the client, whose `traffic` this is, has sent no
/// more of it yet.
async fn discard(body: &mut Incoming, traffic: Option<&Traffic>) -> Option<bool> {
    let mut left = MOST;
    poll_fn(|cx| {
        loop {
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(end) => return Poll::Ready(Some(end.is_none())),
                Poll::Pending if traffic.is_some_and(Traffic::is_dry) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len) as u64) {
                Some(_) if body.is_end_stream() => return Poll::Ready(Some(true)),
                Some(rest) => left = rest,
                None => return Poll::Ready(Some(false)),
            }
        }
    })
    .await
}

fn discard_behind(mut body: Incoming) {
    // Without a runtime the connection is gone, too.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { tokio::time::timeout(WAIT, discard(&mut body, None)).await });
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let known = &self.known;
        if known.ended.load(Relaxed) {
            return;
        }
        if !known.answered.load(Relaxed) {
            *known.left() = Some(body);
        } else if known.begun.load(Relaxed) && body.size_hint().lower() <= MOST {
            discard_behind(body);
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        this.known.begun.store(true, Relaxed);
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || (polled.is_ready() && body.is_end_stream()) {
            this.known.ended.store(true, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
