//! HTTP/2 to an app, by hyper: one connection, which the requests of a worker share.
//!
//! Takes a request as it is to be sent; returns the response with its body still streaming. A request that the app has
//! not processed (RFC 9113 section 8.7) is sent again on another connection, if its body is still complete.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, HeaderMap, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, request};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::connect::Upstream;
use super::error::Error;
use crate::body::{self, Body};
use crate::fields::Line;
use crate::http1::{self, ResponseTimeouts, Socket, Timer};
use crate::recent::lock;
use crate::response::Response;

/// How much of a response that its client does not read may be buffered.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const HEAD_BYTES: u32 = 256 << 10;
/// How often a connection with requests on it is checked, and how long the app may take to answer.
const PING: Duration = Duration::from_secs(20);

/// The connection of one worker.
#[derive(Debug)]
pub(super) struct Http2 {
    scheme: Scheme,
    authority: String,
    /// How long a request waits while another opens the connection.
    patience: Duration,
    /// Locked while a connection is opened, so that requests that need one wait for the same.
    kept: tokio::sync::Mutex<Option<Numbered>>,
}

/// A connection, by its number.
type Numbered = (usize, SendRequest<Upload>);

impl Http2 {
    pub(super) fn new(upstream: &Upstream, patience: Duration) -> Self {
        let tls = matches!(upstream, Upstream::Tcp { tls: true, .. });
        let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
        Self { scheme, authority: upstream.authority(), patience, kept: tokio::sync::Mutex::default() }
    }

    /// The same for another worker.
    pub(super) fn sibling(&self) -> Self {
        let (scheme, authority, kept) = (self.scheme.clone(), self.authority.clone(), tokio::sync::Mutex::default());
        Self { scheme, authority, patience: self.patience, kept }
    }

    /// A request with these fields, whose `Host` becomes the authority (RFC 9113 section 8.3.1). Connection-specific
    /// fields are not allowed (section 8.2.2), and an expectation is useless, because flow control asks for the body.
    pub(super) fn request<'a>(
        &self,
        method: Method,
        target: Option<PathAndQuery>,
        fields: impl Iterator<Item: Into<Line<'a>>>,
        body: Body,
    ) -> Request<Body> {
        let mut headers = HeaderMap::new();
        let mut host = None;
        for line in fields {
            let Line { name, value, .. } = line.into();
            if *name == HOST {
                host = Authority::try_from(value.as_bytes()).ok();
            } else if ![CONNECTION, UPGRADE, EXPECT].contains(name) {
                headers.append(name, value.clone());
            }
        }
        let authority = host.map_or_else(|| self.authority.clone(), |host| host.to_string());
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(authority).path_and_query(target).build();
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.unwrap_or_default();
        *request.headers_mut() = headers;
        request
    }

    /// Sends a request. `connect` opens a connection if there is none that can take it.
    pub(super) async fn send<F: Future<Output = Result<Socket, Error>>>(
        &self,
        request: Request<Body>,
        timeouts: ResponseTimeouts,
        connect: impl Fn() -> F,
    ) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let again = body.is_end_stream().then(|| parts.clone());
        let progress = Arc::new(Mutex::new(Progress { moved: Instant::now(), starved: false, failed: None }));
        let mut next = Some(Request::from_parts(parts, Upload { body, progress: progress.clone() }));
        let mut failed = None;
        loop {
            let Some(request) = next.take() else { return Err(closed("the app closed the connection")) };
            let (number, mut sender) = self.connection(&connect, failed).await?;
            let sending = async {
                // If it is not ready, it is closed, and the request comes back.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            };
            let Some(sent) = answer_in_time(&progress, timeouts.first_byte, sending).await else {
                return Err(http1::Error::FirstByteTimeout.into());
            };
            let mut failure = match sent {
                Ok(response) => return Ok(response.map(|body| Body::wrap(Answer::new(body, timeouts.idle))).into()),
                Err(failure) => failure,
            };
            if let Some(error) = lock(&progress).failed.take() {
                return Err(http1::Error::RequestBody(error).into());
            }
            let unsent = failure.take_message();
            let error = failure.into_error();
            next = match again.clone().filter(|_| unsent.is_none() && is_unprocessed(&error)) {
                Some(parts) => Some(without_body(parts, &progress)),
                None => unsent,
            };
            if next.is_none() || failed.replace(number).is_some() {
                return Err(closed(error));
            }
        }
    }

    /// The worker's connection, or a new one if that is the one that `failed`.
    async fn connection<F: Future<Output = Result<Socket, Error>>>(
        &self,
        connect: impl Fn() -> F,
        failed: Option<usize>,
    ) -> Result<Numbered, Error> {
        let kept = tokio::time::timeout(self.patience, self.kept.lock()).await;
        let mut kept = kept.map_err(|_| Error::ConnectTimeout)?;
        if let Some(kept) = kept.as_ref().filter(|(number, sender)| !sender.is_closed() && failed != Some(*number)) {
            return Ok(kept.clone());
        }
        let number = kept.take().map_or(0, |(number, _)| number + 1);
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(connect().await?))
            .await
            .map_err(closed)?;
        // It ends when the app closes it, or with its last request once there are no senders.
        tokio::spawn(async move { drop(connection.await) });
        Ok(kept.insert((number, sender)).clone())
    }
}

fn closed(error: impl Into<body::Error>) -> Error {
    http1::Error::Response(io::Error::other(error)).into()
}

fn without_body(parts: request::Parts, progress: &Arc<Mutex<Progress>>) -> Request<Upload> {
    Request::from_parts(parts, Upload { body: Body::empty(), progress: progress.clone() })
}

/// Whether the app says that it has done nothing with the request (RFC 9113 section 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let (refused, leaves) = (h2::Reason::REFUSED_STREAM, h2::Reason::NO_ERROR);
            return error.is_remote()
                && (error.reason() == Some(refused) || (error.is_go_away() && error.reason() == Some(leaves)));
        }
        cause = error.source();
    }
    false
}

/// `None` if nothing moved for `first_byte`. The time that the client takes for its body does not count.
async fn answer_in_time<T>(
    progress: &Mutex<Progress>,
    first_byte: Duration,
    sending: impl Future<Output = T>,
) -> Option<T> {
    let mut sending = pin!(sending);
    loop {
        let deadline = lock(progress).moved + first_byte;
        if let Ok(sent) = tokio::time::timeout_at(deadline, &mut sending).await {
            return Some(sent);
        }
        let mut progress = lock(progress);
        if progress.starved {
            progress.moved = Instant::now();
        } else if progress.moved + first_byte <= Instant::now() {
            return None;
        }
    }
}

/// The progress of a request's body.
#[derive(Debug)]
struct Progress {
    /// When its last piece arrived.
    moved: Instant,
    /// The app would take more than the client has sent.
    starved: bool,
    failed: Option<body::Error>,
}

/// A request's body while it is sent to the app.
#[derive(Debug)]
struct Upload {
    body: Body,
    progress: Arc<Mutex<Progress>>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut progress = lock(&self.progress);
        progress.starved = polled.is_pending();
        if polled.is_ready() {
            progress.moved = Instant::now();
        }
        polled.map_err(|error| {
            progress.failed = Some(error);
            "the client's body broke off".into()
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, cut if it pauses for too long.
struct Answer {
    body: Incoming,
    idle: Duration,
    waiting: Option<Instant>,
    timer: Timer,
}

impl Answer {
    fn new(body: Incoming, idle: Duration) -> Self {
        Self { body, idle, waiting: None, timer: Timer::default() }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(polled) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            return Poll::Ready(polled.map(|frame| frame.map_err(Into::into)));
        }
        let since = *this.waiting.get_or_insert_with(Instant::now);
        std::task::ready!(this.timer.poll_until(cx, since + this.idle));
        Poll::Ready(Some(Err("the app's body stalled for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
