//! HTTP/2 bodies: a request's for its handler, within the door's limits, and a response's for hyper. Neither buffers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::state::OpenStream;
use crate::body::{Body, Error};
use crate::framing::{self, Rejection};

/// A request's body, limited in its bytes, in the time between two pieces, and to harmless trailers.
pub(super) struct RequestBody {
    body: Incoming,
    bytes_left: Option<u64>,
    idle: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    on_rejection: Box<dyn Fn(Rejection) + Send>,
}

impl RequestBody {
    pub(super) fn new(
        body: Incoming,
        bytes_left: Option<u64>,
        idle: Duration,
        on_rejection: impl Fn(Rejection) + Send + 'static,
    ) -> Self {
        Self { body, bytes_left, idle, sleep: None, waiting: false, on_rejection: Box::new(on_rejection) }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        if !self.waiting {
            self.waiting = true;
            sleep.as_mut().reset(Instant::now() + idle);
        }
        sleep.as_mut().poll(cx)
    }

    fn check(&mut self, frame: &Frame<Bytes>) -> Result<(), Rejection> {
        if let (Some(data), Some(left)) = (frame.data_ref(), &mut self.bytes_left) {
            *left = left.checked_sub(data.len() as u64).ok_or(Rejection::BODY_TOO_LARGE)?;
        }
        let forbidden = |trailers: &http::HeaderMap| {
            trailers.keys().any(|name| framing::forbidden_in_trailers(name.as_str().as_bytes()))
        };
        if frame.trailers_ref().is_some_and(forbidden) {
            return Err(framing::Refusal::TrailerField.into());
        }
        Ok(())
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let rejection = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = false;
                match this.check(&frame) {
                    Ok(()) => return Poll::Ready(Some(Ok(frame))),
                    Err(rejection) => rejection,
                }
            }
            Poll::Ready(other) => return Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending if this.poll_idle(cx).is_pending() => return Poll::Pending,
            Poll::Pending => Rejection::BODY_TIMEOUT,
        };
        (this.on_rejection)(rejection);
        Poll::Ready(Some(Err(rejection.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, which reports when the client has read all of it.
pub(super) struct ResponseBody {
    body: Body,
    stream: OpenStream,
}

impl ResponseBody {
    pub(super) fn new(body: Body, mut stream: OpenStream) -> Self {
        if body.is_end_stream() {
            stream.complete();
        } else {
            if body.is_streamed() {
                stream.waiting.hold();
            }
            // hyper asks for no piece until the client's window has room.
            stream.waiting.begin();
        }
        Self { body, stream }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        // hyper polls for a piece once it has sent the one before.
        this.stream.waiting.end();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_ready() {
            this.stream.waiting.begin();
        }
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || (polled.is_ready() && this.body.is_end_stream()) {
            this.stream.complete();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
