//! The response's side of an exchange: interim responses, the head, the body, and the connection afterwards.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue};
use http_body::Body as _;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Connection, Current, Event, Gone, Next};
use crate::body;
use crate::framing::BodyLength;
use crate::http1::exchange::Exchange;
use crate::http1::head::{self, is_bodiless};
use crate::http1::output::Source;
use crate::response::Response;

/// How long the rest of a request's body may take after the response.
const DISCARD: Duration = Duration::from_secs(5);

/// How an incomplete response ended.
enum Cut {
    Gone,
    Body(body::Error),
}

impl<R: Fn(Event)> Connection<R> {
    pub(super) async fn respond(&mut self, mut response: Response, current: &mut Current) -> Next {
        let interim = current.exchange.end_interim();
        self.output.head().extend_from_slice(&interim);
        let length = response_length(&response, current);
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        let last = self.over || !current.keep_alive || length == BodyLength::UntilClose || self.drain.is_cancelled();
        let success = response.status.is_success();
        let follows = switches || (!last && poll_fn(|cx| self.poll_follows(cx, current, success)).await);
        current.expects = false;
        if !follows {
            response.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        } else if current.http_10 {
            response.headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        self.write_head(&response, length, current);
        let mut source = Source::new(response.body, length, current.takes_trailers);
        // If only the end of the connection ends the body, a clean end means that the body is complete.
        let unframed = (length == BodyLength::UntilClose).then(|| self.socket.reset_flag());
        if let Some(reset) = &unframed {
            reset.set(true);
        }
        let sent = poll_fn(|cx| self.poll_send(cx, &mut source, current)).await;
        // The response's body may still hold the rest of the request's.
        drop(source);
        match sent {
            Ok(()) => unframed.iter().for_each(|reset| reset.set(false)),
            Err(Cut::Gone) => return Next::Gone,
            Err(Cut::Body(error)) => {
                if current.exchange.refused().is_none() {
                    (self.report)(Event::ResponseCut(error));
                }
                return if unframed.is_some() { Next::Gone } else { Next::Close };
            }
        }
        if switches {
            let upgrade = current.exchange.take_upgrade().filter(|_| !self.reader.in_body());
            return upgrade.map_or(Next::Close, Next::Upgrade);
        }
        let until = Instant::now() + DISCARD;
        if follows && poll_fn(|cx| self.poll_discard(cx, current, until)).await { Next::Request } else { Next::Close }
    }

    fn write_head(&mut self, response: &Response, length: BodyLength, current: &Current) {
        let out = self.output.head();
        head::write_response(out, current.http_10, response.status, &response.headers);
        if !response.headers.contains_key(DATE) {
            head::write_date(out);
        }
        let counted = !is_bodiless(response.status) && response.status != StatusCode::NOT_MODIFIED;
        match length {
            BodyLength::Chunked => head::write_field(out, b"transfer-encoding", b"chunked"),
            BodyLength::UntilClose | BodyLength::Opaque => {}
            BodyLength::None | BodyLength::Exact(_) => {
                let announced = if current.head {
                    response.body.size_hint().exact().filter(|bytes| *bytes > 0)
                } else {
                    length.bytes()
                };
                if let Some(bytes) = announced.filter(|_| counted && !response.headers.contains_key(CONTENT_LENGTH)) {
                    head::write_field(out, b"content-length", bytes.to_string().as_bytes());
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the response; ready when all of it is written.
    fn poll_send(&mut self, cx: &mut Context<'_>, source: &mut Source, current: &mut Current) -> Poll<Result<(), Cut>> {
        loop {
            let waits = match source.poll_fill(cx, &mut self.output) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Cut::Body(error))),
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            match self.poll_output(cx) {
                Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Cut::Gone)),
                Poll::Ready(Ok(())) if waits => {}
                Poll::Ready(Ok(())) if source.has_ended() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => continue,
                Poll::Pending => {}
            }
            match self.poll_aside(cx, current) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Cut::Gone)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_interim(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Result<(), Gone> {
        if let Some(interim) = exchange.take_interim(cx.waker()) {
            self.output.head().extend_from_slice(&interim);
        }
        if self.output.is_empty() && self.times.blocked.is_none() {
            return Ok(());
        }
        match self.poll_output(cx) {
            Poll::Ready(Err(gone)) => Err(gone),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Writes and flushes pending bytes. TLS accepts bytes that its socket cannot take yet.
    pub(super) fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let before = self.output.len();
        let written = match self.output.poll_write(&mut self.socket, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.socket).poll_flush(cx),
            unwritten @ (Poll::Ready(Err(_)) | Poll::Pending) => unwritten,
        };
        if self.output.len() < before {
            self.times.wrote = Instant::now();
            self.unblocked();
        }
        let timed_out = match written {
            Poll::Ready(Ok(())) => {
                self.unblocked();
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => error.kind() == io::ErrorKind::TimedOut,
            Poll::Pending => {
                if self.times.blocked.is_none() {
                    self.waiting.begin();
                }
                let since = *self.times.blocked.get_or_insert_with(Instant::now);
                if self.waiting.poll_cut(cx).is_pending() {
                    std::task::ready!(self.timer.poll_until(cx, since + self.config.idle_timeout));
                }
                true
            }
        };
        if timed_out {
            (self.report)(Event::ResponseTimeout);
        }
        Poll::Ready(Err(Gone))
    }

    fn unblocked(&mut self) {
        if self.times.blocked.take().is_some() {
            self.waiting.end();
        }
    }
}

/// RFC 9112 section 6.3.
fn response_length(response: &Response, current: &Current) -> BodyLength {
    if current.head || is_bodiless(response.status) || response.status == StatusCode::NOT_MODIFIED {
        return BodyLength::None;
    }
    match head::announced(&response.headers).or(response.body.size_hint().exact()) {
        Some(0) => BodyLength::None,
        Some(bytes) => BodyLength::Exact(bytes),
        None if current.http_10 => BodyLength::UntilClose,
        None => BodyLength::Chunked,
    }
}
