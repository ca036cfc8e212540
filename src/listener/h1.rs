//! HTTP/1.1 and 1.0, by the engine of `http1`.

use std::future::Future;
use std::sync::Arc;

use http::{Request, Response, StatusCode};

use super::permits::Permit;
use super::{Limits, Peer, Refused};
use crate::body::Body;
use crate::framing;
use crate::http1::Socket;
use crate::http1::server::{self, Config, Event};
use crate::telemetry::metrics::{self, Metrics};

/// What a connection is served with.
pub(super) struct Terms {
    pub(super) limits: Arc<Limits>,
    pub(super) http1: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) permit: Permit,
    pub(super) peer: Arc<Peer>,
}

/// What `limits` mean for HTTP/1.
pub(super) fn config(limits: &Limits) -> Arc<Config> {
    Arc::new(Config {
        framing: framing::Limits {
            head_bytes: limits.head_bytes,
            head_fields: limits.head_fields,
            ..framing::Limits::default()
        },
        body_bytes: limits.body_bytes,
        head_timeout: limits.head_timeout,
        idle_timeout: limits.idle_timeout,
        body_idle_timeout: limits.body_idle_timeout,
    })
}

/// Serves one connection to its end.
pub(super) async fn serve<H, F>(socket: Socket, terms: Terms, handler: H)
where
    H: Fn(Request<Body>, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Terms { http1, metrics, permit, peer, .. } = terms;
    let (door, drain) = (peer.door, peer.drain.clone());
    let report = move |event| match event {
        Event::Refused(refused) => {
            metrics.refused(door, counted(refused));
            tracing::info!(door = door.as_str(), reason = refused.reason, rule = refused.section, "refused");
        }
        Event::ResponseTimeout => metrics.refused(door, metrics::Refusal::AnswerTimeout),
        Event::ResponseCut(error) => {
            metrics.refused(door, metrics::Refusal::AnswerCut);
            tracing::info!(door = door.as_str(), %error, "a response was cut");
        }
    };
    server::serve(socket.hold(permit), http1, drain, move |request| handler(request, peer.clone()), report).await;
}

/// The label it is counted under.
pub(super) fn counted(refused: Refused) -> metrics::Refusal {
    match refused.status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => metrics::Refusal::HeadTooLarge,
        StatusCode::PAYLOAD_TOO_LARGE => metrics::Refusal::BodyTooLarge,
        StatusCode::REQUEST_TIMEOUT if refused == Refused::HEAD_TIMEOUT => metrics::Refusal::HeadTimeout,
        StatusCode::REQUEST_TIMEOUT => metrics::Refusal::BodyTimeout,
        _ => metrics::Refusal::BadMessage,
    }
}
