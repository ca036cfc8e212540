//! A client's connection: head → handler → response → the next head, in one task.
//!
//! A refused message goes to the same handler, with its [`Rejection`], so that responses stay in order; the connection
//! ends after it. Enforces a connection's time limits, and never waits indefinitely for a client.

mod receive;
mod respond;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use http::header::{CONNECTION, EXPECT, HOST, HeaderValue, TE};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::exchange::Exchange;
use super::head::{self, Head, keeps_alive};
use super::output::Output;
use super::poll_read;
use super::socket::Socket;
use super::timer::Timer;
use crate::body::{self, Body};
use crate::descriptors::Waiting;
use crate::framing::{self, BodyLength, Refusal, Rejection, RequestHead, RequestReader, Step};
use crate::response::Response;

/// A client that has closed its half is answered while there is progress; after this long without any, it is assumed to
/// be gone. On the wire the two look alike.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// While draining, an idle connection may still deliver a request that was in transit.
const DRAINING_IDLE: Duration = Duration::from_secs(1);
/// After the last response on a connection whose input was not read to its end, input is discarded for this long: closing a
/// socket with unread bytes resets it, and the client would lose the response (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// A connection's limits.
#[derive(Clone, Debug)]
pub struct Config {
    pub framing: framing::Limits,
    /// Bytes of a request body; `None` for any number.
    pub body_bytes: Option<u64>,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a connection may be without a request, or with a response that the client does not read.
    pub idle_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
}

/// An event on a connection to count.
#[derive(Debug)]
pub enum Event {
    Rejected(Rejection),
    /// The client did not read its response for too long.
    ResponseTimeout,
    /// A response broke off after its head.
    ResponseCut(body::Error),
}

/// What can end a connection from outside.
#[derive(Debug)]
pub struct Ends {
    pub drain: CancellationToken,
    /// The response in progress: it is cut when its descriptor is needed for another.
    pub waiting: Arc<Waiting>,
}

/// A request as a handler gets it.
#[derive(Debug)]
pub struct IncomingRequest {
    pub head: Head,
    pub body: Body,
    /// `None` under HTTP/2.
    pub exchange: Option<Exchange>,
    /// The message was refused: the request is a placeholder.
    pub refused: Option<Rejection>,
}

/// Serves one connection to its end. A handler's future is dropped when its client disconnects. It is boxed, so that an
/// idle connection needs no memory for it.
pub async fn serve<H, F, R>(socket: Socket, config: Arc<Config>, ends: Ends, handler: H, report: R)
where
    H: Fn(IncomingRequest) -> F,
    F: Future<Output = Response> + Unpin,
    R: Fn(Event),
{
    let mut connection = Connection::new(socket, config, ends, report);
    // Destructured at once, so that no memory is kept for the whole.
    while let Some((answer, current)) =
        connection.head().await.map(|Message { request, current }| (handler(request), current))
    {
        match connection.exchange(answer, current).await {
            Next::Request => {}
            Next::Close => return connection.close().await,
            Next::Gone => return,
            Next::Upgrade(upgrade) => return connection.upgrade(upgrade),
        }
    }
    connection.close().await;
}

struct Connection<R> {
    socket: Socket,
    config: Arc<Config>,
    report: R,
    reader: RequestReader,
    /// Bytes that were read and not consumed yet.
    input: BytesMut,
    output: Output,
    timer: Timer,
    times: Times,
    waiting: Arc<Waiting>,
    drain: CancellationToken,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    /// A message was refused, so the rest of the input is not read as HTTP.
    over: bool,
}

/// When each event happened last.
struct Times {
    /// The last response ended, or the connection began.
    quiet: Instant,
    /// The drain began.
    draining: Option<Instant>,
    /// The client closed its half.
    half_closed: Option<Instant>,
    /// Something was written.
    wrote: Instant,
    /// The client stopped reading.
    blocked: Option<Instant>,
    /// The connection began to wait for more of a body.
    starved: Option<Instant>,
    /// The socket was last checked for a reset.
    looked: Option<Instant>,
}

/// A request, and what its connection needs to know about it.
struct Message {
    request: IncomingRequest,
    current: Current,
}

/// The exchange in progress.
struct Current {
    exchange: Exchange,
    http_10: bool,
    /// The method is HEAD.
    head: bool,
    keep_alive: bool,
    /// The client is waiting for a 100 (Continue) before it sends the body.
    expects: bool,
    takes_trailers: bool,
    /// The number of bytes of the body that were not read yet, if known.
    left: Option<u64>,
    /// Bytes of the body that were read.
    read: u64,
    /// Discarded bytes.
    discarded: u64,
}

/// How an exchange ended.
enum Next {
    Request,
    Close,
    /// The client has disconnected, or must not see a clean end.
    Gone,
    Upgrade(oneshot::Sender<Socket>),
}

/// The client's connection is broken or has ended.
struct Gone;

impl<R: Fn(Event)> Connection<R> {
    fn new(socket: Socket, config: Arc<Config>, ends: Ends, report: R) -> Self {
        let Ends { drain, waiting } = ends;
        let now = Instant::now();
        let times = Times {
            quiet: now,
            draining: None,
            half_closed: None,
            wrote: now,
            blocked: None,
            starved: None,
            looked: None,
        };
        Self {
            socket,
            report,
            reader: RequestReader::new(config.framing),
            config,
            input: BytesMut::new(),
            output: Output::default(),
            timer: Timer::default(),
            times,
            waiting,
            drained: Box::pin(drain.clone().cancelled_owned()),
            drain,
            over: false,
        }
    }

    /// The next request, or a placeholder for a refused one; `None` if the connection ends.
    async fn head(&mut self) -> Option<Message> {
        let mut begun = None;
        let (len, head) = match poll_fn(|cx| self.poll_head(cx, &mut begun)).await? {
            Ok(found) => found,
            Err(refused) => return Some(self.refused(refused)),
        };
        if matches!((head.body, self.config.body_bytes), (BodyLength::Exact(bytes), Some(most)) if bytes > most) {
            return Some(self.refused(Rejection::BODY_TOO_LARGE));
        }
        match head::request(self.input.split_to(len).freeze(), head.fields) {
            Some(found) => Some(Message::new(found, head, None)),
            // The `http` crate accepts slightly less than the RFC allows.
            None => Some(self.refused(Refusal::Target.into())),
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        begun: &mut Option<Instant>,
    ) -> Poll<Option<Result<(usize, RequestHead), Rejection>>> {
        loop {
            match self.reader.step(&self.input) {
                Ok(Step::Head { len, head }) => return Poll::Ready(Some(Ok((len, head)))),
                Ok(Step::More | Step::Body { .. } | Step::Opaque) => {}
                Err(refusal) => return Poll::Ready(Some(Err(refusal.into()))),
            }
            if begun.is_none() && self.reader.has_begun(&self.input) {
                *begun = Some(Instant::now());
            }
            if self.times.half_closed.is_some() {
                return Poll::Ready(None);
            }
            match poll_read(&mut self.socket, &mut self.input, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        if let Some(begun) = *begun {
            ready!(self.timer.poll_until(cx, begun + self.config.head_timeout));
            return Poll::Ready(Some(Err(Rejection::HEAD_TIMEOUT)));
        }
        if self.input.is_empty() {
            // No buffer is held while idle.
            (self.input, self.output) = (BytesMut::new(), Output::default());
        }
        if self.times.draining.is_none() && self.drained.as_mut().poll(cx).is_ready() {
            self.times.draining = Some(Instant::now());
        }
        let idle = self.times.quiet + self.config.idle_timeout;
        let drained = self.times.draining.map(|draining| draining.max(self.times.quiet) + DRAINING_IDLE);
        self.timer.poll_until(cx, drained.map_or(idle, |drained| drained.min(idle))).map(|()| None)
    }

    /// A placeholder for a refused request.
    fn refused(&mut self, refused: Rejection) -> Message {
        self.over = true;
        (self.report)(Event::Rejected(refused));
        let mut head = Head::default();
        if self.input.starts_with(b"HEAD ") {
            head.method = Method::HEAD;
        }
        head.headers.append(HOST, HeaderValue::from_static("refused.invalid"));
        let framing = RequestHead { body: BodyLength::None, upgrade: false, http_10: false, fields: 0 };
        Message::new(head, framing, Some(refused))
    }

    async fn exchange<F>(&mut self, mut answer: F, mut current: Current) -> Next
    where
        F: Future<Output = Response> + Unpin,
    {
        let response = poll_fn(|cx| {
            loop {
                if let Poll::Ready(response) = Pin::new(&mut answer).poll(cx) {
                    return Poll::Ready(Some(response));
                }
                let aside = match self.poll_interim(cx, &current.exchange) {
                    Ok(()) => self.poll_aside(cx, &mut current),
                    Err(gone) => Poll::Ready(Err(gone)),
                };
                if ready!(aside).is_err() {
                    return Poll::Ready(None);
                }
            }
        })
        .await;
        drop(answer);
        let next = match response {
            Some(response) => self.respond(response, &mut current).await,
            None => Next::Gone,
        };
        current.exchange.close();
        self.times.quiet = Instant::now();
        next
    }

    /// Drives everything besides the handler and its response: the request's body, and a disconnecting client. Ready
    /// when the handler may see something new.
    fn poll_aside(&mut self, cx: &mut Context<'_>, current: &mut Current) -> Poll<Result<(), Gone>> {
        let polled = if self.reader.in_body() { self.poll_body(cx, current) } else { self.poll_watch(cx).map(Err) };
        if polled.is_pending()
            && let Some(half_closed) = self.times.half_closed
        {
            return self.timer.poll_until(cx, half_closed.max(self.times.wrote) + HALF_CLOSED).map(|()| Err(Gone));
        }
        polled
    }

    /// Closes the connection, after reading what would turn the close into a reset.
    async fn close(&mut self) {
        let unread = self.over || self.reader.in_body() || !self.input.is_empty() || self.drain.is_cancelled();
        let lingers = unread && self.times.half_closed.is_none();
        let until = Instant::now() + LINGER;
        poll_fn(|cx| match Pin::new(&mut self.socket).poll_shutdown(cx) {
            Poll::Pending => self.timer.poll_until(cx, until),
            Poll::Ready(_) => Poll::Ready(()),
        })
        .await;
        if !lingers {
            return;
        }
        poll_fn(|cx| {
            let mut space = [std::mem::MaybeUninit::uninit(); 4096];
            loop {
                let mut waste = ReadBuf::uninit(&mut space);
                match Pin::new(&mut self.socket).poll_read(cx, &mut waste) {
                    Poll::Ready(Ok(())) if !waste.filled().is_empty() && Instant::now() < until => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll_until(cx, until),
                }
            }
        })
        .await;
    }

    /// Passes the socket on to the new protocol. If it is not taken, it closes.
    fn upgrade(mut self, upgrade: oneshot::Sender<Socket>) {
        self.socket.early = self.input.freeze();
        let _ = upgrade.send(self.socket);
    }
}

impl Message {
    fn new(head: Head, framing: RequestHead, refused: Option<Rejection>) -> Self {
        let headers = &head.headers;
        let http_10 = framing.http_10;
        let left = framing.body.bytes();
        let exchange = Exchange::new(!http_10);
        let current = Current {
            exchange: exchange.clone(),
            http_10,
            head: head.method == Method::HEAD,
            keep_alive: keeps_alive(headers.get_all(CONNECTION), http_10),
            expects: !http_10 && headers.contains_key(EXPECT),
            takes_trailers: headers.contains_key(TE),
            left,
            read: 0,
            discarded: 0,
        };
        let bodiless = framing.body == BodyLength::None;
        let body = if bodiless { Body::empty() } else { Body::wrap(exchange.body(left)) };
        Self { request: IncomingRequest { head, body, exchange: Some(exchange), refused }, current }
    }
}
