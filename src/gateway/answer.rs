//! Answers of our own: pages, problem documents, redirects.
//!
//! In: a fault, a page, a place. Out: a response with the fields that every answer of its kind has. It never sets a cookie.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Response, StatusCode};

use super::Ask;
use super::fault::{Fault, Told};
use crate::body::Body;
use crate::pages::{self, Action, Frame, Page, ProblemView};
use crate::router::ReturnTo;
use crate::telemetry::{RequestId, Side};

/// What an answer depends on, besides its matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style<'a> {
    /// A person sees it as a page.
    pub(super) person: bool,
    /// It was asked for by GET, so that asking again does no harm.
    pub(super) get: bool,
    /// The prefix.
    pub(super) prefix: &'a str,
    /// Ties it to the log.
    pub(super) id: RequestId,
    /// Its query holds a code, which leaves the address bar (RFC 9700 section 4.2.4).
    pub(super) callback: bool,
}

impl<'a> Style<'a> {
    /// The style that this request wants.
    pub(super) fn of(ask: &Ask, prefix: &'a str) -> Self {
        Self {
            person: ask.looking.person,
            get: ask.head.method == Method::GET,
            prefix,
            id: ask.id,
            callback: ask.path().strip_prefix(prefix) == Some("/auth/callback"),
        }
    }
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn with(mut response: Response<Body>, fields: &[(http::HeaderName, HeaderValue)]) -> Response<Body> {
    for (name, value) in fields {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// 303 (RFC 9700 section 4.12): the method becomes GET, the code leaves the address bar.
pub(super) fn see_other(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    with(response, &[(LOCATION, text(location)), (CACHE_CONTROL, NO_STORE), (REFERRER_POLICY, text("no-referrer"))])
}

/// A status without a body.
pub(super) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    with(response, &[(CACHE_CONTROL, NO_STORE)])
}

/// A page. `referrer` is `same-origin` on pages with forms: under `no-referrer` Chromium posts `Origin: null`.
pub(super) fn page(status: StatusCode, page: Page, referrer: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(page.html));
    *response.status_mut() = status;
    with(
        response,
        &[
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, text(&page.csp)),
            (CACHE_CONTROL, NO_STORE),
            (REFERRER_POLICY, HeaderValue::from_static(referrer)),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        ],
    )
}

/// JSON of our own.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    // Texts and numbers always serialize.
    let mut response = Response::new(Body::full(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    with(
        response,
        &[
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, NO_STORE),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ],
    )
}

/// A fault, told to whoever looks. `return_to` is where a sign-in should lead back to.
pub(super) fn fault(fault: &Fault, style: Style<'_>, return_to: Option<&ReturnTo>) -> Response<Body> {
    let told = fault.told();
    log(&told, style.id);
    let login = login_url(style.prefix, return_to);
    let mut response =
        if style.person { person(fault, &told, style, &login) } else { program(fault, &told, style, &login) };
    let headers = response.headers_mut();
    if told.status == StatusCode::UNAUTHORIZED {
        let shown = matches!(fault, Fault::Ticket(_) | Fault::Token(_));
        // RFC 6750 section 3.1: a token that was shown and is not good is named so.
        let challenge =
            if shown { "Bearer realm=\"upwarden\", error=\"invalid_token\"" } else { "Bearer realm=\"upwarden\"" };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = told.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Fault::MethodNotAllowed(allow) = fault {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    // The same address is a page for one and a problem for another.
    headers.insert(VARY, HeaderValue::from_static("Accept, Sec-Fetch-Mode, Cookie"));
    response
}

fn log(told: &Told, id: RequestId) {
    let (name, side, seen) = (told.name, told.side.as_str(), told.seen.as_deref());
    match told.side {
        Side::Client => tracing::debug!(request_id = %id, fault = name, side, seen, "fault"),
        Side::App | Side::Upwork => tracing::warn!(request_id = %id, fault = name, side, seen, "fault"),
        Side::Ours => tracing::error!(request_id = %id, fault = name, side, seen, "fault"),
    }
}

fn login_url(prefix: &str, return_to: Option<&ReturnTo>) -> String {
    match return_to {
        Some(place) => format!("{prefix}/auth/login?return_to={}", place.encoded()),
        None => format!("{prefix}/auth/login"),
    }
}

fn offers_sign_in(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::SignInRequired { .. }
            | Fault::NotAdmitted { .. }
            | Fault::Declined(_)
            | Fault::Unasked(_)
            | Fault::BadState
            | Fault::CodeUsed(_)
            | Fault::SignInUnavailable { .. }
            | Fault::AuthorizationRefused(_)
            | Fault::WrongIssuer(_)
            | Fault::KeyRefused(_)
            | Fault::Looped(_)
    )
}

fn person(fault: &Fault, told: &Told, style: Style<'_>, login: &str) -> Response<Body> {
    let id = style.id.to_string();
    let new_tab = matches!(fault, Fault::SignInRequired { sent: true });
    let mut actions = Vec::new();
    if offers_sign_in(fault) {
        let label = if matches!(fault, Fault::SignInRequired { .. }) { "Sign in with Upwork" } else { "Sign in again" };
        actions.push(Action { label, href: login, new_tab });
    }
    if !matches!(fault, Fault::SignInRequired { .. } | Fault::AppDown(_)) {
        // Where the site has another name, `/` would lead to the wrong one again.
        let href = if let Fault::WrongHost { public_url, .. } = fault { public_url } else { "/" };
        actions.push(Action { label: "Go to the start", href, new_tab: false });
    }
    let again = told.retry_after.filter(|_| style.get).and_then(|seconds| u32::try_from(seconds).ok());
    let view = ProblemView {
        frame: Frame { prefix: style.prefix, request_id: Some(&id) },
        status: told.status.as_u16(),
        title: told.text.title,
        cause: &told.text.cause,
        remedy: &told.text.remedy,
        actions: &actions,
        retry_after: again,
        // What asks again by itself needs its query.
        wipe_query: style.callback && again.is_none(),
        details: &[],
    };
    page(told.status, pages::problem(&view), "same-origin")
}

/// RFC 9457, with our own members.
#[derive(serde::Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: String,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<&'a str>,
}

fn program(fault: &Fault, told: &Told, style: Style<'_>, login: &str) -> Response<Body> {
    let problem = Problem {
        kind: format!("urn:upwarden:{}", told.name),
        title: told.text.title,
        status: told.status.as_u16(),
        detail: format!("{} {}", told.text.cause, told.text.remedy.replace('\n', " ")),
        request_id: style.id.to_string(),
        login_url: matches!(fault, Fault::SignInRequired { .. }).then_some(login),
    };
    let response = json(told.status, &problem);
    with(response, &[(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))])
}
