//! `auth/tokens`: a browser creates, lists and revokes its user's personal access tokens. A token's text is shown once.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::own_session;
use crate::clock::Timestamp;
use crate::fields::Fields;
use crate::gateway::answer::Answer;
use crate::gateway::fault::{ClientFault, Fault, NoTokens};
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::sessions::SessionChange;
use crate::gateway::state::Gateway;
use crate::policy::Site;
use crate::router::AuthPath;
use crate::session::personal::PersonalToken;
use crate::store::{NewTokenRecord, StoreError, StoredSession, TokenRecord, TokenScope};

const MAX_BODY: usize = 16 << 10;
/// Default validity of a token, in seconds.
const DEFAULT_LIFETIME: u64 = 30 * 86_400;
const MAX_LIFETIME: u64 = 365 * 86_400;
const MAX_NAME: usize = 64;
const MAX_TOKENS: usize = 50;

#[derive(Debug, PartialEq, Eq)]
struct NewToken {
    name: String,
    /// Seconds.
    expires_in: u64,
    read_only: bool,
    scope: TokenScope,
}

#[derive(Debug, PartialEq, Eq)]
enum TokenAction {
    Create(NewToken),
    Revoke(String),
}

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
    if request.method != Method::POST {
        let stored = own_session::require(gateway, request).await?;
        let tokens = gateway.sessions.tokens_of(&stored.session.user.id).await?;
        let tokens: Vec<Value> = tokens.iter().map(shown).collect();
        let answer: Answer = response::json(StatusCode::OK, &json!({ "tokens": tokens })).into();
        return Ok(answer.user(&stored.session));
    }
    same_site(request)?;
    let stored = own_session::require(gateway, request).await?;
    let answer = post(gateway, request, message, &stored).await;
    Ok(answer.unwrap_or_else(|fault| gateway.fault(request, &fault)).user(&stored.session))
}

pub(super) async fn revoke(gateway: &Gateway, request: &RequestInfo, path: AuthPath) -> Result<Answer, Fault> {
    same_site(request)?;
    let stored = own_session::require(gateway, request).await?;
    let revoked = revoke_token(gateway, &stored, path.token_id(request.path()).unwrap_or_default()).await;
    let answer = revoked.map(|()| response::empty(StatusCode::NO_CONTENT).into());
    Ok(answer.unwrap_or_else(|fault| gateway.fault(request, &fault)).user(&stored.session))
}

fn same_site(request: &RequestInfo) -> Result<(), Fault> {
    if request.fetch.site == Site::Foreign { Err(ClientFault::CrossSite.into()) } else { Ok(()) }
}

async fn post(
    gateway: &Gateway,
    request: &RequestInfo,
    message: Message,
    stored: &StoredSession,
) -> Result<Answer, Fault> {
    let unreadable = |_| ClientFault::BadRequest("The form is too long, or was cut off.");
    let bytes = message.body.collect(MAX_BODY).await.map_err(unreadable)?;
    let form = has_type(&message.headers, "application/x-www-form-urlencoded");
    let action = if form { from_form(&bytes) } else { from_json(&message.headers, &bytes) };
    let new = match action.map_err(ClientFault::BadRequest)? {
        TokenAction::Revoke(id) => {
            revoke_token(gateway, stored, &id).await?;
            return Ok(response::see_other(&format!("{}/auth/", gateway.prefix())).into());
        }
        TokenAction::Create(new) => new,
    };
    let (stored, token, record) = create(gateway, request, stored, new).await?;
    let answer = if form {
        // The page that the browser opens next shows it, so a reload does not create another token.
        let cookies = gateway.callers.new_token.set(&token, &request.cookies)?;
        Answer::from(response::see_other(&format!("{}/auth/", gateway.prefix()))).cookies(cookies)
    } else {
        let mut value = shown(&record);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("token".to_owned(), Value::from(token.secret().expose()));
        }
        response::json(StatusCode::CREATED, &value).into()
    };
    Ok(answer.change(SessionChange::Renew(stored)))
}

async fn revoke_token(gateway: &Gateway, stored: &StoredSession, id: &str) -> Result<(), Fault> {
    let user = &stored.session.user.id;
    match gateway.sessions.store.remove_token(user, id).await {
        Ok(true) => {
            tracing::info!(user, token = id, "a personal access token was revoked");
            Ok(())
        }
        Ok(false) | Err(StoreError::NoRecords) => Err(ClientFault::NotFound.into()),
        Err(error) => Err(error.into()),
    }
}

/// Creates a token. From then on the session and the token share one record of the grant.
async fn create(
    gateway: &Gateway,
    request: &RequestInfo,
    stored: &StoredSession,
    new: NewToken,
) -> Result<(StoredSession, PersonalToken, TokenRecord), Fault> {
    let (sessions, session) = (&gateway.sessions, &stored.session);
    if new.scope.has_app() && !gateway.config.app.tokens {
        return Err(ClientFault::BadRequest("`scope` can only be `api`: this site’s `app.tokens` is off.").into());
    }
    if !sessions.store.keeps_records() {
        return Err(ClientFault::NoTokens(NoTokens::Store).into());
    }
    // Counted and added under a lock, so that two requests cannot both create the last one.
    let counting = sessions.store.lock_tokens(&session.user.id).await?;
    let existing = sessions.tokens_of(&session.user.id).await?;
    if session.tokens.refresh.is_none() {
        return Err(ClientFault::NoTokens(NoTokens::Refresh).into());
    }
    if existing.len() >= MAX_TOKENS {
        return Err(ClientFault::NoTokens(NoTokens::Limit).into());
    }
    let stored = sessions.store.share(stored, sessions.expires_at(session)).await?;
    let (user, now) = (stored.session.user.id.clone(), gateway.context().now());
    let token = PersonalToken::generate()?;
    let expires_at = now.plus(Duration::from_secs(new.expires_in));
    let new = NewTokenRecord { user, name: new.name, expires_at, read_only: new.read_only, scope: new.scope };
    let record = sessions.store.add_token(&token, new, now).await?;
    counting.release().await;
    let (user, id) = (&record.user, &record.id);
    tracing::info!(request_id = %request.id, user, token = id, "a personal access token was made");
    Ok((stored, token, record))
}

/// A token as listed, without its text.
fn shown(record: &TokenRecord) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "starts_with": record.starts_with,
        "created_at": record.created_at.rfc3339(),
        "expires_at": record.expires_at.rfc3339(),
        "last_used_at": record.last_used_at.map(Timestamp::rfc3339),
        "read_only": record.read_only,
        "scope": record.scope,
    })
}

fn has_type(headers: &Fields, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
}

fn from_form(bytes: &[u8]) -> Result<TokenAction, &'static str> {
    let field = |wanted: &str| {
        let found = url::form_urlencoded::parse(bytes).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned())
    };
    match field("action").as_deref() {
        Some("revoke") => Ok(TokenAction::Revoke(field("id").ok_or("The form names no token.")?)),
        Some("create") => {
            let seconds = field("expires_in").filter(|text| !text.is_empty());
            let expires_in = seconds.map(|text| text.parse().map_err(|_| LIFETIME_RULE)).transpose()?;
            let scope = field("scope").map_or(Ok(TokenScope::default()), |text| text.parse());
            let new = PostedToken {
                name: field("name").unwrap_or_default(),
                expires_in,
                read_only: field("read_only").is_some_and(|value| value == "1"),
                scope: scope.map_err(|_| SCOPE_RULE)?,
            };
            new_token(&new)
        }
        Some(_) | None => Err("The form’s `action` is neither create nor revoke."),
    }
}

const BODY_RULE: &str = "The body is not `{\"name\": text, \"expires_in\": seconds, \"read_only\": true or false, \
                         \"scope\": \"api\", \"app\" or \"api app\"}`.";
const SCOPE_RULE: &str = "`scope` is `api`, `app` or `api app`.";
const LIFETIME_RULE: &str = "`expires_in` is a number of seconds, at most 31536000 (365 days).";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PostedToken {
    name: String,
    expires_in: Option<u64>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    scope: TokenScope,
}

fn from_json(headers: &Fields, bytes: &[u8]) -> Result<TokenAction, &'static str> {
    if !has_type(headers, "application/json") {
        return Err("Send JSON as `Content-Type: application/json`, or the page’s form.");
    }
    let posted: PostedToken = serde_json::from_slice(bytes).map_err(|_| BODY_RULE)?;
    new_token(&posted)
}

fn new_token(posted: &PostedToken) -> Result<TokenAction, &'static str> {
    let name = posted.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err("`name` says in 1 to 64 characters what the token is for.");
    }
    let expires_in = posted.expires_in.unwrap_or(DEFAULT_LIFETIME);
    if expires_in == 0 || expires_in > MAX_LIFETIME {
        return Err(LIFETIME_RULE);
    }
    Ok(TokenAction::Create(NewToken { name, expires_in, read_only: posted.read_only, scope: posted.scope }))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn json_headers() -> Fields {
        [(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))].into_iter().collect()
    }

    fn made(name: &str, expires_in: u64, read_only: bool) -> TokenAction {
        made_for(name, expires_in, read_only, TokenScope::Api)
    }

    fn made_for(name: &str, expires_in: u64, read_only: bool, scope: TokenScope) -> TokenAction {
        TokenAction::Create(NewToken { name: name.to_owned(), expires_in, read_only, scope })
    }

    #[test]
    fn a_new_token_is_read_from_json_and_from_the_form() {
        let json = |text: &str| from_json(&json_headers(), text.as_bytes());
        assert_eq!(json(r#"{"name":" report "}"#), Ok(made("report", DEFAULT_LIFETIME, false)));
        assert_eq!(json(r#"{"name":"a","expires_in":31536000,"read_only":true}"#), Ok(made("a", MAX_LIFETIME, true)));
        assert_eq!(from_form(b"action=create&name=a+b&expires_in=604800&read_only=1"), Ok(made("a b", 604_800, true)));
        assert_eq!(from_form(b"action=create&name=a"), Ok(made("a", DEFAULT_LIFETIME, false)));
        let both = made_for("a", DEFAULT_LIFETIME, false, TokenScope::Both);
        assert_eq!(json(r#"{"name":"a","scope":"api app"}"#), Ok(both));
        let app = made_for("a", DEFAULT_LIFETIME, false, TokenScope::App);
        assert_eq!(from_form(b"action=create&name=a&scope=app"), Ok(app));
        assert_eq!(from_form(b"action=revoke&id=12ab"), Ok(TokenAction::Revoke("12ab".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["", "{}", r#"{"name":""}"#, r#"{"name":"a","expires_in":0}"#, r#"{"name":"a","expires_in":-1}"#]
            .into_iter()
            .chain([
                r#"{"name":"a","expires_in":31536001}"#,
                r#"{"name":"a","admin":true}"#,
                r#"{"name":"a","scope":"all"}"#,
                r#"{"name":"a\nb"}"#,
            ])
        {
            assert!(from_json(&json_headers(), text.as_bytes()).is_err(), "{text}");
        }
        assert!(from_json(&Fields::default(), br#"{"name":"a"}"#).is_err());
        let long = format!("action=create&name={}", "x".repeat(MAX_NAME + 1));
        for form in [
            "",
            "action=create",
            "action=revoke",
            "action=delete&id=1",
            "action=create&name=a&expires_in=x",
            "action=create&name=a&scope=",
            &long,
        ] {
            assert!(from_form(form.as_bytes()).is_err(), "{form}");
        }
    }
}
