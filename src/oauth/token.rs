//! The token endpoint's messages: what is asked, what an answer means. Pure; the one send is in `upwork`.
//!
//! In: a grant, or a status with a body. Out: form fields, or [`Tokens`], or a [`TokenError`] that says whose fault it is.
//! No error holds a token, a secret, or the body of an answer.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::callback::VerifiedCode;
use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::session::Tokens;
use crate::session::tokens::{AccessToken, RefreshToken};

/// A token's life where the answer does not say (docs/upwork.md: 24 h).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(86_400);
/// A life that is believed at the most.
const LONGEST_LIFETIME: Duration = Duration::from_secs(366 * 86_400);

/// What tokens are asked for with.
#[derive(Debug)]
pub enum TokenGrant<'a> {
    /// RFC 6749 section 4.1.3 with RFC 7636 section 4.5.
    Code(&'a VerifiedCode),
    /// RFC 6749 section 6.
    Refresh(&'a RefreshToken),
    /// RFC 6749 section 4.4.2.
    ClientCredentials,
}

/// Why there are no tokens.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// `invalid_grant`: this code or refresh token is over.
    #[error("Upwork says the grant is over: {0}")]
    InvalidGrant(String),
    /// Our client was refused; a fault of the configuration.
    #[error("Upwork refused this client: {error}{description}")]
    Misconfigured {
        /// The `error` of RFC 6749 section 5.2.
        error: String,
        /// `: ` and the `error_description`, or nothing.
        description: String,
    },
    /// No answer, or none that could be used.
    #[error("Upwork's token endpoint gave no usable answer: {why}")]
    Unavailable {
        /// What was seen.
        why: String,
        /// What its `Retry-After` said.
        retry_after: Option<Duration>,
    },
}

impl TokenError {
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), retry_after: None }
    }
}

/// The client that asks: credentials go in the body, always (docs/upwork.md "Token").
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// `client_id`
    pub id: &'a str,
    /// `client_secret`
    pub secret: &'a Secret,
    /// `redirect_uri`, for the code grant.
    pub redirect_uri: &'a str,
}

/// The form's fields.
pub fn form<'a>(grant: &TokenGrant<'a>, client: Client<'a>) -> Vec<(&'static str, &'a str)> {
    let mut fields = vec![("client_id", client.id), ("client_secret", client.secret.expose())];
    match grant {
        TokenGrant::Code(code) => fields.extend([
            ("grant_type", "authorization_code"),
            ("code", code.code()),
            ("redirect_uri", client.redirect_uri),
            ("code_verifier", code.verifier()),
        ]),
        TokenGrant::Refresh(token) => {
            fields.extend([("grant_type", "refresh_token"), ("refresh_token", token.expose())]);
        }
        TokenGrant::ClientCredentials => fields.extend([("grant_type", "client_credentials")]),
    }
    fields
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    refresh_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    error_description: Option<String>,
}

/// Reads an answer. `asked_at` is when the question was sent; `kept` is the refresh token that stays where none comes.
pub fn read(
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
    asked_at: Timestamp,
    kept: Option<&RefreshToken>,
) -> Result<Tokens, TokenError> {
    if status.is_success() {
        return granted(body, asked_at, kept);
    }
    match serde_json::from_slice::<Refused>(body) {
        Ok(refused) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => Err(refusal(&refused)),
        _ => Err(TokenError::Unavailable { why: describe(status, body), retry_after }),
    }
}

fn granted(body: &[u8], asked_at: Timestamp, kept: Option<&RefreshToken>) -> Result<Tokens, TokenError> {
    let nonsense = |what: &str| TokenError::unavailable(format!("status 200, but {what}"));
    let answer: Granted = serde_json::from_slice(body).map_err(|_| nonsense("no token answer in JSON"))?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(nonsense("a token_type other than Bearer"));
    }
    let access = AccessToken::parse(answer.access_token).map_err(|_| nonsense("an access_token that is none"))?;
    let refresh = match answer.refresh_token.filter(|text| !text.is_empty()) {
        Some(text) => Some(RefreshToken::parse(text).map_err(|_| nonsense("a refresh_token that is none"))?),
        None => kept.cloned(),
    };
    let lifetime =
        lifetime(answer.expires_in.as_ref()).ok_or_else(|| nonsense("an expires_in that is no number of seconds"))?;
    Ok(Tokens { access, refresh, issued_at: asked_at, expires_at: asked_at.plus(lifetime) })
}

/// A number, or a number in a string (docs/upwork.md "Token").
fn lifetime(value: Option<&serde_json::Value>) -> Option<Duration> {
    let seconds = match value {
        None | Some(serde_json::Value::Null) => return Some(DEFAULT_LIFETIME),
        Some(serde_json::Value::String(text)) => text.trim().parse::<f64>().ok()?,
        Some(value) => value.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds).ok().map(|lifetime| lifetime.min(LONGEST_LIFETIME))
}

fn refusal(refused: &Refused) -> TokenError {
    let description = quoted(refused.error_description.as_deref().unwrap_or_default());
    match refused.error.as_str() {
        "invalid_grant" => TokenError::InvalidGrant(description),
        "temporarily_unavailable" | "server_error" | "slow_down" => TokenError::unavailable(quoted(&refused.error)),
        error => {
            let description = if description.is_empty() { description } else { format!(": {description}") };
            TokenError::Misconfigured { error: quoted(error), description }
        }
    }
}

/// Upwork's own words for a log or a page: 200 characters, and nothing in them that could be the token, code or secret
/// they are about (docs/lessons.md 22): a word of 16 letters and digits or more that has a digit.
pub(super) fn quoted(text: &str) -> String {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "_-.~+/=".contains(c);
    let mut quote = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| of_word(c) != of_word(first)).unwrap_or(rest.len());
        let (run, more) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let secret = run.len() >= 16 && of_word(first) && run.bytes().any(|byte| byte.is_ascii_digit());
        quote.push_str(if secret { "…" } else { run });
        rest = more;
    }
    quote.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What came instead of an answer, without quoting it.
fn describe(status: StatusCode, body: &[u8]) -> String {
    let start = body.trim_ascii_start();
    let kind = match start.first() {
        None => "an empty body",
        // The bot wall of the CDN in front of Upwork (docs/upwork.md "Token").
        Some(b'<') => "an HTML page, as the CDN in front of Upwork sends when it takes us for a robot",
        Some(b'{') => "JSON without an error we know",
        Some(_) => "something that is not JSON",
    };
    format!("status {} with {kind}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Tokens, TokenError> {
        let kept = RefreshToken::parse("kept".to_owned()).unwrap();
        read(StatusCode::from_u16(status).unwrap(), None, body.as_bytes(), Timestamp::from_seconds(1000), Some(&kept))
    }

    #[test]
    fn a_grant_is_read_in_every_form_upwork_sends() {
        let table = [
            (r#"{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":86400}"#, "r", 86_400),
            (r#"{"access_token":"a","expires_in":"60"}"#, "kept", 60),
            (r#"{"access_token":"a","refresh_token":"","token_type":"bearer"}"#, "kept", 86_400),
            (r#"{"access_token":"a","expires_in":1e300,"more":[]}"#, "", 0),
        ];
        for (body, refresh, seconds) in table {
            match answer(200, body) {
                Ok(tokens) => {
                    assert_eq!(tokens.refresh.unwrap().expose(), refresh);
                    assert_eq!(tokens.expires_at, Timestamp::from_seconds(1000 + seconds));
                }
                Err(_) => assert_eq!(refresh, "", "{body}"),
            }
        }
    }

    #[test]
    fn only_invalid_grant_ends_a_grant() {
        assert!(matches!(answer(400, r#"{"error":"invalid_grant"}"#), Err(TokenError::InvalidGrant(_))));
        for (status, body) in [(401, r#"{"error":"invalid_client"}"#), (400, r#"{"error":"invalid_request"}"#)] {
            assert!(matches!(answer(status, body), Err(TokenError::Misconfigured { .. })), "{body}");
        }
        let unavailable = [
            (500, r#"{"error":"invalid_grant"}"#),
            (429, r#"{"error":"invalid_grant"}"#),
            (403, "<html>Just a moment…</html>"),
            (400, "invalid_grant"),
            (200, "<html>"),
            (200, r#"{"access_token":"a b"}"#),
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
            (200, r#"{"access_token":"a","expires_in":-1}"#),
            (200, r#"{"access_token":"a","expires_in":"soon"}"#),
            (200, r#"{"access_token":""}"#),
            (200, ""),
            (302, ""),
        ];
        for (status, body) in unavailable {
            assert!(matches!(answer(status, body), Err(TokenError::Unavailable { .. })), "{status} {body}");
        }
    }

    #[test]
    fn an_error_quotes_no_token_that_its_description_names() {
        let body = r#"{"error":"invalid_grant","error_description":"Token oauth2v2_0123456789abcdef0123456789abcdef\n(code 0123456789abcdef) is expired or revoked or not registered, unauthenticatedorunknown"}"#;
        let TokenError::InvalidGrant(told) = answer(400, body).unwrap_err() else { panic!("another error") };
        assert_eq!(told, "Token …(code …) is expired or revoked or not registered, unauthenticatedorunknown");
    }

    #[test]
    fn an_error_quotes_no_body() {
        let error = answer(500, r#"{"access_token":"oauth2v2_leak"}"#).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("leak"));
    }
}
