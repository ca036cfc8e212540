//! The authorize endpoint: who the user is, and whether they consent.
//!
//! Answers with a page, or sends the browser back to the client with a code, a token or an error. It never sends a browser
//! to an address that is not the client's.

use std::borrow::Cow;

use cookie::Cookie;
use http::header::{ALLOW, COOKIE, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::accounts::{ACCOUNTS, Account};
use super::faults::{Fault, Target};
use super::grants::{Challenge, Consent};
use super::pages::{self, ConsentForm, message};
use super::params::Params;
use super::paths::AUTHORIZE_PATH;
use super::state::{Inner, ReleaseSignal};
use super::{answers, bodies};
use crate::body::{Body, WithField};

/// Identifies the browser. Its path keeps it from the app and the proxy, which may share the host name.
const COOKIE_NAME: &str = "upwork_sandbox";
const COOKIE_ATTRIBUTES: &str = "Path=/ab/account-security; HttpOnly; SameSite=Lax";
/// The parameters of an authorization request; all others are ignored.
const KNOWN: [&str; 6] =
    ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"];

/// A valid authorization request (RFC 6749 section 4.1.1).
struct AuthorizationRequest {
    response_type: ResponseType,
    client: String,
    redirect_uri: String,
    state: Option<String>,
    challenge: Option<Challenge>,
}

#[derive(Clone, Copy)]
enum ResponseType {
    Code,
    Token,
}

impl ResponseType {
    const fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Token => "token",
        }
    }

    /// What separates the redirect from the parameters added to it.
    const fn separator(self) -> char {
        match self {
            Self::Code => '?',
            Self::Token => '#',
        }
    }
}

enum AuthorizationError {
    /// The client or its redirect is wrong: shown to the user, never by a redirect (RFC 6749 section 4.1.2.1).
    Page(Cow<'static, str>),
    /// Reported to the client at this address.
    Redirect(String),
}

impl AuthorizationError {
    fn page(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Page(why.into())
    }

    fn answer(self) -> Response<Body> {
        match self {
            Self::Page(why) => message(StatusCode::BAD_REQUEST, &why),
            Self::Redirect(location) => answers::see_other(&location),
        }
    }
}

pub(super) async fn authorize(inner: &Inner, request: Request<Body>, release: ReleaseSignal) -> Response<Body> {
    let method = request.method().clone();
    let fault = {
        let mut state = inner.lock();
        if method == Method::GET {
            state.counters.authorize += 1;
        }
        state.faults.take(Target::Authorize, |_| true)
    };
    let work = async {
        let decline = fault == Some(Fault::Decline);
        let answer = match method {
            Method::GET | Method::HEAD => ask(inner, &request, decline),
            Method::POST => decide(inner, request, decline).await,
            _ => Ok(message(StatusCode::METHOD_NOT_ALLOWED, "This page does not support that method.")
                .with(ALLOW, "GET, HEAD, POST")),
        };
        answer.unwrap_or_else(AuthorizationError::answer)
    };
    bodies::inject(inner, fault, release, work).await
}

fn ask(inner: &Inner, request: &Request<Body>, decline: bool) -> Result<Response<Body>, AuthorizationError> {
    let query = request.uri().query().unwrap_or_default();
    let asked = read(inner, &[&Params::parse(query.as_bytes())])?;
    if decline {
        return Ok(declined(&asked));
    }
    let known = browser(request).and_then(|browser| inner.lock().browsers.account(&browser));
    Ok(match known {
        Some(account) if inner.lock().browsers.consented(account, &asked.client) => accepted(inner, account, &asked),
        known => consent_form(&asked, known, query),
    })
}

async fn decide(inner: &Inner, request: Request<Body>, decline: bool) -> Result<Response<Body>, AuthorizationError> {
    let query = Params::parse(request.uri().query().unwrap_or_default().as_bytes());
    let form = match Params::posted(request).await {
        Ok(form) => form,
        Err(status) => return Ok(message(status, "The form could not be read. Go back and try again.")),
    };
    let asked = read(inner, &[&form, &query])?;
    Ok(match form.get("decision") {
        Some("decline") => declined(&asked),
        Some("accept") if decline => declined(&asked),
        Some("accept") => {
            let account = form.get("account");
            let account = account.and_then(|id| ACCOUNTS.iter().find(|known| [known.id, known.nid].contains(&id)));
            let Some(account) = account else {
                return Err(AuthorizationError::page("There is no such account. Go back and choose one."));
            };
            let browser = inner.lock().browsers.accept(account, &asked.client);
            set_cookie(accepted(inner, account, &asked), &format!("{COOKIE_NAME}={browser}; {COOKIE_ATTRIBUTES}"))
        }
        Some(_) | None => {
            message(StatusCode::BAD_REQUEST, "The form says neither accept nor decline. Go back and choose.")
        }
    })
}

/// Takes each parameter from the first of `sources` that has it: the form's hidden fields, then the query.
fn read(inner: &Inner, sources: &[&Params]) -> Result<AuthorizationRequest, AuthorizationError> {
    let get = |name: &str| sources.iter().find_map(|source| source.get(name));
    if sources.iter().any(|source| source.repeats(&KNOWN)) {
        return Err(AuthorizationError::page("A parameter is repeated."));
    }
    let client = get("client_id").ok_or_else(|| AuthorizationError::page("The client_id is missing."))?;
    let redirect_uri = redirect(inner, client, get("redirect_uri"))?;
    let state = get("state");
    let (response_type, error) = match get("response_type") {
        Some("token") => (Some(ResponseType::Token), ""),
        Some("code") => (Some(ResponseType::Code), ""),
        Some(_) => (None, "unsupported_response_type"),
        None => (None, "invalid_request"),
    };
    let separator = response_type.unwrap_or(ResponseType::Code).separator();
    let redirected =
        |error| AuthorizationError::Redirect(redirect_with(&redirect_uri, separator, &[("error", error)], state));
    let response_type = response_type.ok_or_else(|| redirected(error))?;
    // RFC 7636 section 4.3: without a method it is plain; 4.4.1: an unknown method is an invalid request.
    let challenge = match (get("code_challenge"), get("code_challenge_method")) {
        (None, _) => None,
        (Some(challenge), Some("S256")) => Some(Challenge::S256(challenge.to_owned())),
        (Some(challenge), Some("plain") | None) => Some(Challenge::Plain(challenge.to_owned())),
        (Some(_), Some(_)) => return Err(redirected("invalid_request")),
    };
    let (client, state) = (client.to_owned(), state.map(str::to_owned));
    Ok(AuthorizationRequest { response_type, client, redirect_uri, state, challenge })
}

/// The redirect, if it is the client's: exactly the registered one, or any on loopback if no clients are configured.
fn redirect(inner: &Inner, client: &str, given: Option<&str>) -> Result<String, AuthorizationError> {
    let config = &inner.config;
    if config.takes_any_client(client) {
        let given = given.ok_or_else(|| AuthorizationError::page("The redirect_uri is missing."))?;
        let wrong = || format!("The redirect_uri {given} is not on loopback. {}", start_with(client, given));
        return if is_loopback(given) { Ok(given.to_owned()) } else { Err(AuthorizationError::page(wrong())) };
    }
    let registered = &config.client(client).ok_or_else(|| match given {
        _ if config.clients.is_empty() => {
            AuthorizationError::page("The client_id does not have the form of Upwork's: 32 hex digits.")
        }
        Some(given) => {
            AuthorizationError::page(format!("There is no API key with this client_id. {}", start_with(client, given)))
        }
        None => AuthorizationError::page("There is no API key with this client_id."),
    })?;
    // RFC 6749 section 3.1.2.3: with one registered redirect it may be left out.
    if given.is_none_or(|given| given == registered.redirect_uri) {
        return Ok(registered.redirect_uri.clone());
    }
    let given = given.unwrap_or_default();
    Err(AuthorizationError::page(format!(
        "The redirect_uri {given} is not the callback registered for this API key. {}",
        start_with(client, given)
    )))
}

/// How the sandbox would accept it.
fn start_with(client: &str, redirect_uri: &str) -> String {
    format!("Start the sandbox with --client {client}:SECRET:{redirect_uri} to use it.")
}

fn is_loopback(redirect: &str) -> bool {
    let Ok(redirect) = url::Url::parse(redirect) else { return false };
    let loopback = match redirect.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    loopback && matches!(redirect.scheme(), "http" | "https") && redirect.fragment().is_none()
}

fn accepted(inner: &Inner, account: &'static Account, asked: &AuthorizationRequest) -> Response<Body> {
    let (config, now) = (&inner.config, inner.clock.now());
    let mut state = inner.lock();
    match asked.response_type {
        ResponseType::Code => {
            let consent = Consent {
                account,
                client: asked.client.clone(),
                redirect_uri: asked.redirect_uri.clone(),
                challenge: asked.challenge.clone(),
            };
            let code = state.grants.code(consent, config, now);
            back(asked, &[("code", code.expose())])
        }
        ResponseType::Token => {
            let token = state.grants.access_only(account, &asked.client, config, now);
            // Old scripts read the first two by position; Upwork's own number is a second short of a day.
            let seconds = config.token_lifetime.as_secs().saturating_sub(1).to_string();
            back(asked, &[("access_token", token.expose()), ("expires_in", &seconds)])
        }
    }
}

/// Inferred: RFC 6749 sections 4.1.2.1 and 4.2.2.1.
fn declined(asked: &AuthorizationRequest) -> Response<Body> {
    back(asked, &[("error", "access_denied")])
}

fn back(asked: &AuthorizationRequest, fields: &[(&str, &str)]) -> Response<Body> {
    let separator = asked.response_type.separator();
    answers::see_other(&redirect_with(&asked.redirect_uri, separator, fields, asked.state.as_deref()))
}

fn redirect_with(redirect_uri: &str, separator: char, fields: &[(&str, &str)], state: Option<&str>) -> String {
    let fields = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .extend_pairs(state.map(|state| ("state", state)))
        .finish();
    // RFC 6749 section 3.1.2: a query that the redirect has is kept.
    let joint = if separator == '?' && redirect_uri.contains('?') { '&' } else { separator };
    format!("{redirect_uri}{joint}{fields}")
}

fn browser(request: &Request<Body>) -> Option<String> {
    let mut lines = request.headers().get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.find_map(|line| {
        let mut cookies = Cookie::split_parse(line).filter_map(Result::ok);
        cookies.find(|cookie| cookie.name() == COOKIE_NAME).map(|cookie| cookie.value().to_owned())
    })
}

fn set_cookie(mut answer: Response<Body>, cookie: &str) -> Response<Body> {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

fn consent_form(asked: &AuthorizationRequest, known: Option<&Account>, query: &str) -> Response<Body> {
    let (challenge, method) = match &asked.challenge {
        None => ("", ""),
        Some(Challenge::S256(challenge)) => (challenge.as_str(), "S256"),
        Some(Challenge::Plain(challenge)) => (challenge.as_str(), "plain"),
    };
    pages::consent(&ConsentForm {
        action: &format!("{AUTHORIZE_PATH}?{query}"),
        client: &asked.client,
        redirect_uri: &asked.redirect_uri,
        known,
        hidden: [
            ("response_type", asked.response_type.name()),
            ("client_id", &asked.client),
            ("redirect_uri", &asked.redirect_uri),
            ("state", asked.state.as_deref().unwrap_or_default()),
            ("code_challenge", challenge),
            ("code_challenge_method", method),
        ],
    })
}

/// Signs this browser out of the sandbox; consents stay.
pub(super) fn logout(inner: &Inner, request: &Request<Body>) -> Response<Body> {
    if let Some(browser) = browser(request) {
        inner.lock().browsers.sign_out(&browser);
    }
    let answer = message(
        StatusCode::OK,
        "You are signed out of the sandbox in this browser. The next sign-in asks who you are. You can go back to where \
         you came from.",
    );
    set_cookie(answer, &format!("{COOKIE_NAME}=; Max-Age=0; {COOKIE_ATTRIBUTES}"))
}
