//! Request bodies as handlers get them, and answers as hyper gets them.
//!
//! In: hyper's streams. Out: the same, within the door's limits. It never buffers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::Refused;
use super::io::ResetFlag;
use super::streams::Flight;
use super::traffic::Traffic;
use crate::body::{Body, Error};
use crate::framing;

/// A request's body with what its door allows: so many bytes, so long between two pieces, no framing in trailers.
pub(super) struct Inbound<B = Incoming> {
    body: B,
    /// Bytes left.
    left: Option<u64>,
    idle: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    on_refusal: Box<dyn Fn(Refused) + Send>,
}

impl<B> Inbound<B> {
    /// `idle` is kept here for HTTP/2; for HTTP/1 the guard does it.
    pub(super) fn new(
        body: B,
        left: Option<u64>,
        idle: Option<Duration>,
        on_refusal: impl Fn(Refused) + Send + 'static,
    ) -> Self {
        Self { body, left, idle, sleep: None, waiting: false, on_refusal: Box::new(on_refusal) }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(idle) = self.idle else { return Poll::Pending };
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

impl<B> http_body::Body for Inbound<B>
where
    B: http_body::Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
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

/// In an answer's extensions: nothing can follow it on an HTTP/1 connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseConnection;

/// An answer's body, which tells when it was taken to its end.
pub(super) struct Answer {
    body: Body,
    ends: Ends,
}

/// Who is told.
pub(super) enum Ends {
    /// The connection: this answer is no longer in flight. With a [`ResetFlag`] where nothing else tells that it broke off.
    Http1(Arc<Traffic>, Option<ResetFlag>),
    /// The stream: taken to its end, or aborted.
    Http2(Flight),
}

impl Answer {
    pub(super) fn new(body: Body, ends: Ends) -> Self {
        let mut answer = Self { body, ends };
        if answer.body.is_end_stream() {
            answer.ended();
        }
        answer
    }

    fn ended(&mut self) {
        if let Ends::Http2(flight) = &mut self.ends {
            flight.ended();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Ends::Http1(traffic, _) = &self.ends {
            traffic.answered();
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Ends::Http2(flight) = &this.ends {
            // hyper asks for a piece when it has sent the one before.
            flight.taken.asked();
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match (&this.ends, &polled) {
            (Ends::Http2(flight), Poll::Ready(_)) => flight.taken.given(),
            (Ends::Http1(_, Some(reset)), Poll::Ready(Some(Err(_)))) => reset.set(),
            _ => {}
        }
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || (polled.is_ready() && this.body.is_end_stream()) {
            this.ended();
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
