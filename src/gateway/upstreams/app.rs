//! Forwards requests to the app. Header fields that no client can set carry the identity; the app never sees an Upwork
//! token.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue, MAX_FORWARDS, TE, UPGRADE, VIA};
use http::{Method, StatusCode, Version};
use tokio_util::sync::CancellationToken;

use super::identity::IdentityHeaders;
use crate::fields::Fields;
use crate::gateway::callers::is_our_token;
use crate::gateway::fault::{ClientFault, Fault, OurFault};
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::http1::Exchange;
use crate::listener::Peer;
use crate::proxy::forwarded::{Claims, ForwardedFields, Origin};
use crate::proxy::headers::{REQUEST_ID, TICKET, TRACEPARENT, TRACESTATE, ascii_value, requested_upgrade};
use crate::proxy::upgrade::Upgrades;
use crate::proxy::via::Via;
use crate::proxy::{self, AppConfig, AppHeaders, AppRequest, Client, HostPolicy, OwnAddress};
use crate::response::Response;
use crate::session::Session;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace;

/// How all workers talk to one upstream of the app.
#[derive(Clone, Debug)]
pub(crate) struct AppSettings {
    pub(crate) config: AppConfig,
    /// The address that is rewritten in its redirects, with `app.host = "app"`.
    pub(crate) own_address: Option<OwnAddress>,
    pub(crate) identity: Arc<IdentityHeaders>,
    /// How long an upgraded connection may be idle.
    pub(crate) upgrade_idle: Duration,
    pub(crate) via: Via,
    /// Additional headers about the client that a trusted proxy may set.
    pub(crate) trusted_headers: Vec<HeaderName>,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Clone, Debug)]
pub(crate) struct AppUpstream {
    client: Client,
    settings: Arc<AppSettings>,
}

/// What the app learns of the session, besides the client's own fields.
#[derive(Debug, Default)]
pub(in crate::gateway) struct SessionContext<'a> {
    pub(in crate::gateway) session: Option<&'a Session>,
    pub(in crate::gateway) ticket: Option<HeaderValue>,
    /// Ends an upgraded connection with the session.
    pub(in crate::gateway) session_end: Option<Arc<CancellationToken>>,
}

impl AppUpstream {
    pub(crate) fn new(client: Client, settings: Arc<AppSettings>) -> Self {
        Self { client, settings }
    }

    pub(super) fn sibling(&self) -> Self {
        Self { client: self.client.sibling(), settings: self.settings.clone() }
    }

    pub(super) fn sweep(&self) {
        self.client.sweep();
    }

    /// Forwards a request.
    ///
    /// A request that we already forwarded to the app is refused: `app.url` leads back to us. (The app may call the API
    /// with the fields it received, so only requests to the app are checked.)
    pub(in crate::gateway) fn forward(
        &self,
        request: &RequestInfo,
        mut message: Message,
        context: SessionContext<'_>,
        owns: impl Fn(&str) -> bool,
    ) -> impl Future<Output = Result<Response, Fault>> {
        let body = self.settings.identity.strip_trailers(std::mem::take(&mut message.body));
        let passed = self.settings.via.passed(&message.headers);
        let ends = ends_here(&request.method, &mut message.headers);
        let span = trace::child("app");
        let mut onward = self.app_request(request, message, context);
        if let Some(span) = &span {
            let (parent, state) = span.headers();
            onward.headers.set(TRACEPARENT, parent);
            onward.headers.put(&TRACESTATE, state);
        }
        async move {
            if passed {
                return Err(OurFault::RequestLoop.into());
            }
            if ends {
                return Ok(response::empty(StatusCode::NO_CONTENT));
            }
            let exchange = onward.exchange.clone();
            let mut sent = proxy::to_app(&self.client, onward, body, &owns).await;
            if let (Some(own), Ok(response)) = (&self.settings.own_address, &mut sent) {
                own.rewrite(&mut response.headers);
            }
            if let (Some(span), Ok(response)) = (span, &sent) {
                span.answered(response.status.as_u16());
            }
            sent.map_err(|error| body_fault(exchange.as_ref()).unwrap_or_else(|| Fault::of_app(&error)))
        }
    }

    fn app_request(&self, request: &RequestInfo, message: Message, context: SessionContext<'_>) -> AppRequest {
        let settings = &self.settings;
        // Claims of untrusted peers are dropped.
        let claims = request.client.origin.trusted.then(|| Claims::read(&message.headers));
        let via = settings.via.field(&message.headers, message.version);
        let drops_authorization = settings.config.drop_authorization || is_our_token(&message.headers);
        let mut headers = AppHeaders::from_client(message.headers, &request.cookies);
        if drops_authorization {
            headers.drop_authorization();
        }
        describe_origin(&request.client.origin, claims.as_ref(), &message.peer, |fields| {
            fields.write_to(&mut headers, &settings.trusted_headers);
        });
        settings.identity.strip(&mut headers);
        headers.set(VIA, via);
        headers.set(REQUEST_ID, (&request.id).into());
        self.set_host(&mut headers);
        for (name, value) in context.session.into_iter().flat_map(|session| settings.identity.of(session)) {
            headers.set(name, value);
        }
        if let Some(ticket) = context.ticket {
            headers.set(TICKET, ticket);
        }
        // HTTP/1 sends no trailers to a client that does not ask for them (RFC 9110 section 6.5.1), so none are
        // announced.
        let trailers = message.version > Version::HTTP_11 || headers.ours(&TE).is_some();
        let upgrades = || Upgrades {
            tracker: message.peer.tracker.clone(),
            drain: message.peer.drain.clone(),
            session_end: context.session_end,
            idle: settings.upgrade_idle,
            held: message.slot.map(|slot| slot as Arc<dyn Any + Send + Sync>),
            metrics: settings.metrics.clone(),
        };
        let upgrades = headers.ours(&UPGRADE).is_some().then(|| Box::new(upgrades()));
        AppRequest {
            method: request.method.clone(),
            target: request.uri.path_and_query().cloned(),
            headers,
            trailers,
            bound: (!request.client.origin.trusted).then(|| message.peer.bound.clone()),
            exchange: message.exchange,
            upgrades,
        }
    }

    fn set_host(&self, headers: &mut AppHeaders) {
        let config = &self.settings.config;
        match &config.host {
            // HTTP/1.0 has no Host, but we forward HTTP/1.1, which needs one (RFC 9112 section 3.2).
            HostPolicy::Keep => headers.set_where_missing(HOST, || ascii_value(&config.upstream.authority())),
            HostPolicy::App => headers.set(HOST, ascii_value(&config.upstream.authority())),
            HostPolicy::Fixed(host) => headers.set(HOST, ascii_value(host)),
        }
    }

    /// What the app learns about users.
    pub(in crate::gateway) fn identity(&self) -> &IdentityHeaders {
        &self.settings.identity
    }
}

/// Describes the client to the app. For a peer that is not a proxy, the fields are the same throughout its connection.
fn describe_origin(origin: &Origin, claims: Option<&Claims>, peer: &Peer, mut write: impl FnMut(&ForwardedFields)) {
    let known = peer.memory.get().and_then(|known| known.downcast_ref::<ForwardedFields>());
    if let Some(fields) = known.filter(|fields| fields.describe(origin)) {
        return write(fields);
    }
    let fields = origin.fields(claims.unwrap_or(&Claims::default()));
    write(&fields);
    if !origin.trusted {
        // If another request was first, its fields stay.
        let _ = peer.memory.set(Box::new(fields));
    }
}

/// Whether the request asks to switch to a protocol that we forward.
pub(in crate::gateway) fn asks_upgrade(headers: &Fields) -> bool {
    requested_upgrade(headers).is_some()
}

/// The fault of a body that the listener refused midway, whatever the upstream answered.
pub(super) fn body_fault(exchange: Option<&Exchange>) -> Option<Fault> {
    exchange.and_then(Exchange::refused).map(|refused| ClientFault::Refused(refused).into())
}

/// Whether an OPTIONS ends here (RFC 9110 section 7.6.2). If not, `Max-Forwards` is decremented.
fn ends_here(method: &Method, headers: &mut Fields) -> bool {
    let steps = headers.get(MAX_FORWARDS).filter(|_| method == Method::OPTIONS);
    let Some(steps) = steps.and_then(|steps| steps.to_str().ok()?.parse::<u64>().ok()) else { return false };
    let left = steps.checked_sub(1);
    if let Some(left) = left {
        headers.insert(MAX_FORWARDS, left.into());
    }
    left.is_none()
}
