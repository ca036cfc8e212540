//! HTTP/1.1 and 1.0 by hyper, behind the guard.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONNECTION, EXPECT, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::guard::Guard;
use super::inbound::{Answer, CloseConnection, Ends, Inbound};
use super::io::{Io, ResetFlag};
use super::permits::Permit;
use super::rest::{self, Rest};
use super::traffic::{BodyWatch, Traffic};
use super::{Limits, Peer};
use crate::body::Body;
use crate::telemetry::metrics::{self, Metrics};

/// What a connection is served with.
pub(super) struct Terms {
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) permit: Permit,
    pub(super) peer: Arc<Peer>,
}

/// Serves one connection to its end.
pub(super) async fn serve<H, F>(io: Io, terms: Terms, handler: H)
where
    H: Fn(Request<Body>, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Terms { limits, metrics, permit, peer } = terms;
    let traffic = Traffic::new(peer.door, metrics);
    let reset_flag = io.reset.clone();
    let guard = Guard::new(io, limits.clone(), traffic.clone(), permit);
    let drain = peer.drain.clone();
    let service = {
        let (traffic, limits) = (traffic.clone(), limits.clone());
        service_fn(move |request: Request<Incoming>| {
            let (traffic, drain) = (traffic.clone(), peer.drain.clone());
            let (number, refused) = traffic.called();
            // What has neither length nor chunks ends with the connection (RFC 9112 section 6.3).
            let unframed = (request.version() == Version::HTTP_10).then(|| reset_flag.clone());
            let (mut request, rest) = inbound(request, number, &limits, (&traffic, &reset_flag));
            if let Some(refused) = refused {
                request.extensions_mut().insert(refused);
            }
            let answer = handler(request, peer.clone());
            async move {
                let mut response = answer.await;
                let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                traffic.answering(number, switched);
                let ends = refused.is_some() || traffic.body_refused(number).is_some() || drain.is_cancelled();
                let ends = ends || is_last(&response, unframed.is_some());
                let follows = !ends && (switched || rest::lets_another_follow(rest, response.status(), &traffic).await);
                if !switched && !follows {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, Ends::Http1(traffic, unframed))))
            }
        })
    };
    let connection = http1::Builder::new()
        // The guard keeps the times, the limits of the head and the half-closed connections; what is said here must only
        // never speak before it.
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(false)
        .max_headers(limits.head_fields + 1)
        .max_buf_size(limits.head_bytes.max(32 << 10) + (8 << 10))
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = drain.cancelled() => drained(connection.as_mut(), &traffic).await,
    };
    ended(served, &traffic);
}

fn ended(served: hyper::Result<()>, traffic: &Traffic) {
    match served {
        // Never seen: what the guard lets through, hyper can read. It has answered with a bare status of its own.
        Err(error) if error.is_parse() => {
            traffic.count(metrics::Refusal::BadMessage);
            tracing::warn!(%error, "a request that passed the guard could not be parsed");
        }
        Err(error) => {
            if std::error::Error::source(&error).is_some_and(is_timeout) {
                traffic.count(metrics::Refusal::AnswerTimeout);
            }
            tracing::debug!(%error, "connection ended");
        }
        Ok(()) => {}
    }
}

/// Serves what is left of a connection while its door drains.
async fn drained<C>(mut connection: Pin<&mut C>, traffic: &Traffic) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    // Not hyper's graceful shutdown: it closes an idle connection under the request that is on its way.
    traffic.drain();
    loop {
        tokio::select! {
            biased;
            served = connection.as_mut() => return served,
            // An answer whose head was sent before has not said that it is the last. hyper asks the guard again, which then
            // sees that there is little left to wait for.
            () = traffic.ended.notified() => {}
        }
    }
}

/// Whether an answer says by itself that nothing follows it: where HTTP/1.0 is told no length, the end of the connection
/// tells it.
fn is_last(response: &Response<Body>, http_10: bool) -> bool {
    response.extensions().get::<CloseConnection>().is_some()
        || (http_10 && response.body().size_hint().exact().is_none())
}

/// The guard's word for an answer that nobody takes; or the system's, which means the same.
fn is_timeout(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// The request for the handler, and what is left of its body.
fn inbound(
    request: Request<Incoming>,
    number: u64,
    limits: &Limits,
    (traffic, reset_flag): (&Arc<Traffic>, &ResetFlag),
) -> (Request<Body>, Option<Rest>) {
    let (mut parts, body) = request.into_parts();
    if parts.headers.contains_key(UPGRADE) {
        parts.extensions.insert(reset_flag.clone());
    }
    if let Some(authority) = parts.uri.authority() {
        // HTTP/1.0 may do without a Host; then the target names it (RFC 9112 section 3.2.2).
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            parts.headers.entry(HOST).or_insert(host);
        }
        parts.uri = origin_form(&parts.uri);
    }
    if body.is_end_stream() {
        return (Request::from_parts(parts, Body::empty()), None);
    }
    let expects = parts.version != Version::HTTP_10 && parts.headers.contains_key(EXPECT);
    let (body, rest) = rest::lend(body, expects);
    parts.extensions.insert(BodyWatch(traffic.clone(), number));
    let body = match limits.body_bytes {
        // A known length was compared by the guard.
        Some(most) if body.size_hint().exact().is_none() => {
            let traffic = traffic.clone();
            Body::wrap(Inbound::new(body, Some(most), None, move |refused| traffic.refuse_body_of(number, refused)))
        }
        _ => Body::wrap(body.map_err(Into::into)),
    };
    (Request::from_parts(parts, body), Some(rest))
}

/// The path and query alone, so that handlers see one shape of request; the authority was compared with `Host`.
pub(super) fn origin_form(uri: &Uri) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}
