//! HTTP/2 by hyper, within limits, and brought into the shape of HTTP/1 requests.
//!
//! hyper and h2 refuse malformed frames, forbidden fields, header lists that are too long and floods of resets before a
//! request is taken up. What they leave open is done here: several `cookie` fields, `:authority` beside `Host`, the count
//! of fields, methods that are not served, and requests that are taken up only to be aborted (CVE-2023-44487).

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frames::Frames;
use super::h1::Terms;
use super::inbound::{Answer, Inbound};
use super::streams::{Flight, Streams};
use super::{Limits, Peer, Refused};
use crate::body::Body;
use crate::framing::{Refusal, is_host, is_served, number};
use crate::http1::{Socket, origin_form};
use crate::telemetry::metrics;

/// Requests at a time on one connection.
const STREAMS: u32 = 200;
/// A silent peer is asked whether it is there, and how long it has to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// For the last frames after a GOAWAY that we did not want to send.
const PARTING: Duration = Duration::from_secs(1);

/// Spawns the requests of a connection so that the drain counts them, and resets those whose answers nobody takes.
#[derive(Clone)]
struct Spawn {
    tracker: TaskTracker,
    streams: Arc<Streams>,
    allowed: Duration,
}

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let Some(taken) = self.streams.latest() else {
            self.tracker.spawn(future);
            return;
        };
        let (streams, allowed) = (self.streams.clone(), self.allowed);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                _ = future => {}
                // Dropped, the stream is reset (RFC 9113 section 8.1).
                () = taken.stalled(allowed) => streams.count(metrics::Refusal::AnswerTimeout),
            }
        });
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<H, F>(socket: Socket, terms: Terms, handler: H)
where
    H: Fn(Request<Body>, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Terms { limits, metrics, permit: _permit, peer, .. } = terms;
    let streams = Streams::new(peer.door, metrics);
    let (drain, idle) = (peer.drain.clone(), limits.idle_timeout);
    let spawn = Spawn { tracker: peer.tracker.clone(), streams: streams.clone(), allowed: idle };
    let builder = builder(&limits, spawn);
    let io = Frames::new(socket, limits.clone(), streams.clone());
    let service = {
        let streams = streams.clone();
        service_fn(move |request: Request<Incoming>| {
            let flight = Flight::new(streams.clone());
            let request = inbound(request, &limits, &streams);
            let answer = handler(request, peer.clone());
            async move {
                let response = answer.await;
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, flight)))
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(io), service);
    run(connection, &streams, drain, idle).await;
}

fn builder(limits: &Limits, spawn: Spawn) -> http2::Builder<Spawn> {
    let mut builder = http2::Builder::new(spawn);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(50)
        .max_local_error_reset_streams(200)
        .max_send_buf_size(64 << 10)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

/// Polls the connection until it ends, or is abused. Where it drains or is idle for too long it says GOAWAY, and ends when
/// what was begun by then is done: a request that crosses the GOAWAY on its way is one of those (RFC 9113 section 6.8).
async fn run<S>(
    connection: http2::Connection<TokioIo<Frames>, S, Spawn>,
    streams: &Streams,
    drain: CancellationToken,
    idle: Duration,
) where
    S: HttpService<Incoming, ResBody = Answer, Error = Infallible>,
    Spawn: Http2ServerConnExec<S::Future, Answer>,
{
    let mut connection = std::pin::pin!(connection);
    let mut quiet = std::pin::pin!(tokio::time::sleep(idle));
    loop {
        let leaves = tokio::select! {
            biased;
            served = connection.as_mut() => {
                if let Err(error) = served {
                    ended(&error, streams);
                }
                return;
            }
            () = drain.cancelled(), if streams.leaving().is_none() => true,
            () = streams.changed.notified() => {
                if streams.is_abused() {
                    break;
                }
                quiet.as_mut().reset(Instant::now() + idle);
                false
            }
            () = quiet.as_mut() => {
                let now = Instant::now();
                let since = if streams.is_idle() { streams.last_taken().max(quiet.deadline() - idle) } else { now };
                let over = since + idle <= now;
                if over && streams.leaving().is_some() {
                    // What is left is bytes that the client makes no room for.
                    return;
                }
                quiet.as_mut().reset(if over { now } else { since } + idle);
                over
            }
        };
        if leaves {
            streams.leave();
            connection.as_mut().graceful_shutdown();
        }
    }
    streams.count(metrics::Refusal::Http2Abuse);
    tracing::warn!(door = streams.door.as_str(), "HTTP/2 connection closed: most of its requests were aborted");
    connection.as_mut().graceful_shutdown();
    // Whether the peer listens to the end is its own affair.
    let _ = tokio::time::timeout(PARTING, connection).await;
}

/// What h2 itself ended the connection for, broken frames and floods alike, is counted; what the peer or the socket did is
/// not.
fn ended(error: &hyper::Error, streams: &Streams) {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    let Some(reason) = cause.filter(|cause| cause.is_library()).and_then(h2::Error::reason) else {
        tracing::debug!(%error, "connection ended");
        return;
    };
    streams.count(metrics::Refusal::Http2Abuse);
    tracing::info!(door = streams.door.as_str(), reason = %reason, rule = "RFC 9113 5.4.1", "refused");
}

fn inbound(request: Request<Incoming>, limits: &Limits, streams: &Arc<Streams>) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let length = body.size_hint().exact();
    let sized = match (length, limits.body_bytes) {
        (Some(length), Some(most)) if length > most => Err(Refused::BODY_TOO_LARGE),
        _ => Ok(()),
    };
    let checked = shape(&mut parts, limits).and(sized);
    if let Err(refused) = checked {
        streams.refuse(refused);
        let mut request = Request::new(Body::empty());
        *request.version_mut() = parts.version;
        if parts.method == Method::HEAD {
            *request.method_mut() = Method::HEAD;
        }
        request.extensions_mut().insert(refused);
        return request;
    }
    if body.is_end_stream() {
        return Request::from_parts(parts, Body::empty());
    }
    let streams = streams.clone();
    let body = Inbound::new(body, limits.body_bytes, limits.body_idle_timeout, move |refused| streams.refuse(refused));
    Request::from_parts(parts, Body::wrap(body))
}

/// Brings a request into the shape HTTP/1 requests have, or says why it has none.
fn shape(parts: &mut request::Parts, limits: &Limits) -> Result<(), Refused> {
    join_cookies(&mut parts.headers);
    if parts.headers.len() > limits.head_fields {
        return Err(Refusal::TooManyFields.into());
    }
    if !is_served(parts.method.as_str().as_bytes()) {
        return Err(Refusal::MethodUnsupported.into());
    }
    // RFC 9113 section 8.3.1: only OPTIONS may have it; the whole server is nobody's resource here.
    if !parts.uri.path().starts_with('/') {
        return Err(Refusal::Asterisk.into());
    }
    let single = |name, refusal: Refusal| {
        if parts.headers.get_all(name).iter().nth(1).is_some() { Err(Refused::from(refusal)) } else { Ok(()) }
    };
    single(HOST, Refusal::HostRepeated)?;
    single(CONTENT_LENGTH, Refusal::LengthRepeated)?;
    single(AUTHORIZATION, Refusal::FieldRepeated)?;
    // h2 lets an empty one pass where the stream has no data.
    if let Some(length) = parts.headers.get(CONTENT_LENGTH) {
        number(length.as_bytes())?;
    }
    // RFC 9113 section 8.2.1; HTTP/1 would drop the space and so change the value.
    let spaced = |value: &HeaderValue| matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if parts.headers.values().any(spaced) {
        return Err(Refused::FIELD_VALUE);
    }
    host(&parts.uri, &mut parts.headers)?;
    parts.uri = origin_form(&parts.uri);
    Ok(())
}

/// RFC 9113 section 8.3.1: `:authority` stands for `Host`; where both are there they must agree.
fn host(uri: &Uri, headers: &mut HeaderMap) -> Result<(), Refused> {
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(Refusal::HostMismatch.into()),
        (None, None) => Err(Refusal::HostMissing.into()),
        (Some(named), _) | (None, Some(named)) if !is_host(named) => Err(Refusal::HostMalformed.into()),
        (Some(authority), None) => {
            let value = HeaderValue::from_bytes(authority).map_err(|_| Refused::from(Refusal::HostMalformed))?;
            headers.insert(HOST, value);
            Ok(())
        }
        (_, Some(_)) => Ok(()),
    }
}

/// RFC 9113 section 8.2.3: HTTP/1 has one `Cookie` field.
fn join_cookies(headers: &mut HeaderMap) {
    let several = headers.get_all(COOKIE).iter().nth(1).is_some();
    if let Some(joined) = crate::cookies::joined(headers).filter(|_| several) {
        headers.insert(COOKIE, joined);
    }
}
