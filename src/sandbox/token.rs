//! The token endpoint and the revocation endpoint: a posted form with the client's credentials is answered with tokens,
//! or with an error in Upwork's words. Unknown fields are ignored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::accounts::SERVICE;
use super::faults::{Fault, Target};
use super::grants::{GrantError, Redemption};
use super::params::Params;
use super::state::{Inner, ReleaseSignal};
use super::{answers, bodies};
use crate::body::{Body, WithField};
use crate::secret::Secret;

pub(super) async fn token(inner: &Inner, request: Request<Body>, release: ReleaseSignal) -> Response<Body> {
    let (basic, form) = match read(request).await {
        Ok(read) => read,
        Err(answer) => {
            inner.lock().counters.count_token(None);
            return answers::through_cdn(*answer);
        }
    };
    let grant = form.get("grant_type");
    let fault = {
        let mut state = inner.lock();
        state.counters.count_token(grant);
        state.faults.take(Target::Token, |fault| applies(fault, grant))
    };
    let work = async {
        let answer = match fault {
            Some(Fault::InvalidGrant) if grant == Some("refresh_token") => Err(invalid_grant(GrantError::Refresh)),
            Some(Fault::InvalidGrant) => Err(invalid_grant(GrantError::Code)),
            _ => answer(inner, &form, basic.as_ref(), fault),
        };
        answer.map_or_else(|error| *error, |tokens| answers::no_store(answers::json(StatusCode::OK, &tokens)))
    };
    answers::through_cdn(bodies::inject(inner, fault, release, work).await)
}

/// Whether a fault makes sense for this grant; if not, it waits for a later request.
fn applies(fault: Fault, grant: Option<&str>) -> bool {
    let grants: &[&str] = match fault {
        Fault::DeadRefreshToken => &["refresh_token"],
        Fault::InvalidGrant | Fault::NoRefreshToken => &["refresh_token", "authorization_code"],
        Fault::Slow { .. }
        | Fault::InternalError
        | Fault::BadGateway
        | Fault::Unavailable
        | Fault::Html
        | Fault::Garbage
        | Fault::Cut
        | Fault::TooMany { .. }
        | Fault::Decline => return true,
    };
    grant.is_some_and(|grant| grants.contains(&grant))
}

/// RFC 7009: 200 for a known client, whether the token exists or not. Inferred to hold for API keys.
pub(super) async fn revoke(inner: &Inner, request: Request<Body>, release: ReleaseSignal) -> Response<Body> {
    let fault = {
        let mut state = inner.lock();
        state.counters.revoke += 1;
        state.faults.take(Target::Revoke, |_| true)
    };
    let work = async {
        let (basic, form) = read(request).await?;
        let client = client(inner, &form, basic.as_ref(), &["token"], true)?;
        inner.lock().grants.revoke(form.get("token").unwrap_or_default(), &client);
        Ok(answers::no_store(answers::json(StatusCode::OK, &json!({}))))
    };
    let work = work.map(|done: Result<_, ErrorResponse>| done.unwrap_or_else(|error| *error));
    answers::through_cdn(bodies::inject(inner, fault, release, work).await)
}

/// Boxed, because it is large and rare.
type ErrorResponse = Box<Response<Body>>;

struct BasicCredentials {
    id: String,
    secret: Secret,
}

async fn read(request: Request<Body>) -> Result<(Option<BasicCredentials>, Params), ErrorResponse> {
    let bad = |status, text| answers::oauth_error(status, "invalid_request", text);
    if request.method() != Method::POST {
        return Err(Box::new(bad(StatusCode::METHOD_NOT_ALLOWED, "Only POST is supported").with(ALLOW, "POST")));
    }
    let basic = basic(request.headers());
    let form = Params::posted(request)
        .await
        .map_err(|_| bad(StatusCode::BAD_REQUEST, "The body must be application/x-www-form-urlencoded"))
        .map_err(Box::new)?;
    Ok((basic, form))
}

/// From `Authorization: Basic`. Both halves are form-encoded before they are joined (RFC 6749 section 2.3.1).
fn basic(headers: &HeaderMap) -> Option<BasicCredentials> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, value) = value.split_once(' ')?;
    let joined = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(value.trim()).ok())??;
    let joined = String::from_utf8(joined).ok()?;
    let (id, secret) = joined.split_once(':')?;
    let decode = |text: &str| {
        url::form_urlencoded::parse(format!("v={}", text.replace('&', "%26")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some(BasicCredentials { id: decode(id)?, secret: Secret::new(decode(secret)?) })
}

fn answer(
    inner: &Inner,
    form: &Params,
    basic: Option<&BasicCredentials>,
    fault: Option<Fault>,
) -> Result<Value, ErrorResponse> {
    let (config, now) = (&inner.config, inner.clock.now());
    let seconds = config.token_lifetime.as_secs();
    let tokens = match form.get("grant_type") {
        Some("authorization_code") => {
            let client = client(inner, form, basic, &["code", "redirect_uri"], true)?;
            let redemption = Redemption {
                code: form.get("code").unwrap_or_default(),
                client: &client,
                redirect_uri: form.get("redirect_uri").unwrap_or_default(),
                verifier: form.get("code_verifier"),
            };
            inner.lock().grants.redeem(&redemption, config, now).map_err(invalid_grant)?
        }
        Some("refresh_token") => {
            let client = client(inner, form, basic, &["refresh_token"], false)?;
            let token = form.get("refresh_token").unwrap_or_default();
            let mut state = inner.lock();
            if fault == Some(Fault::DeadRefreshToken) {
                state.grants.kill(token);
            }
            state.grants.refresh(token, &client, config, now).map_err(invalid_grant)?
        }
        Some("client_credentials") => {
            let client = client(inner, form, basic, &[], true)?;
            let token = inner.lock().grants.access_only(&SERVICE, &client, config, now);
            return Ok(json!({"access_token": token.expose(), "token_type": "Bearer", "expires_in": seconds}));
        }
        Some(_) => {
            let text = "The grant type is not supported by the authorization server";
            return Err(Box::new(answers::oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", text)));
        }
        None => return Err(missing(&["grant_type"])),
    };
    let access_token = tokens.access_token.expose();
    if fault == Some(Fault::NoRefreshToken) {
        return Ok(json!({"access_token": access_token, "token_type": "Bearer", "expires_in": seconds}));
    }
    let refresh_token = tokens.refresh_token.expose();
    Ok(json!({
        "access_token": access_token, "refresh_token": refresh_token, "token_type": "Bearer", "expires_in": seconds,
    }))
}

fn invalid_grant(error: GrantError) -> ErrorResponse {
    Box::new(answers::oauth_error(StatusCode::BAD_REQUEST, "invalid_grant", error.description()))
}

fn missing(names: &[&str]) -> ErrorResponse {
    let text = format!("Missing parameters: {}", names.join(", "));
    Box::new(answers::oauth_error(StatusCode::BAD_REQUEST, "invalid_request", &text))
}

/// The client, if its credentials are right and no field of `needs` is missing. The id may come in a Basic header only with
/// `basic_id`: Upwork wants it in the body of a refresh. (Inferred: the secret may come either way.)
fn client(
    inner: &Inner,
    form: &Params,
    basic: Option<&BasicCredentials>,
    needs: &[&'static str],
    basic_id: bool,
) -> Result<String, ErrorResponse> {
    let id = form.get("client_id").or_else(|| basic.filter(|_| basic_id).map(|basic| basic.id.as_str()));
    let Some(id) = id else { return Err(missing(&["client_id"])) };
    let from_basic = || basic.filter(|basic| basic.id == id).map(|basic| basic.secret.expose());
    let secret = form.get("client_secret").or_else(from_basic);
    let mut lacking = form.missing(needs);
    if secret.is_none() && basic.is_none() {
        lacking.insert(0, "client_secret");
    }
    if !lacking.is_empty() {
        return Err(missing(&lacking));
    }
    let right = secret.is_some_and(|secret| match inner.config.client(id) {
        Some(known) => known.secret.matches(secret.as_bytes()),
        None => inner.config.takes_any_client(id) && !secret.is_empty(),
    });
    if right { Ok(id.to_owned()) } else { Err(invalid_client()) }
}

fn invalid_client() -> ErrorResponse {
    let answer = answers::oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", "Client authentication failed");
    Box::new(answer.with(WWW_AUTHENTICATE, "Basic realm=\"upwork sandbox\""))
}
