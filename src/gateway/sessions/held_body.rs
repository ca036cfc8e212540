//! A body that stops when its session ends, so that no event stream, download or upload outlives a sign-out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::body::{self, Body};

/// Bodies of up to this many bytes are sent at once and not watched.
const SHORT: u64 = 64 << 10;

/// Whether a body may take long: its length is unknown or large.
pub(super) fn is_long(body: &Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact().is_none_or(|bytes| bytes > SHORT)
}

pub(super) fn until(session_end: Arc<CancellationToken>, body: Body) -> Body {
    let ended = Box::pin(CancellationToken::clone(&session_end).cancelled_owned());
    Body::wrap(HeldBody { body, ended, _session_end: session_end })
}

struct HeldBody {
    body: Body,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Its existence shows that the session has something open.
    _session_end: Arc<CancellationToken>,
}

#[derive(Debug, thiserror::Error)]
#[error("its session ended")]
struct SessionEnded;

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(SessionEnded.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
