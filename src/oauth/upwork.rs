//! The client of Upwork's token, revocation and GraphQL endpoints.
//!
//! Requests run on the control runtime, so they survive the end of a worker.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::runtime::Handle;
use url::form_urlencoded;

use super::config::Config;
use super::endpoints::{Endpoints, Post, TIMEOUT, To};
use super::response::{Response, Unavailable, quote};
use super::token::{Client, TokenError, TokenGrant, TokenRequest};
use crate::clock::SharedClock;
use crate::descriptors::Descriptors;
use crate::pacing::{CallerId, OWN_WAIT, Pacer};
use crate::secret::Secret;
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::session::{Organization, Tokens, User};
use crate::telemetry::{Upstream, causes, trace};

/// How long a call may take, including the wait for its turn under Upwork's limits.
pub const LONGEST: Duration = Duration::from_secs(TIMEOUT.as_secs() + OWN_WAIT.as_secs());
const MAX_NAME: usize = 120;

/// Upwork, as sign-in and refresh need it.
#[derive(Debug)]
pub struct Upwork {
    config: Config,
    endpoints: OnceLock<Endpoints>,
    control: Handle,
    clock: SharedClock,
    /// Upwork counts these calls like those of the API.
    pacer: Arc<Pacer>,
    descriptors: Arc<Descriptors>,
}

#[derive(Clone, Debug)]
pub(crate) struct UserInfo {
    pub(crate) user: User,
    pub(crate) organization: Option<Organization>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UserInfoError {
    #[error("Upwork does not accept the token")]
    TokenRejected,
    /// The key lacks the scope for it.
    #[error("Upwork's response has no user: {0}")]
    NoUser(String),
    #[error("Upwork gave no usable answer: {0}")]
    Unavailable(#[from] Unavailable),
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    /// RFC 7009 section 2.2.1.
    #[error("Upwork refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Upwork {
    /// Makes no request, and creates the HTTP clients for the first one.
    pub fn new(
        config: Config,
        clock: SharedClock,
        control: Handle,
        pacer: Arc<Pacer>,
        descriptors: Arc<Descriptors>,
    ) -> Arc<Self> {
        Arc::new(Self { config, endpoints: OnceLock::new(), control, clock, pacer, descriptors })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Where requests run.
    pub(crate) fn control(&self) -> &Handle {
        &self.control
    }

    /// Our own client, with its secret as [`Upwork::secret`] has it.
    pub(super) fn client<'a>(&'a self, secret: &'a Secret) -> Client<'a> {
        let Config { client_id: id, redirect_uri, .. } = &self.config;
        Client { id, secret, redirect_uri }
    }

    pub(super) fn secret(&self) -> Secret {
        self.config.client_secret.load()
    }

    /// Redeems a grant of our own client, for a sign-in.
    pub(crate) async fn tokens(
        self: &Arc<Self>,
        grant: TokenGrant<'_>,
        caller: CallerId,
    ) -> Result<Tokens, TokenError> {
        let secret = self.secret();
        self.tokens_for(self.client(&secret), grant, caller).await
    }

    /// Redeems a grant of `client`. `caller`: how urgent it is.
    pub(crate) async fn tokens_for(
        self: &Arc<Self>,
        client: Client<'_>,
        grant: TokenGrant<'_>,
        caller: CallerId,
    ) -> Result<Tokens, TokenError> {
        let request = TokenRequest { client, grant, sent_at: self.clock.now() };
        let response = self.send(Post { to: To::Token, body: form(&request.form()), bearer: None }, caller).await?;
        request.read(&response)
    }

    /// Revokes a grant (RFC 7009).
    pub(crate) async fn revoke(self: &Arc<Self>, tokens: &Tokens) -> Result<(), RevokeError> {
        let refresh = tokens.refresh.as_ref().map(RefreshToken::expose);
        let (token, hint) = refresh.map_or((tokens.access.expose(), "access_token"), |token| (token, "refresh_token"));
        let (id, secret) = (self.config.client_id.as_str(), self.secret());
        let fields =
            [("token", token), ("token_type_hint", hint), ("client_id", id), ("client_secret", secret.expose())];
        let response = self.send(Post { to: To::Revoke, body: form(&fields), bearer: None }, CallerId::Refresh).await?;
        let reason = || response.describe(&[token, secret.expose()]);
        match response.status {
            status if status.is_success() => Ok(()),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Err(RevokeError::Refused(reason()))
            }
            _ => Err(response.unavailable(reason()).into()),
        }
    }

    /// Asks whom a token acts for, including names. One refused field fails the whole query, so if the key's scopes do
    /// not allow the names, a second query asks for the minimum (docs/upwork.md "Who am I").
    pub(crate) async fn user_info(
        self: &Arc<Self>,
        token: &AccessToken,
        caller: CallerId,
    ) -> Result<UserInfo, UserInfoError> {
        match self.ask(token, "query { user { id nid name } organization { id name } }", caller.clone()).await {
            Err(UserInfoError::NoUser(_)) => self.identity(token, caller).await,
            asked => asked,
        }
    }

    /// Asks whom a token acts for, without names.
    pub(super) async fn identity(
        self: &Arc<Self>,
        token: &AccessToken,
        caller: CallerId,
    ) -> Result<UserInfo, UserInfoError> {
        self.ask(token, "query { user { id nid } organization { id } }", caller).await
    }

    async fn ask(
        self: &Arc<Self>,
        token: &AccessToken,
        query: &str,
        caller: CallerId,
    ) -> Result<UserInfo, UserInfoError> {
        let data = self.query(token, query, caller).await?;
        let text = |of: &str, field: &str| data.get(of)?.get(field)?.as_str();
        let name = |of| text(of, "name").map(printable).filter(|name| !name.is_empty());
        let id = text("user", "id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| UserInfoError::NoUser("user.id is missing".to_owned()))?.to_owned();
        let nid = text("user", "nid").unwrap_or(&id).to_owned();
        let organization =
            text("organization", "id").map(|id| Organization { id: id.to_owned(), name: name("organization") });
        Ok(UserInfo { user: User { id, nid, name: name("user") }, organization })
    }

    async fn query(
        self: &Arc<Self>,
        token: &AccessToken,
        query: &str,
        caller: CallerId,
    ) -> Result<Value, UserInfoError> {
        let body = serde_json::json!({ "query": query }).to_string();
        let response = self.send(Post { to: To::Graphql, body, bearer: Some(token.clone()) }, caller).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            return Err(UserInfoError::TokenRejected);
        }
        let unusable = |what| response.unavailable(format!("status {} with {what}", response.status.as_u16()));
        if !response.status.is_success() {
            return Err(unusable(if response.is_html() { "an HTML page" } else { "an error" }).into());
        }
        let mut answer: Value = serde_json::from_slice(&response.body).map_err(|_| unusable("no JSON"))?;
        if let Some(message) = answer.get("errors").and_then(|errors| errors.get(0)?.get("message")) {
            let message = quote(message.as_str().unwrap_or("an error"), &[token.expose()]);
            return Err(UserInfoError::NoUser(message));
        }
        let data = answer.get_mut("data").map(Value::take).filter(Value::is_object);
        data.ok_or_else(|| unusable("neither data nor errors").into())
    }

    /// Sends, when Upwork's limits allow it, in a separate task that completes even if its caller disconnects.
    async fn send(self: &Arc<Self>, post: Post, caller: CallerId) -> Result<Response, Unavailable> {
        let this = self.clone();
        let task = self.control.spawn(trace::carry(async move {
            let permit = this.pacer.acquire(caller).await.map_err(Unavailable::rate_limited)?;
            let endpoints = this.endpoints().map_err(Unavailable::no_response)?;
            let late = |_| Err(Unavailable::no_response(format!("no answer within {} seconds", TIMEOUT.as_secs())));
            let span = trace::child(post.to.span());
            let response = endpoints.post(post, permit, &this.clock);
            let response = tokio::time::timeout(TIMEOUT, response).await.unwrap_or_else(late);
            if let (Ok(response), Some(span)) = (&response, span) {
                span.answered(response.status.as_u16());
            }
            response
        }));
        let stopping = || Unavailable::no_response("the request was cancelled, since upwarden is stopping");
        task.await.unwrap_or_else(|_| Err(stopping()))
    }

    fn endpoints(&self) -> Result<&Endpoints, String> {
        if let Some(endpoints) = self.endpoints.get() {
            return Ok(endpoints);
        }
        let metrics = self.pacer.metrics().upstream(Upstream::Oauth);
        let endpoints = Endpoints::new(&self.config, &self.descriptors, metrics)
            .map_err(|error| format!("the HTTP client cannot be made: {}", causes(&error)))?;
        Ok(self.endpoints.get_or_init(|| endpoints))
    }

    /// Closes connections that have been idle for too long. Call it periodically.
    pub(crate) fn sweep(&self) {
        if let Some(endpoints) = self.endpoints.get() {
            endpoints.sweep();
        }
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::with_capacity(512)).extend_pairs(fields).finish()
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}
