//! Responses of our own, each with the fields that every answer of its kind has. None of them sets a cookie.

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use crate::body::Body;
use crate::pages::{Branding, Logo, Page};
use crate::response::Response;

/// `WWW-Authenticate` of a 401 to a request without a token (RFC 6750 section 3).
pub(super) const CHALLENGE: &str = "Bearer realm=\"upwarden\"";

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// For resources with their version in the URL.
const A_DAY: HeaderValue = HeaderValue::from_static("public, max-age=86400");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

fn response<const N: usize>(status: StatusCode, body: Body, fields: [(HeaderName, HeaderValue); N]) -> Response {
    Response { status, headers: fields.into_iter().collect(), body }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// 303 (RFC 9700 section 4.12): the method becomes GET, and a code disappears from the address bar.
pub(super) fn see_other(location: &str) -> Response {
    let fields = [
        (LOCATION, text(location)),
        (CACHE_CONTROL, NO_STORE),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    response(StatusCode::SEE_OTHER, Body::empty(), fields)
}

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    response(status, Body::empty(), [(CACHE_CONTROL, NO_STORE)])
}

/// A page that no other page can show in a frame.
pub(super) fn page(status: StatusCode, page: Page) -> Response {
    whole_page(status, page, HeaderValue::from_static("DENY"))
}

/// A page that pages of this site can show in a frame.
pub(super) fn framed_page(status: StatusCode, page: Page) -> Response {
    whole_page(status, page, HeaderValue::from_static("SAMEORIGIN"))
}

/// Forms need a referrer: under `no-referrer` Chromium posts `Origin: null`.
fn whole_page(status: StatusCode, page: Page, frame_options: HeaderValue) -> Response {
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, text(&page.csp)),
        (CACHE_CONTROL, NO_STORE),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (X_CONTENT_TYPE_OPTIONS, NOSNIFF),
        (X_FRAME_OPTIONS, frame_options),
    ];
    response(status, Body::full(page.html), fields)
}

pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, NO_STORE),
        (X_CONTENT_TYPE_OPTIONS, NOSNIFF),
    ];
    // Texts and numbers always serialize.
    response(status, Body::full(serde_json::to_vec(value).unwrap_or_default()), fields)
}

pub(super) fn stylesheet(branding: &Branding) -> Response {
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (CACHE_CONTROL, A_DAY),
        (X_CONTENT_TYPE_OPTIONS, NOSNIFF),
    ];
    response(StatusCode::OK, Body::full(branding.stylesheet().to_owned()), fields)
}

pub(super) fn logo(logo: &Logo) -> Response {
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static(logo.content_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(Logo::CSP)),
        (CACHE_CONTROL, A_DAY),
        (X_CONTENT_TYPE_OPTIONS, NOSNIFF),
    ];
    response(StatusCode::OK, Body::full(logo.content.clone()), fields)
}

/// A JWK set. It may be cached for as long as a key is listed before it signs (docs/sessions.md "Keys").
pub(super) fn public_keys(keys: &impl serde::Serialize) -> Response {
    json(StatusCode::OK, keys).with(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))
}
