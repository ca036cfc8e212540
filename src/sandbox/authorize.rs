//! The authorize page: who the user is, and whether they consent.
//!
//! In: the browser's request. Out: a page, or the way back with a code, a token or an error. It never sends a browser to
//! an address that is not the client's.

use std::sync::LazyLock;

use http::header::{ALLOW, COOKIE, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use minijinja::{Environment, context};

use super::accounts::{ACCOUNTS, Account};
use super::faults::{Fault, Target};
use super::grants::{Challenge, Consent};
use super::params::Params;
use super::state::Inner;
use super::{AUTHORIZE_PATH, LOGOUT_PATH, Release, STYLE_PATH, answers, bodies};
use crate::body::Body;

/// Which browser it is. Its path keeps it from the app and the proxy, which may share the host name.
const COOKIE_NAME: &str = "upwork_sandbox";
const COOKIE_ATTRIBUTES: &str = "Path=/ab/account-security; HttpOnly; SameSite=Lax";
/// What an authorize request may say; everything else is ignored.
const KNOWN: [&str; 6] =
    ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"];

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_formatter(|out, state, value| match value.as_str() {
        Some(text) => Ok(out.write_str(&escaped(text))?),
        None => minijinja::escape_formatter(out, state, value),
    });
    pages.add_template("consent.html", include_str!("consent.html")).expect("the page is part of the program");
    pages.add_template("message.html", include_str!("message.html")).expect("the page is part of the program");
    pages
});

/// Text for HTML. minijinja's own escape writes `/` as `&#x2f;`, which is harmless but hides addresses from whoever reads
/// the form with less than a browser.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// What a valid authorize request asks for.
struct Ask {
    kind: Kind,
    client: String,
    redirect_uri: String,
    state: Option<String>,
    challenge: Option<Challenge>,
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Token,
}

/// Why it is not valid.
enum Refusal {
    /// The client or its redirect is wrong: told to the person, never by a redirect (RFC 6749 section 4.1.2.1).
    Page(&'static str),
    /// Told to the client.
    Back(String),
}

pub(super) async fn authorize(inner: &Inner, request: Request<Body>, release: Release) -> Response<Body> {
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
        match method {
            Method::GET | Method::HEAD => ask(inner, &request, decline),
            Method::POST => decide(inner, request, decline).await,
            _ => method_not_allowed("GET, HEAD, POST"),
        }
    };
    bodies::strike(inner, fault, release, work).await
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut answer = message(StatusCode::METHOD_NOT_ALLOWED, "This page cannot be asked for in that way.");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn ask(inner: &Inner, request: &Request<Body>, decline: bool) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let ask = match read(inner, &[&Params::parse(query.as_bytes())]) {
        Ok(ask) => ask,
        Err(refusal) => return refused(refusal),
    };
    if decline {
        return declined(&ask);
    }
    let known = browser(request).and_then(|browser| inner.lock().browsers.account(&browser));
    match known {
        Some(account) if inner.lock().browsers.consented(account, &ask.client) => accepted(inner, account, &ask),
        known => consent_page(&ask, known, query),
    }
}

async fn decide(inner: &Inner, request: Request<Body>, decline: bool) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let form = match Params::posted(request).await {
        Ok(form) => form,
        Err(status) => return message(status, "The form could not be read. Go back and try again."),
    };
    let ask = match read(inner, &[&form, &Params::parse(query.as_bytes())]) {
        Ok(ask) => ask,
        Err(refusal) => return refused(refusal),
    };
    match form.get("decision") {
        Some("decline") => declined(&ask),
        Some("accept") if decline => declined(&ask),
        Some("accept") => {
            let chosen =
                form.get("account").and_then(|id| ACCOUNTS.iter().find(|known| [known.id, known.nid].contains(&id)));
            let Some(account) = chosen else {
                return message(StatusCode::BAD_REQUEST, "There is no such account here. Go back and choose one.");
            };
            let browser = inner.lock().browsers.accept(account, &ask.client);
            let mut answer = accepted(inner, account, &ask);
            let cookie = format!("{COOKIE_NAME}={browser}; {COOKIE_ATTRIBUTES}");
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                answer.headers_mut().append(SET_COOKIE, cookie);
            }
            answer
        }
        Some(_) | None => {
            message(StatusCode::BAD_REQUEST, "The form says neither accept nor decline. Go back and choose.")
        }
    }
}

/// Reads the request from the first of `sources` that has each parameter: the form's hidden fields, then the query.
fn read(inner: &Inner, sources: &[&Params]) -> Result<Ask, Refusal> {
    let get = |name: &str| sources.iter().find_map(|source| source.get(name));
    if sources.iter().any(|source| source.repeats(&KNOWN)) {
        return Err(Refusal::Page("A parameter is there twice."));
    }
    let client = get("client_id").ok_or(Refusal::Page("The client_id is missing."))?;
    let redirect_uri = redirect(inner, client, get("redirect_uri"))?;
    let state = get("state").map(str::to_owned);
    let (kind, separator) = match get("response_type") {
        Some("token") => (Some(Kind::Token), '#'),
        Some("code") => (Some(Kind::Code), '?'),
        Some(_) | None => (None, '?'),
    };
    let wrong = |error: &str| {
        let mut fields = vec![("error", error)];
        fields.extend(state.as_deref().map(|state| ("state", state)));
        Refusal::Back(way_back(&redirect_uri, separator, &fields))
    };
    let kind = kind.ok_or_else(|| {
        wrong(if get("response_type").is_some() { "unsupported_response_type" } else { "invalid_request" })
    })?;
    // RFC 7636 section 4.3: without a method it is plain; 4.4.1: an unknown method is an invalid request.
    let challenge = match (get("code_challenge"), get("code_challenge_method")) {
        (None, _) => None,
        (Some(challenge), Some("S256")) => Some(Challenge::S256(challenge.to_owned())),
        (Some(challenge), Some("plain") | None) => Some(Challenge::Plain(challenge.to_owned())),
        (Some(_), Some(_)) => return Err(wrong("invalid_request")),
    };
    Ok(Ask { kind, client: client.to_owned(), redirect_uri, state, challenge })
}

/// The redirect, if it is the client's: the registered one, exactly, or any on loopback where no clients are named.
fn redirect(inner: &Inner, client: &str, shown: Option<&str>) -> Result<String, Refusal> {
    let clients = &inner.config.clients;
    if clients.is_empty() {
        if !is_hex(client, 32) {
            return Err(Refusal::Page("The client_id is not one of Upwork's form: 32 hex digits."));
        }
        let shown = shown.ok_or(Refusal::Page("The redirect_uri is missing."))?;
        return if is_loopback(shown) {
            Ok(shown.to_owned())
        } else {
            Err(Refusal::Page("The redirect_uri is not on loopback. Name the client to use another one."))
        };
    }
    let known = clients.iter().find(|known| known.id == client);
    let known = known.ok_or(Refusal::Page("There is no key with this client_id."))?;
    match shown {
        // RFC 6749 section 3.1.2.3: with one registered redirect it may be left out.
        None => Ok(known.redirect_uri.clone()),
        Some(shown) if shown == known.redirect_uri => Ok(known.redirect_uri.clone()),
        Some(_) => Err(Refusal::Page("The redirect_uri is not the callback that is set on the key.")),
    }
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
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

fn refused(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Page(why) => message(StatusCode::BAD_REQUEST, why),
        Refusal::Back(location) => answers::see_other(&location),
    }
}

fn accepted(inner: &Inner, account: &'static Account, ask: &Ask) -> Response<Body> {
    let (config, now) = (&inner.config, inner.clock.now());
    let mut state = inner.lock();
    match ask.kind {
        Kind::Code => {
            let consent = Consent {
                account,
                client: ask.client.clone(),
                redirect_uri: ask.redirect_uri.clone(),
                challenge: ask.challenge.clone(),
            };
            let code = state.grants.code(consent, config, now);
            back(ask, &[("code", code.expose())])
        }
        Kind::Token => {
            let token = state.grants.implicit(account, &ask.client, config, now);
            // Old scripts read the first two by position; Upwork's own number is a second short of a day.
            let seconds = config.token_lifetime.as_secs().saturating_sub(1).to_string();
            back(ask, &[("access_token", token.expose()), ("expires_in", &seconds)])
        }
    }
}

/// Inferred: RFC 6749 sections 4.1.2.1 and 4.2.2.1.
fn declined(ask: &Ask) -> Response<Body> {
    back(ask, &[("error", "access_denied")])
}

fn back(ask: &Ask, fields: &[(&str, &str)]) -> Response<Body> {
    let mut fields = fields.to_vec();
    fields.extend(ask.state.as_deref().map(|state| ("state", state)));
    let separator = match ask.kind {
        Kind::Code => '?',
        Kind::Token => '#',
    };
    answers::see_other(&way_back(&ask.redirect_uri, separator, &fields))
}

fn way_back(redirect_uri: &str, separator: char, fields: &[(&str, &str)]) -> String {
    let fields = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    // RFC 6749 section 3.1.2: a query that the redirect has is kept.
    let joint = if separator == '?' && redirect_uri.contains('?') { '&' } else { separator };
    format!("{redirect_uri}{joint}{fields}")
}

fn browser(request: &Request<Body>) -> Option<String> {
    let lines = request.headers().get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value.to_owned())
}

fn render(page: &str, values: minijinja::Value) -> String {
    // The pages are part of the program and their tests render them, so that this does not fail.
    PAGES.get_template(page).and_then(|page| page.render(values)).unwrap_or_default()
}

fn consent_page(ask: &Ask, known: Option<&Account>, query: &str) -> Response<Body> {
    let chosen = known.or(ACCOUNTS.first()).map_or("", |account| account.id);
    let accounts: Vec<_> = ACCOUNTS
        .iter()
        .map(|account| context! { id => account.id, nid => account.nid, name => account.name(), role => account.role })
        .collect();
    let kind = match ask.kind {
        Kind::Code => "code",
        Kind::Token => "token",
    };
    let (challenge, method) = match &ask.challenge {
        None => ("", ""),
        Some(Challenge::S256(challenge)) => (challenge.as_str(), "S256"),
        Some(Challenge::Plain(challenge)) => (challenge.as_str(), "plain"),
    };
    let hidden: Vec<_> = [
        ("response_type", kind),
        ("client_id", &ask.client),
        ("redirect_uri", &ask.redirect_uri),
        ("state", ask.state.as_deref().unwrap_or_default()),
        ("code_challenge", challenge),
        ("code_challenge_method", method),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| context! { name, value })
    .collect();
    let page = context! {
        style => STYLE_PATH, logout => LOGOUT_PATH, action => format!("{AUTHORIZE_PATH}?{query}"),
        known => known.map(Account::name), client => &ask.client, redirect_uri => &ask.redirect_uri,
        accounts, chosen, hidden,
    };
    answers::html(StatusCode::OK, render("consent.html", page))
}

fn message(status: StatusCode, text: &str) -> Response<Body> {
    let title = if status.is_success() { "Sandbox" } else { "This cannot go on" };
    answers::html(status, render("message.html", context! { style => STYLE_PATH, title, text }))
}

/// Signs this browser out of the sandbox; consents stay.
pub(super) fn logout(inner: &Inner, request: &Request<Body>) -> Response<Body> {
    if let Some(browser) = browser(request) {
        inner.lock().browsers.sign_out(&browser);
    }
    let mut answer = message(
        StatusCode::OK,
        "This browser is signed out of the sandbox. The next sign-in asks again who you are; go back to where you came from.",
    );
    let cookie = format!("{COOKIE_NAME}=; Max-Age=0; {COOKIE_ATTRIBUTES}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

pub(super) fn style() -> Response<Body> {
    answers::css(include_str!("sandbox.css"))
}

/// The page at `/`.
pub(super) fn welcome() -> Response<Body> {
    message(
        StatusCode::OK,
        "A local imitation of Upwork is running here. It has Upwork's own paths, for sign-in, tokens, GraphQL and REST. \
         The control address makes it fail on demand.",
    )
}

#[cfg(test)]
#[path = "authorize_tests.rs"]
mod tests;
