//! The client of Upwork's token, revocation and GraphQL endpoints.
//!
//! Requests run on the control runtime, so they survive the end of a worker. Follows no redirects and reads a bounded
//! part of a response.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use serde_json::Value;
use tokio::runtime::Handle;
use url::{Url, form_urlencoded};

use super::config::{Config, Outbound};
use super::response::{Response, Unavailable, quote};
use super::token::{Client, TokenError, TokenGrant, TokenRequest};
use crate::clock::SharedClock;
use crate::pacing::{CallerId, OWN_WAIT, Pacer, Permit, retry_after};
use crate::secret::Secret;
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::session::{Organization, Tokens, User};
use crate::telemetry::{Upstream, causes, trace};
use crate::tls;

const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call may take, including the wait for its turn under Upwork's limits.
pub const LONGEST: Duration = Duration::from_secs(TIMEOUT.as_secs() + OWN_WAIT.as_secs());
const MAX_BODY: usize = 256 << 10;
/// The byte order mark in UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();
const MAX_NAME: usize = 120;

/// Upwork, as sign-in and refresh need it.
#[derive(Debug)]
pub struct Upwork {
    config: Config,
    http: OnceLock<reqwest::Client>,
    control: Handle,
    clock: SharedClock,
    /// Upwork counts these calls like those of the API.
    pacer: Arc<Pacer>,
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

struct Post {
    /// The name of its span.
    what: &'static str,
    url: Url,
    content_type: &'static str,
    body: String,
    bearer: Option<AccessToken>,
}

impl Upwork {
    /// Makes no request, and creates the HTTP client for the first one.
    pub fn new(config: Config, clock: SharedClock, control: Handle, pacer: Arc<Pacer>) -> Arc<Self> {
        Arc::new(Self { config, http: OnceLock::new(), control, clock, pacer })
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
        let response = self.post_form("token", &self.config.token_url, &request.form(), caller).await?;
        request.read(&response)
    }

    /// Revokes a grant (RFC 7009).
    pub(crate) async fn revoke(self: &Arc<Self>, tokens: &Tokens) -> Result<(), RevokeError> {
        let refresh = tokens.refresh.as_ref().map(RefreshToken::expose);
        let (token, hint) = refresh.map_or((tokens.access.expose(), "access_token"), |token| (token, "refresh_token"));
        let (id, secret) = (self.config.client_id.as_str(), self.secret());
        let fields =
            [("token", token), ("token_type_hint", hint), ("client_id", id), ("client_secret", secret.expose())];
        let response = self.post_form("revoke", &self.config.revoke_url, &fields, CallerId::Refresh).await?;
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
        let text = |path: &str| data.pointer(path).and_then(Value::as_str);
        let name = |path: &str| text(path).map(printable).filter(|name| !name.is_empty());
        let id = text("/user/id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| UserInfoError::NoUser("user.id is missing".to_owned()))?.to_owned();
        let nid = text("/user/nid").unwrap_or(&id).to_owned();
        let organization =
            text("/organization/id").map(|id| Organization { id: id.to_owned(), name: name("/organization/name") });
        Ok(UserInfo { user: User { id, nid, name: name("/user/name") }, organization })
    }

    async fn query(
        self: &Arc<Self>,
        token: &AccessToken,
        query: &str,
        caller: CallerId,
    ) -> Result<Value, UserInfoError> {
        let body = serde_json::json!({ "query": query }).to_string();
        let (url, bearer) = (self.config.graphql_url.clone(), Some(token.clone()));
        let response =
            self.send(Post { what: "who am I", url, content_type: "application/json", body, bearer }, caller).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            return Err(UserInfoError::TokenRejected);
        }
        let unusable = |what| response.unavailable(format!("status {} with {what}", response.status.as_u16()));
        if !response.status.is_success() {
            return Err(unusable(if response.is_html() { "an HTML page" } else { "an error" }).into());
        }
        let value: Value = serde_json::from_slice(&response.body).map_err(|_| unusable("no JSON"))?;
        match (value.get("data").filter(|data| data.is_object()), value.pointer("/errors/0/message")) {
            (Some(data), None) => Ok(data.clone()),
            (_, Some(message)) => {
                Err(UserInfoError::NoUser(quote(message.as_str().unwrap_or("an error"), &[token.expose()])))
            }
            (None, None) => Err(unusable("neither data nor errors").into()),
        }
    }

    async fn post_form(
        self: &Arc<Self>,
        what: &'static str,
        url: &Url,
        fields: &[(&str, &str)],
        caller: CallerId,
    ) -> Result<Response, Unavailable> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let content_type = "application/x-www-form-urlencoded";
        self.send(Post { what, url: url.clone(), content_type, body, bearer: None }, caller).await
    }

    /// Sends, when Upwork's limits allow it, in a separate task that completes even if its caller disconnects.
    async fn send(self: &Arc<Self>, post: Post, caller: CallerId) -> Result<Response, Unavailable> {
        let this = self.clone();
        let task = self.control.spawn(trace::carry(async move {
            let permit = this.pacer.acquire(caller).await.map_err(Unavailable::rate_limited)?;
            let http = this.http().map_err(Unavailable::no_response)?;
            let mut request = http.post(post.url).header(CONTENT_TYPE, post.content_type).body(post.body);
            if let Some(token) = post.bearer {
                request = request.bearer_auth(token.expose());
            }
            // Without the field, any coding would be allowed (RFC 9110 section 12.5.3).
            let request = request.header(ACCEPT_ENCODING, "identity");
            let request = request.header(USER_AGENT, &this.config.outbound.user_agent);
            let late = |_| Err(Unavailable::no_response(format!("no answer within {} seconds", TIMEOUT.as_secs())));
            let span = trace::child(post.what);
            let (started, response) = (Instant::now(), receive(request, permit, &this.clock));
            let response = tokio::time::timeout(TIMEOUT, response).await.unwrap_or_else(late);
            if let Ok(response) = &response {
                if let Some(span) = span {
                    span.answered(response.status.as_u16());
                }
                this.pacer.metrics().upstream(Upstream::Oauth).answered(started.elapsed());
            }
            response
        }));
        let stopping = || Unavailable::no_response("the request was cancelled, since upwarden is stopping");
        task.await.unwrap_or_else(|_| Err(stopping()))
    }

    fn http(&self) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        let client =
            build_client(&self.config.outbound).map_err(|error| format!("the HTTP client cannot be built: {error}"))?;
        Ok(self.http.get_or_init(|| client))
    }
}

fn build_client(outbound: &Outbound) -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client(outbound.ca_file.as_deref(), None)?)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(30));
    if let Some(proxy) = &outbound.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone())?);
    }
    Ok(builder.build()?)
}

async fn receive(
    request: reqwest::RequestBuilder,
    permit: Permit,
    clock: &SharedClock,
) -> Result<Response, Unavailable> {
    let reason = |error: reqwest::Error| Unavailable::no_response(causes(&error.without_url()));
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            if error.is_connect() {
                permit.cancel();
            }
            return Err(reason(error));
        }
    };
    permit.answered(response.status(), response.headers());
    let (status, retry_after) = (response.status(), retry_after(response.headers(), clock.now()));
    let coding = response.headers().get(CONTENT_ENCODING).map(|coding| String::from_utf8_lossy(coding.as_bytes()));
    if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let (status, coding) = (status.as_u16(), quote(&coding, &[]));
        return Err(Unavailable::invalid(format!(
            "status {status} with the content coding {coding}, which we did not accept"
        )));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reason)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            return Err(Unavailable::no_response(format!("status {} with a body that is too long", status.as_u16())));
        }
    }
    // RFC 8259 section 8.1: a byte order mark may be ignored.
    if body.starts_with(BOM) {
        body.drain(..BOM.len());
    }
    Ok(Response { status, retry_after, body })
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}
