//! The API, called with a token its caller never sees.
//!
//! In: a caller's request for an [`ApiTarget`], and whose token to use. Out: Upwork's answer, and what became of the
//! session. The bearer is added here and nowhere else; a call's own `Authorization` never goes on.

mod keep;
pub(crate) mod pacing;
pub(crate) mod read_only;
pub(crate) mod target;

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::request::Parts;
use http::{Response, StatusCode};
use url::Url;

use crate::body::Body;
use crate::descriptors::Descriptors;
use crate::oauth::Outbound;
use crate::oauth::refresh::{RefreshError, Refresher};
use crate::oauth::service::ServiceIdentity;
use crate::proxy::client::Timeouts;
use crate::proxy::connect::Connector;
use crate::proxy::{self, ApiHeaders, Client, Upstream};
use crate::session::tokens::AccessToken;
use crate::store::{SessionChange, StoredSession};
use crate::tls;
use pacing::{CallerId, Late, Pacer, Quota};
pub use target::ApiTarget;
pub(crate) use target::TargetError;

/// Where the API is, and what callers may do: docs/configuration.md "upwork", "pace".
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `https://www.upwork.com`: an origin; `/upwork/api/…` is `{api_url}/api/…`.
    pub api_url: Url,
    /// `https://api.upwork.com/graphql`.
    pub graphql_url: Url,
    /// `X-Upwork-API-TenantId` where the caller sends none.
    pub organization: Option<String>,
    /// Bytes of a request body that are kept for one retry after a 401.
    pub retry_body: usize,
    /// How Upwork is reached.
    pub outbound: Outbound,
    /// Upwork's pace.
    pub pace: Pace,
}

/// docs/configuration.md "pace".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Calls a second.
    pub per_second: u32,
    /// Calls a minute.
    pub per_minute: u32,
    /// Calls a UTC day.
    pub per_day: u32,
    /// How long a call waits for its turn at the most.
    pub wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { per_second: 10, per_minute: 300, per_day: 40_000, wait: Duration::from_secs(10) }
    }
}

/// How long Upwork may take.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), first_byte: Duration::from_secs(60), idle: Duration::from_secs(60) };

/// Whose token a call uses.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A person's.
    Session(StoredSession),
    /// The service identity's.
    Service(Arc<ServiceIdentity>),
}

impl Caller {
    /// Between whom Upwork's limits are shared.
    fn id(&self) -> CallerId {
        match self {
            Self::Session(held) => CallerId::user(&held.session.user.id),
            Self::Service(_) => CallerId::Service,
        }
    }

    /// Whether a token that was refused can be followed by another.
    fn renews(&self) -> bool {
        match self {
            Self::Session(held) => held.session.tokens.refresh.is_some(),
            Self::Service(_) => true,
        }
    }

    /// What Upwork's word that the grant is over does.
    fn over(&self) -> SessionChange {
        match self {
            Self::Session(held) => SessionChange::End(held.clone()),
            Self::Service(_) => SessionChange::Keep,
        }
    }
}

/// Why a call has no answer of Upwork's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no fresh token.
    #[error(transparent)]
    Token(#[from] RefreshError),
    /// The API could not be reached, or broke off.
    #[error(transparent)]
    Upstream(#[from] proxy::Error),
    /// Its turn under Upwork's limits would come too late.
    #[error(transparent)]
    Late(#[from] Late),
    /// The API refused the token; it is fresh now, but the body of this call is gone.
    #[error("the token was refreshed, and the call has to be sent again")]
    SendAgain,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The answer.
    pub response: Result<Response<Body>, CallError>,
    /// What the session's cookie has to be now.
    pub change: SessionChange,
}

/// The API, for one worker.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    api: Host,
    graphql: Host,
    user_agent: HeaderValue,
    organization: Option<HeaderValue>,
    retry_body: usize,
    refresher: Arc<Refresher>,
    pacer: Arc<Pacer>,
}

#[derive(Clone, Debug)]
struct Host {
    client: Client,
    name: HeaderValue,
}

/// Why a broker could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A URL without a host, or a text that no header can hold.
    #[error("{0} cannot be used")]
    Unusable(&'static str),
}

impl Host {
    fn new(
        url: &Url,
        outbound: &Outbound,
        roots: &Arc<rustls::ClientConfig>,
        descriptors: &Arc<Descriptors>,
    ) -> Result<Self, SetupError> {
        let host = url.host_str().ok_or(SetupError::Unusable("a URL without a host"))?.to_owned();
        let port = url.port_or_known_default().ok_or(SetupError::Unusable("a URL without a port"))?;
        let upstream = Upstream::Tcp { host, port, tls: url.scheme() == "https" };
        let name = HeaderValue::from_str(&upstream.authority()).map_err(|_| SetupError::Unusable("a host name"))?;
        let connector = Connector::new(&upstream, roots, outbound.proxy.clone());
        Ok(Self { client: Client::new(connector, TIMEOUTS, descriptors.clone()), name })
    }
}

impl Broker {
    /// A broker with pools of its own.
    pub(crate) fn new(
        config: &Config,
        refresher: Arc<Refresher>,
        pacer: Arc<Pacer>,
        descriptors: &Arc<Descriptors>,
    ) -> Result<Self, SetupError> {
        let roots = Arc::new(tls::client(config.outbound.ca_file.as_deref())?);
        let value = |text: &str, what| HeaderValue::from_str(text).map_err(|_| SetupError::Unusable(what));
        Ok(Self {
            api: Host::new(&config.api_url, &config.outbound, &roots, descriptors)?,
            graphql: Host::new(&config.graphql_url, &config.outbound, &roots, descriptors)?,
            user_agent: value(&config.outbound.user_agent, "upwork.user_agent")?,
            organization: config.organization.as_deref().map(|id| value(id, "upwork.organization")).transpose()?,
            retry_body: config.retry_body,
            refresher,
            pacer,
        })
    }

    /// What is left of the day's calls.
    pub(crate) fn quota(&self) -> Quota {
        self.pacer.quota()
    }

    /// The same API, with connections of its own for another worker.
    #[must_use]
    pub(crate) fn sibling(&self) -> Self {
        let host = |host: &Host| Host { client: host.client.sibling(), name: host.name.clone() };
        Self { api: host(&self.api), graphql: host(&self.graphql), ..self.clone() }
    }

    /// Drops idle connections that have lain too long.
    pub(crate) fn sweep(&self) {
        self.api.client.sweep();
        self.graphql.client.sweep();
    }

    /// Calls the API. A 401 means one refresh and one retry, where the body could be kept; everything else passes as it
    /// came and never touches the session (docs/design.md "Classifying answers").
    pub(crate) async fn call(&self, head: Parts, body: Body, target: &ApiTarget, caller: Caller) -> Outcome {
        let headers = ApiHeaders::from_caller(&head.headers, &self.user_agent, self.organization.as_ref());
        let (first, change) = match self.token(&caller, None).await {
            Ok(found) => found,
            Err(error) => return Outcome::failed(error, &caller),
        };
        let (body, record) = keep::keep(body, self.retry_body);
        let call = Call { broker: self, head: &head, target, headers, caller: caller.id() };
        let response = match call.send(&first, body).await {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => response,
            response => return Outcome { response, change },
        };
        let caller = match (caller, &change) {
            (Caller::Session(_), SessionChange::Replace(fresh)) => Caller::Session(fresh.clone()),
            (caller, _) => caller,
        };
        let (second, later) = match self.token(&caller, Some(&first)).await {
            Ok(found) => found,
            // Without anything to refresh with, the API's own word is the best there is.
            Err(RefreshError::Revoked) if !caller.renews() => {
                return Outcome { response: Ok(response), change: caller.over() };
            }
            Err(RefreshError::Revoked) => return Outcome::failed(RefreshError::Revoked, &caller),
            // The caller is not to take Upwork's 401 for the end of the session.
            Err(error) => return Outcome { response: Err(error.into()), change },
        };
        let change = if matches!(later, SessionChange::Keep) { change } else { later };
        let response = match record.again() {
            Some(body) => call.send(&second, body).await,
            None => Err(CallError::SendAgain),
        };
        Outcome { response, change }
    }

    async fn token(
        &self,
        caller: &Caller,
        rejected: Option<&AccessToken>,
    ) -> Result<(AccessToken, SessionChange), RefreshError> {
        match caller {
            Caller::Service(service) => Ok((service.token(rejected).await?, SessionChange::Keep)),
            Caller::Session(held) => {
                let fresh = self.refresher.fresh(held.clone(), rejected).await?;
                let token = fresh.session.tokens.access.clone();
                let same = Arc::ptr_eq(&fresh.session, &held.session);
                Ok((token, if same { SessionChange::Keep } else { SessionChange::Replace(fresh) }))
            }
        }
    }
}

impl Outcome {
    fn failed(error: RefreshError, caller: &Caller) -> Self {
        let change = if matches!(error, RefreshError::Revoked) { caller.over() } else { SessionChange::Keep };
        Self { response: Err(error.into()), change }
    }
}

struct Call<'a> {
    broker: &'a Broker,
    head: &'a Parts,
    target: &'a ApiTarget,
    headers: ApiHeaders,
    caller: CallerId,
}

impl Call<'_> {
    /// One call, in its turn under Upwork's limits.
    async fn send(&self, token: &AccessToken, body: Body) -> Result<Response<Body>, CallError> {
        let host = if self.target.graphql { &self.broker.graphql } else { &self.broker.api };
        let mut headers = self.headers.clone();
        headers.host(host.name.clone());
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
            headers.authorize(value);
        }
        let turn = self.broker.pacer.turn(self.caller.clone()).await?;
        let sent = proxy::to_api(&host.client, self.head.method.clone(), self.target.path.clone(), headers, body).await;
        match &sent {
            Ok(response) => turn.answered(response.status(), response.headers()),
            Err(proxy::Error::NoDescriptor | proxy::Error::Connect(_) | proxy::Error::ConnectTimeout) => {
                turn.give_back();
            }
            Err(_) => drop(turn),
        }
        Ok(sent?)
    }
}
