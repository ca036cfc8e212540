//! Serves HTTP/2 connections with hyper, within limits, as requests in the form of HTTP/1.
//!
//! hyper and h2 refuse malformed frames, forbidden fields, header lists that are too long and floods of resets. This
//! module handles the rest: several `cookie` fields, `:authority` beside `Host`, the number of fields, methods that are
//! not served, and requests made only to be aborted (CVE-2023-44487).

mod bodies;
mod frames;
mod reader;
mod state;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::DoorState;
use super::door::{Limits, Peer};
use super::permits::Permit;
use crate::body::Body;
use crate::framing::{Refusal, Rejection, is_host, is_served, number};
use crate::http1::server::IncomingRequest;
use crate::http1::{Head, Socket, origin_form};
use crate::response::Response;
use crate::telemetry::metrics;
use bodies::{RequestBody, ResponseBody};
use frames::FrameMonitor;
use state::{Http2State, OpenStream, stalled};

/// Requests at a time on one connection.
const MAX_STREAMS: u32 = 200;
/// How often a silent client gets a ping.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for the last frames to a client that is cut off.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Spawns the streams of a connection so that the drain waits for them, and resets those whose responses are not read.
#[derive(Clone)]
struct StreamExecutor {
    tracker: TaskTracker,
    state: Arc<Http2State>,
    allowed: Duration,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let Some(waiting) = self.state.take_latest() else {
            self.tracker.spawn(future);
            return;
        };
        let (state, allowed) = (self.state.clone(), self.allowed);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                _ = future => {}
                // Dropping the future resets the stream (RFC 9113 section 8.1).
                () = stalled(&waiting, allowed) => state.count(metrics::Refusal::AnswerTimeout),
            }
        });
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<H, F>(socket: Socket, peer: Arc<Peer>, door: &DoorState, _permit: Permit, handler: H)
where
    H: Fn(IncomingRequest, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let limits = door.limits.clone();
    let state = Http2State::new(door.door, door.metrics.clone(), door.descriptors.answers());
    let (drain, idle) = (peer.drain.clone(), limits.idle_timeout);
    let executor = StreamExecutor { tracker: peer.tracker.clone(), state: state.clone(), allowed: idle };
    let builder = builder(&limits, executor);
    let monitor = FrameMonitor::new(socket, limits.clone(), state.clone());
    let service = {
        let state = state.clone();
        service_fn(move |request: Request<Incoming>| {
            let stream = OpenStream::new(state.clone());
            let request = request_for_handler(request, &limits, &state);
            let response = handler(request, peer.clone());
            async move {
                Ok::<_, Infallible>(http::Response::from(response.await).map(|body| ResponseBody::new(body, stream)))
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(monitor), service);
    run(connection, &state, drain, idle).await;
}

fn builder(limits: &Limits, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(50)
        .max_local_error_reset_streams(200)
        .max_send_buf_size(32 << 10)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Polls the connection until it ends or is abused. While it drains or after it was idle for too long, it sends GOAWAY and
/// ends once the requests in progress are done, including one that crosses the GOAWAY (RFC 9113 section 6.8).
async fn run<S>(
    connection: http2::Connection<TokioIo<FrameMonitor>, S, StreamExecutor>,
    state: &Http2State,
    drain: CancellationToken,
    idle: Duration,
) where
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
    StreamExecutor: Http2ServerConnExec<S::Future, ResponseBody>,
{
    let mut connection = std::pin::pin!(connection);
    let mut quiet = std::pin::pin!(tokio::time::sleep(idle));
    loop {
        let leaves = tokio::select! {
            biased;
            served = connection.as_mut() => {
                if let Err(error) = served {
                    log_error(&error, state);
                }
                return;
            }
            () = drain.cancelled(), if state.leaving().is_none() => true,
            () = state.changed.notified() => {
                if state.is_abused() {
                    break;
                }
                quiet.as_mut().reset(Instant::now() + idle);
                false
            }
            () = quiet.as_mut() => {
                let now = Instant::now();
                let since = if state.is_idle() { state.last_window_update().max(quiet.deadline() - idle) } else { now };
                let over = since + idle <= now;
                if over && state.leaving().is_some() {
                    // The client does not accept the remaining bytes.
                    return;
                }
                quiet.as_mut().reset(if over { now } else { since } + idle);
                over
            }
        };
        if leaves {
            state.leave();
            connection.as_mut().graceful_shutdown();
        }
    }
    state.count(metrics::Refusal::Http2Abuse);
    tracing::warn!(door = state.door.as_str(), "HTTP/2 connection closed: most of its requests were aborted");
    connection.as_mut().graceful_shutdown();
    // Whether the client reads it does not matter.
    let _ = tokio::time::timeout(GOAWAY_TIMEOUT, connection).await;
}

/// Counts the reasons for which h2 itself ended the connection, such as broken frames and floods, but not errors of the
/// client or the socket.
fn log_error(error: &hyper::Error, state: &Http2State) {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    let Some(reason) = cause.filter(|cause| cause.is_library()).and_then(h2::Error::reason) else {
        tracing::debug!(%error, "connection ended");
        return;
    };
    state.count(metrics::Refusal::Http2Abuse);
    tracing::info!(door = state.door.as_str(), reason = %reason, rule = "RFC 9113 5.4.1", "refused");
}

fn request_for_handler(request: Request<Incoming>, limits: &Limits, state: &Arc<Http2State>) -> IncomingRequest {
    let (mut parts, body) = request.into_parts();
    let length = body.size_hint().exact();
    let sized = match (length, limits.body_bytes) {
        (Some(length), Some(max)) if length > max => Err(Rejection::BODY_TOO_LARGE),
        _ => Ok(()),
    };
    let checked = shape(&mut parts, limits).and(sized);
    if let Err(rejection) = checked {
        state.reject(rejection);
        let method = if parts.method == Method::HEAD { Method::HEAD } else { Method::GET };
        let head = Head { method, version: parts.version, ..Head::default() };
        return IncomingRequest { head, body: Body::empty(), exchange: None, refused: Some(rejection) };
    }
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        let (state, idle) = (state.clone(), limits.body_idle_timeout);
        Body::wrap(RequestBody::new(body, limits.body_bytes, idle, move |rejection| state.reject(rejection)))
    };
    let head = Head { method: parts.method, uri: parts.uri, version: parts.version, headers: parts.headers.into() };
    IncomingRequest { head, body, exchange: None, refused: None }
}

/// Converts a request to the form of HTTP/1, or rejects it.
fn shape(parts: &mut request::Parts, limits: &Limits) -> Result<(), Rejection> {
    join_cookies(&mut parts.headers);
    if parts.headers.len() > limits.head_fields {
        return Err(Refusal::TooManyFields.into());
    }
    if !is_served(parts.method.as_str().as_bytes()) {
        return Err(Refusal::MethodUnsupported.into());
    }
    // RFC 9113 section 8.3.1: only OPTIONS may have `*`, and no resource here is the whole server.
    if !parts.uri.path().starts_with('/') {
        return Err(Refusal::Asterisk.into());
    }
    let single = |name, refusal: Refusal| {
        if parts.headers.get_all(name).iter().nth(1).is_some() { Err(Rejection::from(refusal)) } else { Ok(()) }
    };
    single(HOST, Refusal::HostRepeated)?;
    single(CONTENT_LENGTH, Refusal::LengthRepeated)?;
    single(AUTHORIZATION, Refusal::FieldRepeated)?;
    // h2 accepts an empty one on a stream without data.
    if let Some(length) = parts.headers.get(CONTENT_LENGTH) {
        number(length.as_bytes())?;
    }
    // RFC 9113 section 8.2.1; HTTP/1 would drop the space, which changes the value.
    let spaced = |value: &HeaderValue| matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if parts.headers.values().any(spaced) {
        return Err(Rejection::FIELD_VALUE);
    }
    host(&parts.uri, &mut parts.headers)?;
    parts.uri = origin_form(&parts.uri);
    Ok(())
}

/// RFC 9113 section 8.3.1: `:authority` replaces `Host`; if both are present they must agree.
fn host(uri: &Uri, headers: &mut HeaderMap) -> Result<(), Rejection> {
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(Refusal::HostMismatch.into()),
        (None, None) => Err(Refusal::HostMissing.into()),
        (Some(named), _) | (None, Some(named)) if !is_host(named) => Err(Refusal::HostMalformed.into()),
        (Some(authority), None) => {
            let value = HeaderValue::from_bytes(authority).map_err(|_| Rejection::from(Refusal::HostMalformed))?;
            headers.insert(HOST, value);
            Ok(())
        }
        (_, Some(_)) => Ok(()),
    }
}

/// RFC 9113 section 8.2.3: HTTP/1 has one `Cookie` field.
fn join_cookies(headers: &mut HeaderMap) {
    let several = headers.get_all(COOKIE).iter().nth(1).is_some();
    if let Some(joined) = crate::cookies::joined(headers.get_all(COOKIE).iter()).filter(|_| several) {
        headers.insert(COOKIE, joined);
    }
}
