//! HTTP/2 bodies: a request's as the handler reads it, within the limits, and a response's as hyper reads it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::Refused;
use super::streams::Flight;
use crate::body::{Body, Error};
use crate::framing;

/// A request's body with what its door allows: so many bytes, so long between two pieces, no framing in trailers.
pub(super) struct Inbound {
    body: Incoming,
    /// Bytes left.
    left: Option<u64>,
    idle: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    on_refusal: Box<dyn Fn(Refused) + Send>,
}

impl Inbound {
    pub(super) fn new(
        body: Incoming,
        left: Option<u64>,
        idle: Duration,
        on_refusal: impl Fn(Refused) + Send + 'static,
    ) -> Self {
        Self { body, left, idle, sleep: None, waiting: false, on_refusal: Box::new(on_refusal) }
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

    fn look(&mut self, frame: &Frame<Bytes>) -> Result<(), Refused> {
        if let (Some(data), Some(left)) = (frame.data_ref(), &mut self.left) {
            *left = left.checked_sub(data.len() as u64).ok_or(Refused::BODY_TOO_LARGE)?;
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

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let refused = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = false;
                match this.look(&frame) {
                    Ok(()) => return Poll::Ready(Some(Ok(frame))),
                    Err(refused) => refused,
                }
            }
            Poll::Ready(other) => return Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending if this.poll_idle(cx).is_pending() => return Poll::Pending,
            Poll::Pending => Refused::BODY_TIMEOUT,
        };
        (this.on_refusal)(refused);
        Poll::Ready(Some(Err(refused.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, which reports when it was read to its end.
pub(super) struct Answer {
    body: Body,
    flight: Flight,
}

impl Answer {
    pub(super) fn new(body: Body, mut flight: Flight) -> Self {
        if body.is_end_stream() {
            flight.ended();
        }
        Self { body, flight }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        // hyper asks for a piece when it has sent the one before.
        this.flight.taken.asked();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_ready() {
            this.flight.taken.given();
        }
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || (polled.is_ready() && this.body.is_end_stream()) {
            this.flight.ended();
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
