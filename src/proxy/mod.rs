//! Sends requests to the app and to Upwork, and streams bodies both ways.
//!
//! Takes a request's fields only as [`AppHeaders`] or [`ApiHeaders`]; returns the upstream's response without its
//! hop-by-hop fields. Knows no tokens and no sessions, only an `Authorization` value.

mod caching;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod endpoint;
mod error;
pub(crate) mod forwarded;
pub(crate) mod headers;
mod http2;
mod own_address;
pub(crate) mod upgrade;
pub(crate) mod via;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::TryFutureExt as _;
use futures_util::future::Either;
use http::header::{TRAILER, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};

use crate::body::Body;
use crate::descriptors::Descriptors;
use crate::http1::{Answer, BoundPool, Exchange, Outgoing};
use crate::response::Response;
use crate::telemetry::metrics::UpstreamMetrics;
use crate::tls;
pub(crate) use caching::private_unless_said;
pub(crate) use client::Client;
use connect::Connector;
pub(crate) use connect::Upstream;
pub(crate) use error::Error;
pub(crate) use headers::{ApiHeaders, AppHeaders};
pub(crate) use own_address::OwnAddress;
use upgrade::Upgrades;

/// The `Host` that the app sees: docs/configuration.md "app".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPolicy {
    /// The client's (`"keep"`).
    Keep,
    /// The app's own, from `app.url` (`"app"`).
    App,
    /// This one.
    Fixed(String),
}

/// The app behind us, or a part of it: docs/configuration.md "app".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppConfig {
    /// Its address.
    pub upstream: Upstream,
    /// A CA trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The name in its certificate, if that is not the host of its address.
    pub tls_name: Option<String>,
    /// The `Host` that it sees.
    pub host: HostPolicy,
    /// Drop the client's `Authorization` on the way to the app.
    pub drop_authorization: bool,
    /// Use HTTP/2: by ALPN under TLS, otherwise with prior knowledge (RFC 9113 section 3.3).
    pub http2: bool,
    pub timeouts: client::Timeouts,
}

impl AppConfig {
    pub(crate) fn client(
        &self,
        descriptors: Arc<Descriptors>,
        metrics: Arc<UpstreamMetrics>,
    ) -> Result<Client, tls::Error> {
        let connector = Connector::new(&self.upstream, self.ca_file.as_deref(), None)?.named(self.tls_name.clone());
        let connector = if self.http2 { connector.over_http2() } else { connector };
        let client = Client::new(connector, self.timeouts, descriptors, metrics);
        Ok(if self.http2 { client.over_http2(&self.upstream) } else { client })
    }
}

/// A client's request to the app.
#[derive(Debug)]
pub(crate) struct AppRequest {
    pub method: Method,
    pub target: Option<PathAndQuery>,
    pub headers: AppHeaders,
    /// The client accepts trailers, so the response may announce them.
    pub trailers: bool,
    /// The client's exchange, for interim responses and an upgrade; `None` under HTTP/2.
    pub exchange: Option<Exchange>,
    /// For connections that authenticate the client; `None` if its connection carries requests of others too.
    pub bound: Option<Arc<BoundPool>>,
    /// Set if an upgrade is requested.
    pub upgrades: Option<Box<Upgrades>>,
}

/// Forwards a request to the app. `owns`: whether a cookie is ours, which the app cannot set.
///
/// The arguments of an `async fn` stay in its future, so the request is prepared before.
pub(crate) fn to_app(
    app: &Client,
    request: AppRequest,
    body: Body,
    owns: impl Fn(&str) -> bool,
) -> impl Future<Output = Result<Response, Error>> {
    let AppRequest { method, target, headers, trailers, exchange, bound, upgrades } = request;
    let requested = headers.ours(&UPGRADE).cloned().zip(upgrades);
    let user = headers.ours(&headers::USER_ID).cloned();
    let outgoing = match app.http2() {
        None => Either::Left(Outgoing::new(&method, target.as_ref(), headers.lines(), body)),
        Some(http2) => {
            let request = http2.request(method, target, headers.lines(), body);
            // Boxed, so that the future of HTTP/1 needs no room for it.
            Either::Right(Box::pin(app.send_http2(http2, request)))
        }
    };
    async move {
        let inform = |status, mut headers| {
            headers::clean_app_response(&mut headers, &owns);
            if let Some(exchange) = &exchange {
                exchange.inform(status, &headers);
            }
        };
        let Answer { mut response, upgraded } = match outgoing {
            Either::Left(outgoing) => {
                app.exchange(outgoing, app.pools(bound.as_deref(), user.as_ref()), inform).await?
            }
            Either::Right(sending) => Answer { response: sending.await?, upgraded: None },
        };
        let protocol = response.headers.get(UPGRADE).cloned();
        headers::clean_app_response(&mut response.headers, &owns);
        if !trailers {
            response.headers.strip(&TRAILER);
        }
        if let Some(upgraded) = upgraded {
            let accepted = requested.zip(protocol).filter(|((requested, _), protocol)| is_offered(protocol, requested));
            let (Some(exchange), Some(((_, upgrades), protocol))) = (exchange, accepted) else {
                // Dropping the socket closes it.
                return Err(Error::UnexpectedUpgrade);
            };
            let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
            headers::request_upgrade(&mut response.headers, protocol);
            upgrades.join(exchange.upgrade(), upgraded, websocket);
        }
        Ok(response)
    }
}

/// RFC 9110 section 7.8: a server switches only to protocols that the client named. Each side may name several.
fn is_offered(protocol: &HeaderValue, requested: &HeaderValue) -> bool {
    let offered = |name: &[u8]| headers::tokens(requested).any(|token| token.eq_ignore_ascii_case(name));
    protocol.as_bytes().split(|byte| *byte == b',').all(|name| offered(name.trim_ascii()))
}

/// Sends a call to Upwork.
pub(crate) fn to_api(
    api: &Client,
    method: &Method,
    target: &PathAndQuery,
    headers: &ApiHeaders,
    body: Body,
) -> impl Future<Output = Result<Response, Error>> {
    api.send(Outgoing::new(method, Some(target), headers.lines(), body)).map_ok(|mut response| {
        headers::clean_api_response(&mut response.headers);
        caching::keep_private(&mut response.headers);
        response
    })
}
