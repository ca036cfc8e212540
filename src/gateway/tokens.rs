//! Personal access tokens: made, listed and revoked by their owner's browser; shown by their owner's scripts.
//!
//! In: a session by its cookie, and what it wants of its tokens; a call of the API with a token. Out: JSON or the account
//! page; Upwork's answer. A token is never a session: it opens the API at the public door and nothing else, and it needs no
//! cross-site guard, since no browser adds it by itself. Its text is shown once.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::credential::{Shown, shown};
use super::fault::{Fault, NoTokens, TicketFault, TokenFault};
use super::forward::Calling;
use super::own::revoke;
use super::tickets::api_facts;
use super::{Answer, Ask, Gated, Gateway, Shared, answer, shown_as};
use crate::body::Body;
use crate::broker::Caller;
use crate::listener::Peer;
use crate::policy::{self, Credential, Decision, Site, Target};
use crate::router::{AuthPath, Route};
use crate::session::Session;
use crate::session::personal::PersonalToken;
use crate::store::{NewTokenRecord, SessionChange, StoreError, StoredSession, TokenRecord};
use crate::telemetry::Door;

/// Bytes of a form or a JSON body.
const LONGEST: usize = 16 << 10;
/// A token's life where nothing is said.
const USUAL: u64 = 30 * 86_400;
/// The longest.
const MOST: u64 = 365 * 86_400;
/// Characters of a name.
const NAME: usize = 64;
/// Tokens of one person.
const MANY: usize = 50;
/// The last use is noted at most this often.
const NOTED: Duration = Duration::from_secs(60);

/// What is wanted of a token.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    name: String,
    expires_in: u64,
    read_only: bool,
}

/// What a POST wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Make(Wish),
    Revoke(String),
}

impl Gateway {
    /// The API at the public door: by a token where one is shown, else by the cookie.
    pub(super) async fn api(&self, ask: Ask, body: Body, route: Route, peer: &Peer) -> Answer {
        let shared = &self.shared;
        let fault = match shown(&ask.head.headers) {
            Shown::Token(token) => return self.call_by_token(ask, body, route, &token).await,
            Shown::Ticket(_) => Fault::Ticket(TicketFault::Elsewhere),
            Shown::BadToken => Fault::Token(TokenFault::Bad),
            Shown::BadTicket => Fault::Ticket(TicketFault::Bad),
            Shown::Nothing => return self.gate(ask, body, Gated { route, target: Target::Api }, peer).await,
        };
        shared.fault(&ask, &fault)
    }

    async fn call_by_token(&self, ask: Ask, body: Body, route: Route, text: &str) -> Answer {
        let shared = &self.shared;
        let (record, held) = match shared.token_holder(&ask, text).await {
            Ok(found) => found,
            Err(fault) => return shared.fault(&ask, &fault),
        };
        let calling = Calling {
            route,
            caller: Caller::Session(held.clone()),
            read_only: record.read_only || shared.config.public_read_only,
            over: Some(Fault::Token(TokenFault::Over)),
        };
        // Nobody's cookie changes by it.
        self.broker_call(ask, body, calling).await.user(&held).change(SessionChange::Keep)
    }

    /// `/auth/tokens`, and one of them by its id.
    pub(super) async fn tokens(&self, ask: Ask, body: Body, endpoint: AuthPath) -> Answer {
        let shared = &self.shared;
        let id = endpoint.token_id(ask.path());
        let allowed = if id.is_some() { "DELETE" } else { "GET, HEAD, POST" };
        let reads = ask.safe();
        let known = match id {
            None => reads || ask.head.method == Method::POST,
            Some(_) => ask.head.method == Method::DELETE,
        };
        if !known {
            return shared.fault(&ask, &Fault::MethodNotAllowed(allowed));
        }
        if !reads && ask.site == Site::Foreign {
            return shared.fault(&ask, &Fault::CrossSite);
        }
        let held = match shared.identify(&ask.cookies).await {
            Ok(held) => held,
            Err(error) => return shared.fault(&ask, &Fault::StoreDown(error.to_string())),
        };
        let held = match (shared.decide(&ask, Target::Own, held.as_ref()), held) {
            (Decision::Allow, Some(held)) => held,
            // A list in JSON is nothing to sign in for.
            (Decision::SignIn, _) => return shared.fault(&ask, &Fault::SignInRequired { sent: false }),
            (decision, held) => return shared.refuse(&ask, decision, held.as_ref()),
        };
        let outcome = match id {
            Some(id) => shared.revoke_token(&held, id).await.map(|()| answer::bare(StatusCode::NO_CONTENT).into()),
            None if reads => shared.token_list(&held).await,
            None => self.post_tokens(&ask, body, &held).await,
        };
        outcome.unwrap_or_else(|fault| shared.fault(&ask, &fault)).user(&held)
    }

    async fn post_tokens(&self, ask: &Ask, body: Body, held: &StoredSession) -> Result<Answer, Fault> {
        let (shared, headers) = (&self.shared, &ask.head.headers);
        let unreadable = Fault::BadRequest("The form is too long, or broke off.");
        let bytes = body.collect(LONGEST).await.map_err(|_| unreadable)?;
        let form = is(headers, "application/x-www-form-urlencoded");
        let wanted = if form { from_form(&bytes) } else { from_json(headers, &bytes) };
        match wanted.map_err(Fault::BadRequest)? {
            Wanted::Revoke(id) => {
                shared.revoke_token(held, &id).await?;
                Ok(answer::see_other(&format!("{}/auth/", shared.router.prefix)).into())
            }
            Wanted::Make(wish) => {
                let (held, token, record) = shared.make_token(ask, held, wish).await?;
                let answer: Answer = if form {
                    self.account_with(ask, &held, Some((&record, token.secret()))).await
                } else {
                    let mut told = told(&record);
                    if let Some(told) = told.as_object_mut() {
                        told.insert("token".to_owned(), Value::from(token.secret().expose()));
                    }
                    answer::json(StatusCode::CREATED, &told).into()
                };
                Ok(answer.change(SessionChange::Replace(held)))
            }
        }
    }
}

impl Shared {
    /// Whose token was shown, where it is good and they may enter.
    async fn token_holder(&self, ask: &Ask, text: &str) -> Result<(TokenRecord, StoredSession), Fault> {
        let (bad, now) = (|| Fault::Token(TokenFault::Bad), self.clock.now());
        let token = PersonalToken::parse(text).ok_or_else(bad)?;
        let record = match self.store.find_token(&token).await {
            Ok(record) => record.filter(|record| now < record.expires_at).ok_or_else(bad)?,
            Err(StoreError::KeepsNothing) => return Err(bad()),
            Err(error) => return Err(Fault::StoreDown(error.to_string())),
        };
        let held = self.store.open_shared(&record.user).await.map_err(|error| Fault::StoreDown(error.to_string()))?;
        let held = held.ok_or(Fault::Token(TokenFault::Over))?;
        // `access.not_before` ends the tokens that were made before it, whenever their owner signed in again.
        let session = Session { began_at: record.created_at, ..Session::clone(&held.session) };
        let facts = api_facts(ask, Door::Public);
        match policy::decide(&facts, Credential::Token(&session), &self.access.load()) {
            Decision::Allow => {}
            Decision::NotAdmitted => {
                let (shown, id) = shown_as(&session.user);
                return Err(Fault::NotAdmitted { shown, id });
            }
            Decision::AllowAnonymous | Decision::SignIn | Decision::NeedsSession | Decision::CrossSite => {
                return Err(bad());
            }
        }
        if record.last_used_at.is_none_or(|last| now.since(last) >= NOTED) {
            // Whether it could be noted is no reason to refuse a call.
            let _ = self.store.token_used(&record, now).await;
        }
        Ok((record, held))
    }

    /// A user's tokens, where tokens are kept.
    pub(super) async fn tokens_of(&self, held: &StoredSession) -> Result<Option<Vec<TokenRecord>>, Fault> {
        if !self.store.keeps_records() {
            return Ok(None);
        }
        self.store.tokens_of(&held.session.user.id).await.map(Some).map_err(|error| Fault::StoreDown(error.to_string()))
    }

    async fn token_list(&self, held: &StoredSession) -> Result<Answer, Fault> {
        let tokens: Vec<Value> = self.tokens_of(held).await?.unwrap_or_default().iter().map(told).collect();
        Ok(answer::json(StatusCode::OK, &json!({ "tokens": tokens })).into())
    }

    async fn revoke_token(&self, held: &StoredSession, id: &str) -> Result<(), Fault> {
        let user = &held.session.user.id;
        match self.store.remove_token(user, id).await {
            Ok(true) => {
                tracing::info!(user, token = id, "a personal access token was revoked");
                Ok(())
            }
            Ok(false) | Err(StoreError::KeepsNothing) => Err(Fault::NotFound),
            Err(error) => Err(Fault::StoreDown(error.to_string())),
        }
    }

    /// Makes a token. From then on the session's grant is one record, which both refer to.
    async fn make_token(
        &self,
        ask: &Ask,
        held: &StoredSession,
        wish: Wish,
    ) -> Result<(StoredSession, PersonalToken, TokenRecord), Fault> {
        let down = |error: StoreError| match error {
            StoreError::Ended => Fault::SignInRequired { sent: true },
            error => Fault::StoreDown(error.to_string()),
        };
        let there = self.tokens_of(held).await?.ok_or(Fault::NoTokens(NoTokens::Store))?;
        if held.session.tokens.refresh.is_none() {
            return Err(Fault::NoTokens(NoTokens::Refresh));
        }
        if there.len() >= MANY {
            return Err(Fault::NoTokens(NoTokens::Many));
        }
        let held = self.store.share(held, held.session.ends_at(self.session.lifetime)).await.map_err(down)?;
        let (user, now) = (held.session.user.id.clone(), self.clock.now());
        let token = PersonalToken::generate().map_err(|error| Fault::Internal(error.to_string()))?;
        let new = NewTokenRecord {
            user,
            name: wish.name,
            expires_at: now.plus(Duration::from_secs(wish.expires_in)),
            read_only: wish.read_only,
        };
        let record = self.store.add_token(&token, new, now).await.map_err(down)?;
        let (user, id) = (&record.user, &record.id);
        tracing::info!(request_id = %ask.id, user, token = id, "a personal access token was made");
        Ok((held, token, record))
    }

    /// A person who has tokens signed in: the new sign-in is theirs too, so that they work on.
    pub(super) async fn share_with_tokens(&self, held: StoredSession) -> Result<StoredSession, Fault> {
        let (tokens, ends_at) = (held.session.tokens.clone(), held.session.ends_at(self.session.lifetime));
        let down = |error: StoreError| Fault::StoreDown(error.to_string());
        let kept = async {
            let has = self.tokens_of(&held).await?.is_some_and(|tokens| !tokens.is_empty());
            if !has || held.session.tokens.refresh.is_none() {
                return Ok((held, false));
            }
            Ok((self.store.keep(&held, ends_at).await.map_err(down)?, true))
        };
        match kept.await {
            // From here on the grant may be theirs, and whatever fails does not take it from them.
            Ok((kept, true)) => self.store.share(&kept, ends_at).await.map_err(down),
            Ok((held, false)) => Ok(held),
            Err(fault) => {
                revoke(self.upwork.clone(), tokens).await;
                Err(fault)
            }
        }
    }

    /// Whether personal access tokens still use the session's grant, which then outlives a sign-out. Where none does, the
    /// grant's record is forgotten.
    pub(super) async fn kept_for_tokens(&self, held: &StoredSession) -> Result<bool, Fault> {
        if !held.is_shared() {
            return Ok(false);
        }
        let used = self.tokens_of(held).await?.is_some_and(|tokens| !tokens.is_empty());
        if !used {
            self.store.end_shared(held).await.map_err(|error| Fault::StoreDown(error.to_string()))?;
        }
        Ok(used)
    }
}

/// A token as the list shows it: never its text.
fn told(record: &TokenRecord) -> Value {
    json!({
        "id": record.id,
        "name": record.name,
        "created_at": record.created_at.rfc3339(),
        "expires_at": record.expires_at.rfc3339(),
        "last_used_at": record.last_used_at.map(crate::clock::Timestamp::rfc3339),
        "read_only": record.read_only,
    })
}

fn is(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
}

fn from_form(bytes: &[u8]) -> Result<Wanted, &'static str> {
    let field = |wanted: &str| {
        let found = url::form_urlencoded::parse(bytes).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned())
    };
    match field("action").as_deref() {
        Some("revoke") => Ok(Wanted::Revoke(field("id").ok_or("The form names no token.")?)),
        Some("create") => {
            let seconds = field("expires_in").filter(|text| !text.is_empty());
            let expires_in = seconds.map(|text| text.parse().map_err(|_| LIFE)).transpose()?;
            wish(&field("name").unwrap_or_default(), expires_in, field("read_only").is_some_and(|value| value == "1"))
        }
        Some(_) | None => Err("The form’s `action` is neither create nor revoke."),
    }
}

const LIFE: &str = "`expires_in` is a number of seconds, at most 31536000 (365 days).";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    name: String,
    expires_in: Option<u64>,
    #[serde(default)]
    read_only: bool,
}

fn from_json(headers: &HeaderMap, bytes: &[u8]) -> Result<Wanted, &'static str> {
    if !is(headers, "application/json") {
        return Err("Send JSON as `Content-Type: application/json`, or the page’s form.");
    }
    let posted: Posted = serde_json::from_slice(bytes)
        .map_err(|_| "The body is not `{\"name\": text, \"expires_in\": seconds, \"read_only\": true or false}`.")?;
    wish(&posted.name, posted.expires_in, posted.read_only)
}

fn wish(name: &str, expires_in: Option<u64>, read_only: bool) -> Result<Wanted, &'static str> {
    let name = name.trim().to_owned();
    if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
        return Err("`name` says in 1 to 64 characters what the token is for.");
    }
    let expires_in = expires_in.unwrap_or(USUAL);
    if expires_in == 0 || expires_in > MOST {
        return Err(LIFE);
    }
    Ok(Wanted::Make(Wish { name, expires_in, read_only }))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn json_headers() -> HeaderMap {
        [(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))].into_iter().collect()
    }

    fn made(name: &str, expires_in: u64, read_only: bool) -> Wanted {
        Wanted::Make(Wish { name: name.to_owned(), expires_in, read_only })
    }

    #[test]
    fn a_wish_is_read_from_json_and_from_the_form() {
        let json = |text: &str| from_json(&json_headers(), text.as_bytes());
        assert_eq!(json(r#"{"name":" report "}"#), Ok(made("report", USUAL, false)));
        assert_eq!(json(r#"{"name":"a","expires_in":31536000,"read_only":true}"#), Ok(made("a", MOST, true)));
        assert_eq!(from_form(b"action=create&name=a+b&expires_in=604800&read_only=1"), Ok(made("a b", 604_800, true)));
        assert_eq!(from_form(b"action=create&name=a"), Ok(made("a", USUAL, false)));
        assert_eq!(from_form(b"action=revoke&id=12ab"), Ok(Wanted::Revoke("12ab".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["", "{}", r#"{"name":""}"#, r#"{"name":"a","expires_in":0}"#, r#"{"name":"a","expires_in":-1}"#]
            .into_iter()
            .chain([r#"{"name":"a","expires_in":31536001}"#, r#"{"name":"a","admin":true}"#, r#"{"name":"a\nb"}"#])
        {
            assert!(from_json(&json_headers(), text.as_bytes()).is_err(), "{text}");
        }
        assert!(from_json(&HeaderMap::new(), br#"{"name":"a"}"#).is_err());
        let long = format!("action=create&name={}", "x".repeat(NAME + 1));
        for form in
            ["", "action=create", "action=revoke", "action=delete&id=1", "action=create&name=a&expires_in=x", &long]
        {
            assert!(from_form(form.as_bytes()).is_err(), "{form}");
        }
    }
}
