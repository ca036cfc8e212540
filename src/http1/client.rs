//! One exchange on an upstream's connection: writes a request and reads the response concurrently, in the caller's
//! task.
//!
//! Accepts only responses that every parser would read the same way (RFC 9112 sections 6, 7, 8). If the upstream stops
//! reading, the rest of the request is dropped, and the response, which may have arrived already, is still read (RFC
//! 9112 section 9.5).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, HeaderName, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::connection::{Connection, KEEP_IDLE};
use super::outgoing::Outgoing;
use super::pool::{Pool, Pools};
use super::socket::Socket;
use super::upload::Upload;
use super::{head, poll_read, poll_read_body};
use crate::body::{self, Body};
use crate::fields::Fields;
use crate::framing::{BodyLength, Refusal, ResponseHead, Step};
use crate::response::Response;

#[derive(Clone, Copy, Debug)]
pub struct ResponseTimeouts {
    /// From the last progress of the request to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub idle: Duration,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the upstream did not answer in time")]
    FirstByteTimeout,
    /// The client's own body failed.
    #[error("the request's body broke off")]
    RequestBody(#[source] body::Error),
    /// The upstream closed or reset the connection, or sent something that is not HTTP.
    #[error("the upstream closed the connection or sent an invalid response")]
    Response(#[source] io::Error),
    #[error("the upstream's response is malformed after its head")]
    Malformed,
}

/// A failed exchange, with the request if it may be sent on another connection: none of it was written, or it is
/// idempotent and has no body (RFC 9110 section 9.2.2), and no byte of a response arrived.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub request: Option<Outgoing>,
}

/// A response, and for a 101 the socket, which now speaks another protocol.
#[derive(Debug)]
pub struct Answer {
    pub response: Response,
    pub upgraded: Option<Socket>,
}

/// Sends `request` on `connection`, which returns to one of `pools` at the response's end. `on_interim` gets the
/// interim responses except 100.
pub fn send(
    mut connection: Box<Connection>,
    request: Outgoing,
    timeouts: ResponseTimeouts,
    pools: Pools<'_>,
    on_interim: impl FnMut(StatusCode, Fields),
) -> impl Future<Output = Result<Answer, Failure>> {
    connection.reader.expect(request.method, request.upgrade);
    connection.authenticates |= request.authenticates;
    run(
        Call { connection, upload: Upload::new(request), timeouts, waiting: None, started: false, closes: false },
        pools,
        on_interim,
    )
}

async fn run(
    mut call: Call,
    pools: Pools<'_>,
    mut on_interim: impl FnMut(StatusCode, Fields),
) -> Result<Answer, Failure> {
    let error = match poll_fn(|cx| call.poll_head(cx, &mut on_interim)).await {
        // RFC 9110 section 7.8: another protocol begins after the whole request.
        Ok((_, head)) if head.body == BodyLength::Opaque && !call.upload.is_done() => Error::Malformed,
        Ok((response, head)) if head.body == BodyLength::None || call.reads_on() => {
            return Ok(call.answer(response, head, pools));
        }
        Ok(_) => Error::Malformed,
        Err(error) => error,
    };
    let lost = matches!(error, Error::Response(_)) && !call.started;
    let request = if lost { call.upload.request.again() } else { None };
    Err(Failure { error, request })
}

/// An exchange in progress.
#[derive(Debug)]
struct Call {
    connection: Box<Connection>,
    upload: Upload,
    timeouts: ResponseTimeouts,
    /// Since when no part of the response's body has arrived.
    waiting: Option<Instant>,
    /// A byte of the response has arrived.
    started: bool,
    /// Bytes after the response belong to no message, so the connection closes.
    closes: bool,
}

impl Call {
    /// Ready with the final response's head.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        on_interim: &mut impl FnMut(StatusCode, Fields),
    ) -> Poll<Result<(Response, ResponseHead), Error>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_upload(cx) {
                return Poll::Ready(Err(Error::RequestBody(error)));
            }
            let connection = &mut *self.connection;
            match connection.reader.step(&connection.input) {
                Ok(Step::Head { len, head }) => {
                    let bytes = connection.input.split_to(len).freeze();
                    let mut response =
                        head::response(bytes, head.fields).ok_or_else(|| refused(Refusal::StatusLine))?;
                    head::keep_one_length(&mut response, head.length);
                    self.closes |= head.stray_framing;
                    match response.status {
                        StatusCode::CONTINUE => self.upload.proceed(),
                        status if head.interim => on_interim(status, response.headers),
                        _ => return Poll::Ready(Ok((response, head))),
                    }
                    continue;
                }
                Ok(Step::More | Step::Body { .. } | Step::Opaque) => {}
                Err(refusal) => return Poll::Ready(Err(refused(refusal))),
            }
            match poll_read(&mut connection.socket, &mut connection.input, cx) {
                Poll::Ready(Ok(1..)) => self.started = true,
                Poll::Ready(Ok(0)) => {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before a response");
                    return Poll::Ready(Err(Error::Response(error)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Response(error))),
                Poll::Pending => {
                    if self.upload.starved {
                        // The upstream is not the slow side; the client's own connection limits how long this lasts.
                        self.upload.moved = Instant::now();
                    }
                    let deadline = self.upload.moved + self.timeouts.first_byte;
                    ready!(self.connection.timer.poll_until(cx, deadline));
                    return Poll::Ready(Err(Error::FirstByteTimeout));
                }
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), body::Error>> {
        let Connection { socket, timer, .. } = &mut *self.connection;
        self.upload.poll(socket, timer, cx)
    }

    /// Whether the bytes that arrived after the head are readable.
    fn reads_on(&self) -> bool {
        let mut reader = self.connection.reader;
        reader.step(&self.connection.input).map_err(refused).is_ok()
    }

    fn answer(mut self, response: Response, head: ResponseHead, pools: Pools<'_>) -> Answer {
        self.upload.answered();
        if head.body == BodyLength::Opaque {
            let Connection { mut socket, input, .. } = *self.connection;
            socket.early = input.freeze();
            return Answer { response, upgraded: Some(socket) };
        }
        if let Some(keep_idle) = keep_alive(&response.headers) {
            self.connection.keep_idle = keep_idle;
        }
        for name in [WWW_AUTHENTICATE, PROXY_AUTHENTICATE] {
            self.connection.authenticates |= response.headers.get_all(name).any(head::authenticates);
        }
        let keeps_alive = head::keeps_alive(response.headers.get_all(CONNECTION), head.http_10) && !self.closes;
        let reusable = keeps_alive && head.body != BodyLength::UntilClose;
        let pool = if reusable { pools.home(&self.connection) } else { None };
        let mut body = ResponseBody { call: Some(self), pool, left: head.body.bytes() };
        if head.body == BodyLength::None {
            body.finish();
            return Answer { response, upgraded: None };
        }
        Answer { response: response.map(|_| Body::wrap(body)), upgraded: None }
    }

    /// The next piece of the response's body; ready with `None` at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_upload(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            let Connection { socket, reader, input, timer, .. } = &mut *self.connection;
            match reader.step(input) {
                Ok(Step::Body { len, piece, end }) => {
                    self.waiting = None;
                    let bytes = input.split_to(len).freeze();
                    match head::frame(bytes, piece) {
                        None if !end => continue,
                        frame => return Poll::Ready(frame.map(Ok)),
                    }
                }
                Ok(Step::More | Step::Head { .. } | Step::Opaque) => {}
                Err(refusal) => return Poll::Ready(Some(Err(refused(refusal).into()))),
            }
            match poll_read_body(socket, input, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(reader.end(input.len()).err().map(|refusal| Err(refusal.into())));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending => {
                    let since = *self.waiting.get_or_insert_with(Instant::now);
                    ready!(timer.poll_until(cx, since + self.timeouts.idle));
                    return Poll::Ready(Some(Err("the upstream's body stalled for too long".into())));
                }
            }
        }
    }
}

fn refused(refusal: Refusal) -> Error {
    tracing::warn!(
        reason = refusal.reason(),
        section = refusal.section(),
        "an upstream sent a response that parsers read differently"
    );
    Error::Response(io::Error::new(io::ErrorKind::InvalidData, refusal))
}

/// How long the upstream keeps an idle connection (`Keep-Alive: timeout=5`), less a second.
fn keep_alive(headers: &Fields) -> Option<Duration> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let text = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds: u64 = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).saturating_sub(Duration::from_secs(1)).min(KEEP_IDLE))
}

/// Returns its connection to the pool at its end, and closes it if anything went wrong.
#[derive(Debug)]
struct ResponseBody {
    call: Option<Call>,
    /// The pool for the connection if it can be used again.
    pool: Option<Arc<Pool>>,
    left: Option<u64>,
}

impl ResponseBody {
    /// A response that ends before the request leaves the connection inside the request, so it is closed and the rest
    /// of the request is not sent.
    fn finish(&mut self) {
        let Some(Call { connection, upload, closes, .. }) = self.call.take() else { return };
        if !connection.input.is_empty() {
            if !closes {
                refused(Refusal::Surplus);
            }
        } else if let Some(pool) =
            self.pool.take().filter(|_| upload.leaves_a_clean_connection() && connection.reader.is_idle())
        {
            pool.put(connection);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = &mut *self;
        let Some(call) = &mut this.call else { return Poll::Ready(None) };
        match ready!(call.poll_piece(cx)) {
            Some(Ok(frame)) => {
                let count = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.left = this.left.map(|left| left.saturating_sub(count));
                if call.connection.reader.is_idle() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.call = None;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
