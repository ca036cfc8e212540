//! Answers in the same form as Upwork's.

use http::header::{
    ALT_SVC, CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, PRAGMA, REFERRER_POLICY, RETRY_AFTER, SERVER,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{Body, WithField, response};
use crate::clock::Timestamp;

pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    response(status, "application/json", value.to_string())
}

pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", text.into())
}

pub(super) fn css(sheet: &'static str) -> Response<Body> {
    response(StatusCode::OK, "text/css; charset=utf-8", sheet)
}

pub(super) fn html(status: StatusCode, page: impl Into<String>) -> Response<Body> {
    // No form-action: Chromium would apply it to the redirect after the form, which leads to another origin.
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'";
    response(status, "text/html; charset=utf-8", page.into())
        .with(CACHE_CONTROL, "no-store")
        .with(REFERRER_POLICY, "same-origin")
        .with(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .with(CONTENT_SECURITY_POLICY, policy)
}

/// 303, so that a posted form becomes a GET (RFC 9700 section 4.12).
pub(super) fn see_other(location: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(location) else {
        return text(StatusCode::BAD_REQUEST, "The redirect address is not a valid header value.\n");
    };
    let mut answer = text(StatusCode::SEE_OTHER, "");
    answer.headers_mut().insert(LOCATION, location);
    no_store(answer)
}

/// Required on token answers by RFC 6749 section 5.1.
pub(super) fn no_store(answer: Response<Body>) -> Response<Body> {
    answer.with(CACHE_CONTROL, "no-store").with(PRAGMA, "no-cache")
}

/// An error of the token endpoint (RFC 6749 section 5.2).
pub(super) fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response<Body> {
    no_store(json(status, &json!({"error": error, "error_description": description})))
}

/// The API's answer to a token that it does not accept.
pub(super) fn authentication_failed() -> Response<Body> {
    // Inferred: RFC 6750 section 3 requires the field with every such 401.
    json(StatusCode::UNAUTHORIZED, &json!({"message": "Authentication failed"}))
        .with(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
}

pub(super) fn too_many_requests(retry_after: Option<u64>) -> Response<Body> {
    let mut answer = text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// An error of the older REST API, in the body and in two special headers.
pub(super) fn legacy_error(status: StatusCode, message: &str, now: Timestamp) -> Response<Body> {
    let code = status.as_u16();
    let body = json!({
        "server_time": now.seconds(),
        "error": {"status": code, "code": code, "message": message},
    });
    let mut answer = json(status, &body);
    answer.headers_mut().insert(HeaderName::from_static("x-upwork-error-code"), HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(message) {
        answer.headers_mut().insert(HeaderName::from_static("x-upwork-error-message"), message);
    }
    answer
}

/// Adds the headers of a CDN, all of which a proxy must remove.
pub(super) fn through_cdn(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    headers.append(SET_COOKIE, HeaderValue::from_static("__cf_bm=sandbox; Path=/; HttpOnly; SameSite=None; Secure"));
    headers.append(SET_COOKIE, HeaderValue::from_static("visitor_id=sandbox; Path=/"));
    answer
        .with(STRICT_TRANSPORT_SECURITY, "max-age=15552000; includeSubDomains; preload")
        .with(ALT_SVC, "h3=\":443\"; ma=86400")
        .with(SERVER, "sandbox-cdn")
}
