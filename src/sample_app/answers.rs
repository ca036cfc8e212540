//! The app's answers.

use http::header::CACHE_CONTROL;
use http::{Response, StatusCode};

use crate::body::{self, Body, WithField};

/// A reason as JSON, as the page's script expects it.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "error": reason }))
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    answer(status, "application/json", format!("{value:#}\n"))
}

pub(super) fn plain_text(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Browsers store no answer, so after signing out, Back shows nothing of the session.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    body::response(status, kind, body).with(CACHE_CONTROL, "no-store")
}
