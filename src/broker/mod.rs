//! Calls the API with a token that the caller never sees.
//!
//! Takes a caller's request for an [`ApiTarget`] and the source of its token. Returns Upwork's answer, and what the
//! call showed about the session. Only this module adds the bearer token; the caller's own `Authorization` is never
//! sent to Upwork. It streams the body as it comes: `gateway/upstreams` checks what a caller may send.

mod keep;
pub(crate) mod read_only;
mod rejections;
mod target;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use crate::body::Body;
use crate::descriptors::Descriptors;
use crate::fields::Fields;
use crate::oauth::Outbound;
use crate::oauth::refresh::{RefreshError, Refresher};
use crate::oauth::service::ServiceIdentity;
pub use crate::pacing::Pace;
use crate::pacing::{CallerId, Pacer, Quota, RateLimited};
use crate::proxy::client::Timeouts;
use crate::proxy::endpoint::{Endpoint, SetupError};
use crate::proxy::{self, ApiHeaders, Client};
use crate::response::Response;
use crate::router::Route;
use crate::session::tokens::AccessToken;
use crate::store::StoredSession;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{Upstream, trace};
use read_only::LongDocuments;
use rejections::Rejections;
pub use target::ApiTarget;
pub(crate) use target::TargetError;
use target::{is_oauth, names_graphql};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `https://www.upwork.com`: an origin; `/upwork/api/…` is `{api_url}/api/…`.
    pub api_url: Url,
    /// `https://api.upwork.com/graphql`.
    pub graphql_url: Url,
    /// `X-Upwork-API-TenantId` if the caller sends none.
    pub organization: Option<String>,
    /// The paths of Upwork's OAuth endpoints, which callers must not reach.
    pub oauth_paths: Vec<String>,
    /// How many bytes of a request body to keep for one retry after a 401.
    pub retry_body: usize,
    pub outbound: Outbound,
    pub pace: Pace,
}

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), first_byte: Duration::from_secs(60), idle: Duration::from_secs(60) };

/// Whose token a call uses.
#[derive(Clone, Debug)]
pub(crate) enum TokenSource {
    Session(StoredSession),
    Service(Arc<ServiceIdentity>),
}

impl TokenSource {
    fn caller(&self) -> CallerId {
        match self {
            Self::Session(stored) => CallerId::user(&stored.session.user.id),
            Self::Service(_) => CallerId::Service,
        }
    }

    /// Whether a refused token can be replaced.
    fn renews(&self) -> bool {
        match self {
            Self::Session(stored) => stored.session.tokens.refresh.is_some(),
            Self::Service(_) => true,
        }
    }

    fn revoked(self) -> Option<TokenUpdate> {
        match self {
            Self::Session(stored) => Some(TokenUpdate::Revoked(stored)),
            Self::Service(_) => None,
        }
    }
}

/// What a call showed about the session whose token it used.
#[derive(Clone, Debug)]
pub(crate) enum TokenUpdate {
    Renewed(StoredSession),
    /// Upwork has ended its grant.
    Revoked(StoredSession),
}

#[derive(Debug)]
pub(crate) struct ApiRequest {
    pub method: Method,
    /// The caller's own header fields, few of which are passed on.
    pub headers: Fields,
    pub body: Body,
    pub target: ApiTarget,
    /// Documents to check before the call is sent.
    pub documents: Option<LongDocuments>,
}

/// Why a call got no answer from Upwork.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Token(#[from] RefreshError),
    #[error(transparent)]
    Upstream(#[from] proxy::Error),
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    #[error(transparent)]
    ReadOnly(#[from] read_only::Refusal),
    /// The API refused the token. It has been refreshed, but the call's body was not kept.
    #[error("the token was refreshed, and the call has to be sent again")]
    SendAgain,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub response: Result<Response, CallError>,
    pub update: Option<TokenUpdate>,
    /// How long the API took, over all attempts.
    pub upstream: Option<Duration>,
}

/// The API, for one worker.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    api: Endpoint,
    graphql: Endpoint,
    user_agent: HeaderValue,
    organization: Option<HeaderValue>,
    /// The path of `upwork.graphql_url`.
    graphql_path: Arc<str>,
    /// The configured endpoints that are not recognized by their form.
    oauth_paths: Arc<[String]>,
    retry_body: usize,
    refresher: Arc<Refresher>,
    pacer: Arc<Pacer>,
    rejections: Arc<Rejections>,
    /// Long documents of only one call at a time are parsed, so that they take at most one core.
    parsing: Arc<Semaphore>,
}

impl Broker {
    pub(crate) fn new(
        config: &Config,
        refresher: Arc<Refresher>,
        pacer: Arc<Pacer>,
        descriptors: &Arc<Descriptors>,
        metrics: &Metrics,
    ) -> Result<Self, SetupError> {
        let metrics = metrics.upstream(Upstream::Api);
        let value = |text: &str, what| HeaderValue::from_str(text).map_err(|_| SetupError::Unusable(what));
        Ok(Self {
            api: config.outbound.endpoint(&config.api_url, TIMEOUTS, descriptors, metrics)?,
            graphql: config.outbound.endpoint(&config.graphql_url, TIMEOUTS, descriptors, metrics)?,
            user_agent: value(&config.outbound.user_agent, "upwork.user_agent")?,
            organization: config.organization.as_deref().map(|id| value(id, "upwork.organization")).transpose()?,
            graphql_path: config.graphql_url.path().into(),
            oauth_paths: config.oauth_paths.iter().filter(|path| !is_oauth(path, &[])).cloned().collect(),
            retry_body: config.retry_body,
            refresher,
            pacer,
            rejections: Arc::default(),
            parsing: Arc::new(Semaphore::new(1)),
        })
    }

    pub(crate) fn quota(&self) -> Quota {
        self.pacer.quota()
    }

    /// The same API with its own connections, for another worker.
    #[must_use]
    pub(crate) fn sibling(&self) -> Self {
        Self { api: self.api.sibling(), graphql: self.graphql.sibling(), ..self.clone() }
    }

    /// Closes connections that have been idle too long.
    pub(crate) fn sweep(&self) {
        self.api.client.sweep();
        self.graphql.client.sweep();
    }

    /// `path`: the part after our prefix.
    pub(crate) fn target(&self, route: Route, path: &str, query: Option<&str>) -> Result<ApiTarget, TargetError> {
        ApiTarget::parse(route, path, query, &self.graphql_path, &self.oauth_paths)
    }

    /// Whether a call may carry a document: a server may read its path as GraphQL's.
    pub(crate) fn names_graphql(&self, route: Route, path: &str) -> bool {
        route == Route::Graphql || names_graphql(path, &self.graphql_path)
    }

    /// Calls the API. A 401 leads to one refresh and one retry, if the body could be kept. Every other answer is passed
    /// on unchanged and never affects the session (docs/design.md "Classifying answers").
    pub(crate) async fn call(&self, request: ApiRequest, source: TokenSource) -> Outcome {
        let ApiRequest { method, headers, body, target, documents } = request;
        let endpoint = if target.graphql { &self.graphql } else { &self.api };
        let mut headers = ApiHeaders::from_caller(headers, &self.user_agent, self.organization.as_ref());
        headers.set(HOST, endpoint.host.clone());
        let (client, path, caller) = (&endpoint.client, target.path, source.caller());
        let mut call = Call { broker: self, client, method, path, headers, caller, took: None };
        let (response, update) = self.attempt(&mut call, body, documents, source).await;
        Outcome { response, update, upstream: call.took }
    }

    async fn attempt(
        &self,
        call: &mut Call<'_>,
        body: Body,
        documents: Option<LongDocuments>,
        source: TokenSource,
    ) -> Attempt {
        let (first, update) = match self.token(&source, None).await {
            Ok(token) => token,
            Err(error) => return without_token(error, source),
        };
        let (body, record) = keep::record_body(body, self.retry_body);
        let response = match call.send(&first, body, documents).await {
            Ok(response) if response.status == StatusCode::UNAUTHORIZED => response,
            response => return (response, update),
        };
        let now = self.pacer.now();
        if self.rejections.is_known(&call.caller, now) {
            return (Ok(response), update);
        }
        let source = match &update {
            Some(TokenUpdate::Renewed(fresh)) => TokenSource::Session(fresh.clone()),
            Some(TokenUpdate::Revoked(_)) | None => source,
        };
        let (second, later) = match self.token(&source, Some(&first)).await {
            Ok(token) => token,
            // Without a refresh token, return the API's own answer.
            Err(RefreshError::Revoked) if !source.renews() => {
                return (Ok(response), source.revoked());
            }
            Err(RefreshError::Revoked) => return without_token(RefreshError::Revoked, source),
            // The caller must not mistake Upwork's 401 for the end of the session.
            Err(error) => return (Err(error.into()), update),
        };
        let response = match record.again() {
            Some(body) => call.send(&second, body, None).await,
            None => Err(CallError::SendAgain),
        };
        let rejected = match &response {
            Ok(response) => response.status == StatusCode::UNAUTHORIZED,
            Err(error) => matches!(error, CallError::SendAgain),
        };
        self.rejections.note(call.caller.clone(), rejected, now);
        (response, later.or(update))
    }

    /// Checks long documents on a separate thread.
    async fn parse(&self, documents: LongDocuments) -> Result<(), read_only::Refusal> {
        // The semaphore is never closed. The slot is released when the work ends, even if its caller has left.
        let slot = self.parsing.clone().acquire_owned().await.ok();
        let work = tokio::task::spawn_blocking(move || {
            let outcome = documents.check();
            drop(slot);
            outcome
        });
        work.await.unwrap_or(Err(read_only::Refusal::Unclear("its documents could not be checked")))
    }

    /// A token other than `rejected`, to which the API answered 401.
    async fn token(
        &self,
        source: &TokenSource,
        rejected: Option<&AccessToken>,
    ) -> Result<(AccessToken, Option<TokenUpdate>), RefreshError> {
        match source {
            TokenSource::Service(service) => Ok((service.token(rejected).await?, None)),
            TokenSource::Session(stored) => {
                let fresh = self.refresher.fresh(stored.clone(), rejected).await?;
                let token = fresh.session.tokens.access.clone();
                let same = Arc::ptr_eq(&fresh.session, &stored.session);
                Ok((token, (!same).then_some(TokenUpdate::Renewed(fresh))))
            }
        }
    }
}

type Attempt = (Result<Response, CallError>, Option<TokenUpdate>);

fn without_token(error: RefreshError, source: TokenSource) -> Attempt {
    let update = if matches!(error, RefreshError::Revoked) { source.revoked() } else { None };
    (Err(error.into()), update)
}

struct Call<'a> {
    broker: &'a Broker,
    client: &'a Client,
    method: Method,
    path: PathAndQuery,
    headers: ApiHeaders,
    caller: CallerId,
    /// How long the API has taken so far, once it was asked.
    took: Option<Duration>,
}

impl Call<'_> {
    /// Sends one call as soon as Upwork's limits allow it. Its documents are checked only then, and a refused call has
    /// used its turn, so a caller cannot make us parse more often than it may call.
    async fn send(
        &mut self,
        token: &AccessToken,
        body: Body,
        documents: Option<LongDocuments>,
    ) -> Result<Response, CallError> {
        if let Ok(value) = HeaderValue::try_from(["Bearer ", token.expose()].concat()) {
            self.headers.authorize(value);
        }
        let permit = self.broker.pacer.acquire(self.caller.clone()).await?;
        if let Some(documents) = documents {
            self.broker.parse(documents).await?;
        }
        let (span, began) = (trace::child("upwork api"), Instant::now());
        let sent = proxy::to_api(self.client, &self.method, &self.path, &self.headers, body).await;
        if let (Some(span), Ok(response)) = (span, &sent) {
            span.answered(response.status.as_u16());
        }
        self.took = Some(self.took.unwrap_or_default() + began.elapsed());
        match &sent {
            Ok(response) => permit.answered(response.status, response.headers.get(RETRY_AFTER)),
            Err(proxy::Error::NoDescriptor | proxy::Error::Connect(_) | proxy::Error::ConnectTimeout) => {
                permit.cancel();
            }
            Err(_) => drop(permit),
        }
        Ok(sent?)
    }
}
