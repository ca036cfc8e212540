//! The request's side of an exchange: its body, piece by piece as the handler asks for it, and a disconnecting client.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use super::{Connection, Current, Event, Gone};
use crate::framing::{Piece, Refusal, Rejection, Step};
use crate::http1::exchange::Demand;
use crate::http1::{head, poll_read, poll_read_body};

/// At most this much of a dropped body is read and discarded, so that another request can follow.
const DISCARDED: u64 = 64 << 10;
/// At most this many bytes are read ahead, to notice that a client disconnects.
const AHEAD: usize = 16 << 10;
/// How often to check a socket once the read-ahead is full: a reset hides behind unread bytes.
const LOOK: Duration = Duration::from_secs(1);

impl<R: Fn(Event)> Connection<R> {
    /// Reads the body as far as the handler wants it. Ready when the handler got something.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, current: &mut Current) -> Poll<Result<(), Gone>> {
        loop {
            let dropped = match current.exchange.demand(cx.waker()) {
                Demand::More if !self.over => false,
                Demand::Dropped if !self.over && current.discarded <= DISCARDED => true,
                Demand::More | Demand::Dropped | Demand::Later => {
                    return self.poll_watch(cx).map(Err);
                }
            };
            if !dropped && std::mem::take(&mut current.expects) && current.read == 0 && self.input.is_empty() {
                self.output.head().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                if matches!(self.poll_output(cx), Poll::Ready(Err(_))) {
                    return Poll::Ready(Err(Gone));
                }
            }
            match self.reader.step(&self.input) {
                Ok(Step::Body { len, piece, end }) => {
                    self.times.starved = None;
                    let (read, bytes) = (current.read, self.input.split_to(len).freeze());
                    match self.receive(current, bytes, piece) {
                        _ if dropped => current.discarded += current.read - read,
                        Ok(frame) => {
                            let visible = frame.is_some() || end;
                            current.exchange.deliver(frame, end, cx.waker());
                            if visible {
                                return Poll::Ready(Ok(()));
                            }
                        }
                        Err(refused) => return self.refuse_body(cx, current, refused),
                    }
                    if end {
                        return self.poll_watch(cx).map(Err);
                    }
                }
                Ok(Step::More | Step::Head { .. } | Step::Opaque) => {
                    if self.times.half_closed.is_some() {
                        return self.refuse_body(cx, current, Refusal::Cut.into());
                    }
                    match poll_read_body(&mut self.socket, &mut self.input, cx) {
                        Poll::Ready(Ok(1..)) => {}
                        Poll::Ready(Ok(0)) => self.times.half_closed = Some(Instant::now()),
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                        Poll::Pending => {
                            let since = *self.times.starved.get_or_insert_with(Instant::now);
                            ready!(self.timer.poll_until(cx, since + self.config.body_idle_timeout));
                            return self.refuse_body(cx, current, Rejection::BODY_TIMEOUT);
                        }
                    }
                }
                Err(refusal) => return self.refuse_body(cx, current, refusal.into()),
            }
        }
    }

    /// Counts a piece of the body, and converts it for the handler.
    fn receive(&self, current: &mut Current, bytes: Bytes, piece: Piece) -> Result<Option<Frame<Bytes>>, Rejection> {
        if piece == Piece::Data {
            let count = bytes.len() as u64;
            current.read += count;
            current.left = current.left.map(|left| left.saturating_sub(count));
            if self.config.body_bytes.is_some_and(|most| current.read > most) {
                return Err(Rejection::BODY_TOO_LARGE);
            }
        }
        Ok(head::frame(bytes, piece))
    }

    /// Refuses the body: the handler learns why, and the connection ends.
    fn refuse_body(
        &mut self,
        cx: &mut Context<'_>,
        current: &mut Current,
        refused: Rejection,
    ) -> Poll<Result<(), Gone>> {
        self.over = true;
        (self.report)(Event::Rejected(refused));
        current.exchange.refuse(refused, cx.waker());
        Poll::Ready(Ok(()))
    }

    /// Reads ahead, to notice that a client disconnects.
    pub(super) fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        while self.times.half_closed.is_none() {
            if self.input.len() >= AHEAD {
                let looked = *self.times.looked.get_or_insert_with(Instant::now);
                ready!(self.timer.poll_until(cx, looked + LOOK));
                self.times.looked = None;
                if self.socket.is_reset() {
                    return Poll::Ready(Gone);
                }
                continue;
            }
            match ready!(poll_read(&mut self.socket, &mut self.input, cx)) {
                Ok(1..) => {}
                Ok(0) => self.times.half_closed = Some(Instant::now()),
                Err(_) => return Poll::Ready(Gone),
            }
        }
        Poll::Pending
    }

    /// Whether another request can follow a response with this `success`, as far as the request's body is concerned
    /// (RFC 9112 sections 9.3 and 9.6). It discards the available bytes, and never delays a response for bytes that
    /// have not arrived.
    pub(super) fn poll_follows(&mut self, cx: &mut Context<'_>, current: &mut Current, success: bool) -> Poll<bool> {
        if !self.reader.in_body() {
            return Poll::Ready(!self.over);
        }
        // RFC 9110 section 10.1.1: a client that was not sent a 100 (Continue) may leave the body out.
        if current.expects {
            return Poll::Ready(false);
        }
        if !current.exchange.is_dropped() {
            // The body is still being sent to the app: an app that has accepted the request reads on, others may not.
            return Poll::Ready(success);
        }
        if current.left.is_some_and(|left| left > DISCARDED) {
            return Poll::Ready(false);
        }
        let gone = matches!(self.poll_body(cx, current), Poll::Ready(Err(_)));
        let over = gone || self.over || current.discarded > DISCARDED;
        // A body of known length that has not arrived yet: it arrives while the response is sent.
        Poll::Ready(!over && (!self.reader.in_body() || current.left.is_some()))
    }

    /// Discards the rest of the body after its response. Ready with whether another request can follow.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, current: &mut Current, until: Instant) -> Poll<bool> {
        while self.reader.in_body() {
            if self.over || current.discarded > DISCARDED || current.left.is_some_and(|left| left > DISCARDED) {
                return Poll::Ready(false);
            }
            match self.poll_body(cx, current) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending if !self.reader.in_body() => {}
                Poll::Pending if self.over || current.discarded > DISCARDED => return Poll::Ready(false),
                Poll::Pending => return self.timer.poll_until(cx, until).map(|()| false),
            }
        }
        Poll::Ready(!self.over)
    }
}
