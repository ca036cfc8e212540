//! The one place that talks to Upwork's token endpoint and asks who somebody is.
//!
//! In: a grant, a token. Out: tokens, a person. It runs on the control runtime, whoever waits for it: a worker's end ends
//! nothing here. It follows no redirect, and reads no answer further than it must.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;
use url::Url;

use super::token::{self, Client, TokenError, TokenGrant};
use super::{Config, Outbound, TOKEN_TIMEOUT, Unusable};
use crate::clock::SharedClock;
use crate::session::tokens::{AccessToken, RefreshToken};
use crate::session::{Organization, Tokens, User};
use crate::telemetry::causes;
use crate::tls;

/// Bytes of an answer that are read.
const LONGEST: usize = 256 << 10;

/// Upwork, as the sign-in and the refresh need it.
#[derive(Debug)]
pub struct Upwork {
    config: Config,
    http: OnceLock<reqwest::Client>,
    runtime: Handle,
    clock: SharedClock,
}

/// Why nobody could be named.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WhoError {
    /// The token is not good (any more).
    #[error("Upwork does not accept the token")]
    Rejected,
    /// The key lacks the scope for it.
    #[error("Upwork's answer names no user: {0}")]
    Nameless(String),
    /// No answer, or none that could be used.
    #[error("Upwork gave no usable answer: {why}")]
    Unavailable {
        /// What was seen.
        why: String,
        /// What kind of no answer that is.
        what: Unusable,
        /// What its `Retry-After` said.
        retry_after: Option<Duration>,
    },
}

/// Why a grant could not be ended at Upwork.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RevokeError {
    /// Upwork would not (RFC 7009 section 2.2.1).
    #[error("Upwork refused: {0}")]
    Refused(String),
    /// No answer, or none that could be used.
    #[error("{0}")]
    Unavailable(String),
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Upwork {
    /// Nothing is asked yet; the HTTP client is made at the first question.
    pub fn new(config: Config, clock: SharedClock, control: Handle) -> Arc<Self> {
        Arc::new(Self { config, http: OnceLock::new(), runtime: control, clock })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Redeems a grant for our own client.
    pub async fn tokens(self: &Arc<Self>, grant: TokenGrant<'_>) -> Result<Tokens, TokenError> {
        let config = &self.config;
        let client =
            Client { id: &config.client_id, secret: &config.client_secret, redirect_uri: &config.redirect_uri };
        self.tokens_for(client, grant).await
    }

    /// Redeems a grant for `client`.
    pub async fn tokens_for(self: &Arc<Self>, client: Client<'_>, grant: TokenGrant<'_>) -> Result<Tokens, TokenError> {
        let asked_at = self.clock.now();
        let kept = if let TokenGrant::Refresh(token) = &grant { Some(*token) } else { None };
        let fields = owned(&token::form(&grant, client));
        let url = self.config.token_url.clone();
        let answer = self.post_form(url, fields).await.map_err(TokenError::silence)?;
        let Answer { status, headers, body } = &answer;
        let answer = token::Answer { status: *status, retry_after: retry_after(headers), body };
        token::read(&answer, &token::Asked { at: asked_at, kept, secrets: &token::secrets(&grant, client) })
    }

    /// Tells Upwork that a grant is over (RFC 7009). What it answers changes nothing here.
    pub async fn revoke(self: &Arc<Self>, tokens: &Tokens) -> Result<(), RevokeError> {
        let refresh = tokens.refresh.as_ref().map(RefreshToken::expose);
        let (token, hint) = refresh.map_or((tokens.access.expose(), "access_token"), |token| (token, "refresh_token"));
        let fields = owned(&[
            ("token", token),
            ("token_type_hint", hint),
            ("client_id", &self.config.client_id),
            ("client_secret", self.config.client_secret.expose()),
        ]);
        let url = self.config.revoke_url.clone();
        let Answer { status, body, .. } = self.post_form(url, fields).await.map_err(RevokeError::Unavailable)?;
        let why = || token::reason(status, &body, &[token, self.config.client_secret.expose()]);
        match status {
            status if status.is_success() => Ok(()),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Err(RevokeError::Refused(why()))
            }
            _ => Err(RevokeError::Unavailable(why())),
        }
    }

    /// Who the token's user is: the minimum first, since one refused field aborts all; names in a second question that may
    /// fail (docs/upwork.md "Who am I").
    pub async fn who_am_i(self: &Arc<Self>, token: &AccessToken) -> Result<(User, Option<Organization>), WhoError> {
        let data = self.ask(token, "query { user { id nid rid } organization { id } }").await?;
        let text = |path: &str| data.pointer(path).and_then(serde_json::Value::as_str).map(str::to_owned);
        let id = text("/user/id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| WhoError::Nameless("no user.id in it".to_owned()))?;
        let nid = text("/user/nid").unwrap_or_else(|| id.clone());
        let mut user = User { id, nid, name: None };
        let mut organization = text("/organization/id").map(|id| Organization { id, name: None });
        if let Ok(names) = self.ask(token, "query { user { id name } organization { id name } }").await {
            let named = |path: &str| {
                names.pointer(path).and_then(serde_json::Value::as_str).map(short).filter(|t| !t.is_empty())
            };
            user.name = named("/user/name");
            if let Some(organization) = &mut organization {
                organization.name = named("/organization/name");
            }
        }
        Ok((user, organization))
    }

    async fn ask(self: &Arc<Self>, token: &AccessToken, query: &str) -> Result<serde_json::Value, WhoError> {
        let body = serde_json::json!({ "query": query }).to_string();
        let bearer = token.clone();
        let url = self.config.graphql_url.clone();
        let answer = self
            .send(move |client| {
                client.post(url).header(CONTENT_TYPE, "application/json").bearer_auth(bearer.expose()).body(body)
            })
            .await
            .map_err(|why| WhoError::Unavailable { why, what: Unusable::Silence, retry_after: None })?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(WhoError::Rejected);
        }
        let unusable = |what: &str| WhoError::Unavailable {
            why: format!("status {} with {what}", answer.status.as_u16()),
            what: Unusable::of(answer.status),
            retry_after: retry_after(&answer.headers),
        };
        if !answer.status.is_success() {
            return Err(unusable(if answer.body.trim_ascii_start().starts_with(b"<") {
                "an HTML page"
            } else {
                "an error"
            }));
        }
        let value: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_| unusable("no JSON"))?;
        match (value.get("data").filter(|data| data.is_object()), value.pointer("/errors/0/message")) {
            (Some(data), None) => Ok(data.clone()),
            (_, Some(message)) => {
                Err(WhoError::Nameless(token::quoted(message.as_str().unwrap_or("an error"), &[token.expose()])))
            }
            (None, None) => Err(unusable("neither data nor errors")),
        }
    }

    async fn post_form(
        self: &Arc<Self>,
        url: Url,
        fields: Vec<(String, zeroize::Zeroizing<String>)>,
    ) -> Result<Answer, String> {
        self.send(move |client| {
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            client.post(url).form(&fields)
        })
        .await
    }

    /// Sends on the control runtime, in a task of its own: it is carried through even if whoever asked goes away.
    async fn send<F>(self: &Arc<Self>, build: F) -> Result<Answer, String>
    where
        F: FnOnce(&reqwest::Client) -> reqwest::RequestBuilder + Send + 'static,
    {
        let this = self.clone();
        let task = self.runtime.spawn(async move {
            let request = build(this.http()?).header(USER_AGENT, &this.config.outbound.user_agent);
            match tokio::time::timeout(TOKEN_TIMEOUT, receive(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} seconds", TOKEN_TIMEOUT.as_secs())),
            }
        });
        task.await.unwrap_or_else(|_| Err("the request was given up, since upwarden is stopping".to_owned()))
    }

    fn http(&self) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        let client =
            build_client(&self.config.outbound).map_err(|error| format!("the HTTP client cannot be made: {error}"))?;
        Ok(self.http.get_or_init(|| client))
    }
}

fn build_client(outbound: &Outbound) -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client(outbound.ca_file.as_deref())?)
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

async fn receive(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let told = |error: reqwest::Error| causes(&error.without_url());
    let mut response = request.send().await.map_err(told)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(told)? {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST {
            return Err(format!("status {} with an over-long body", status.as_u16()));
        }
    }
    Ok(Answer { status, headers, body })
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, zeroize::Zeroizing<String>)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), zeroize::Zeroizing::new((*value).to_owned()))).collect()
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); a date is passed over.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
