//! What responses of Upwork's endpoints have in common: when they are unusable, and which parts of an error may be
//! quoted.
//!
//! Never repeats a token, a secret, or the body of a response.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::pacing::RateLimited;
use crate::secret::redact;

/// Errors after which a later try may succeed (RFC 6749 section 4.1.2.1, RFC 8628 section 3.5).
const TRANSIENT: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];
/// The lifetime of a token whose response has none (docs/upwork.md: 24 h).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(86_400);
/// A longer lifetime counts as this one.
const MAX_LIFETIME: Duration = Duration::from_secs(366 * 86_400);
/// The longest quote, in characters.
const MAX_QUOTE: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    pub reason: String,
    pub kind: UnavailableKind,
    pub retry_after: Option<Duration>,
}

/// What was received instead of a usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnavailableKind {
    NoResponse,
    /// A response that says to try again later.
    Busy,
    /// An error of its own (RFC 9110 section 15.6).
    ServerError,
    Invalid,
}

impl Unavailable {
    pub(crate) fn no_response(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: UnavailableKind::NoResponse, retry_after: None }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: UnavailableKind::Invalid, retry_after: None }
    }

    /// Upwork was not called, since its limits are used up.
    pub(super) fn rate_limited(late: RateLimited) -> Self {
        let retry_after = Some(Duration::from_secs(late.retry_after_seconds()));
        Self { retry_after, ..Self::busy(late.to_string()) }
    }

    pub(crate) fn busy(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: UnavailableKind::Busy, retry_after: None }
    }
}

#[derive(Clone)]
pub struct Response {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Response {
    /// The response as unusable, its kind by its status (RFC 9110 section 15.6.4, RFC 6585 section 4).
    pub(super) fn unavailable(&self, reason: String) -> Unavailable {
        let busy = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status);
        let kind = match self.status {
            _ if busy => UnavailableKind::Busy,
            status if status.is_server_error() => UnavailableKind::ServerError,
            _ => UnavailableKind::Invalid,
        };
        Unavailable { reason, kind, retry_after: self.retry_after }
    }

    pub(super) fn error(&self) -> Option<ErrorResponse> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether the body looks like a page, such as the bot check of the CDN in front of Upwork (docs/upwork.md
    /// "Token").
    pub(super) fn is_html(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// The response for the log: Upwork's error message, or else the kind of body.
    pub(super) fn describe(&self, secrets: &[&str]) -> String {
        let status = self.status.as_u16();
        if let Some(error) = self.error() {
            return format!("status {status} with the error {}", error.quote(secrets));
        }
        let kind = match self.body.trim_ascii_start().first() {
            None => "an empty body",
            Some(_) if self.is_html() => {
                "an HTML page, as the CDN in front of Upwork sends when it takes us for a robot"
            }
            Some(b'{') => "JSON without an error we know",
            Some(_) => "something that is not JSON",
        };
        format!("status {status} with {kind}")
    }
}

/// An error response (RFC 6749 section 5.2).
#[derive(Deserialize)]
pub(super) struct ErrorResponse {
    pub(super) error: String,
    /// A string according to the RFC; anything else is ignored.
    error_description: Option<serde_json::Value>,
}

impl ErrorResponse {
    pub(super) fn quote(&self, secrets: &[&str]) -> OAuthError {
        let description = self.error_description.as_ref().and_then(serde_json::Value::as_str);
        OAuthError::quote(&self.error, description.unwrap_or_default(), secrets)
    }
}

/// Upwork's OAuth error message, safe to log and show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthError {
    pub code: String,
    /// Empty if there is none.
    pub description: String,
}

impl OAuthError {
    /// Quotes an error without the `secrets` that were sent.
    pub(super) fn quote(code: &str, description: &str, secrets: &[&str]) -> Self {
        Self { code: quote(code, secrets), description: quote(description, secrets) }
    }
}

impl std::fmt::Display for OAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.code)?;
        if self.description.is_empty() { Ok(()) } else { write!(f, ": {}", self.description) }
    }
}

pub(super) fn is_transient(error: &str) -> bool {
    TRANSIENT.contains(&error)
}

/// Upwork's message for a log or a page, without the `secrets` that were sent and without anything that could be
/// another token, code or secret (docs/design.md "Tokens stay here"): a word of 16 characters or more that has a digit.
pub(super) fn quote(text: &str, secrets: &[&str]) -> String {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "_-.~+/=".contains(c);
    let printable: String = text.chars().filter(|c| !c.is_control()).collect();
    let redacted = redact(&printable, secrets);
    let mut quote = String::new();
    let mut rest = redacted.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| of_word(c) != of_word(first)).unwrap_or(rest.len());
        let (run, more) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let secret = run.len() >= 16 && of_word(first) && run.bytes().any(|byte| byte.is_ascii_digit());
        quote.push_str(if secret { "…" } else { run });
        rest = more;
    }
    quote.chars().take(MAX_QUOTE).collect()
}

/// `expires_in`: a number, or a number in a string (docs/upwork.md "Token").
///
/// Anything else, or a negative number, counts as absent, so that the rotated refresh token beside it is not lost: the
/// API's 401 decides when a token ends.
pub(super) fn lifetime(expires_in: Option<&serde_json::Value>) -> Duration {
    let seconds = match expires_in {
        Some(serde_json::Value::String(text)) => text.trim().parse::<f64>().ok(),
        Some(value) => value.as_f64(),
        None => None,
    };
    seconds.filter(|seconds| *seconds >= 0.0).map_or(DEFAULT_LIFETIME, |seconds| {
        Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LIFETIME).min(MAX_LIFETIME)
    })
}
