//! The token endpoint's messages: what is asked, what an answer means. Pure; the one send is in `upwork`.
//!
//! In: a grant, or a status with a body. Out: form fields, or [`Tokens`], or a [`TokenError`] that says whose fault it is.
//! No error holds a token, a secret, or the body of an answer: what we sent is struck out of Upwork's words.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::Unusable;
use super::callback::VerifiedCode;
use crate::clock::Timestamp;
use crate::secret::{Secret, redact};
use crate::session::Tokens;
use crate::session::tokens::{AccessToken, RefreshToken};

/// A token's life where the answer does not say (docs/upwork.md: 24 h).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(86_400);
/// Errors that pass by themselves (RFC 6749 section 4.1.2.1, RFC 8628 section 3.5).
pub(super) const PASSING: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];
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
        /// What kind of no answer that is.
        what: Unusable,
        /// What its `Retry-After` said.
        retry_after: Option<Duration>,
    },
}

impl TokenError {
    pub(super) fn silence(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), what: Unusable::Silence, retry_after: None }
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
pub(crate) fn form<'a>(grant: &TokenGrant<'a>, client: Client<'a>) -> Vec<(&'static str, &'a str)> {
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

/// What must not be repeated of a question.
pub(super) fn secrets<'a>(grant: &TokenGrant<'a>, client: Client<'a>) -> Vec<&'a str> {
    let mut secrets = vec![client.secret.expose()];
    match grant {
        TokenGrant::Code(code) => secrets.extend([code.code(), code.verifier()]),
        TokenGrant::Refresh(token) => secrets.push(token.expose()),
        TokenGrant::ClientCredentials => {}
    }
    secrets
}

/// What came.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// What its `Retry-After` said.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: &'a [u8],
}

/// What it answers.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// When the question was sent.
    pub at: Timestamp,
    /// The refresh token that stays where none comes.
    pub kept: Option<&'a RefreshToken>,
    /// What was sent and must not be repeated.
    pub secrets: &'a [&'a str],
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("at", &self.at).finish_non_exhaustive()
    }
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
    /// A text (RFC 6749 section 5.2); one that is none makes the error no other.
    error_description: Option<serde_json::Value>,
}

impl Refused {
    fn error(&self, secrets: &[&str]) -> String {
        quoted(&self.error, secrets)
    }

    fn description(&self, secrets: &[&str]) -> String {
        quoted(self.error_description.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default(), secrets)
    }
}

/// Reads an answer.
pub fn read(answer: &Answer<'_>, asked: &Asked<'_>) -> Result<Tokens, TokenError> {
    let status = answer.status;
    if status.is_success() {
        return granted(answer.body, asked);
    }
    let unusable = |what, why| Err(TokenError::Unavailable { why, what, retry_after: answer.retry_after });
    let Ok(refused) = serde_json::from_slice::<Refused>(answer.body) else {
        return unusable(Unusable::of(status), describe(status, answer.body));
    };
    let why = || reason(status, answer.body, asked.secrets);
    if PASSING.contains(&refused.error.as_str()) {
        return unusable(Unusable::Busy, why());
    }
    if !status.is_client_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return unusable(Unusable::of(status), why());
    }
    Err(refusal(&refused, asked.secrets))
}

fn granted(body: &[u8], asked: &Asked<'_>) -> Result<Tokens, TokenError> {
    let nonsense = |what: &str| TokenError::Unavailable {
        why: format!("status 200, but {what}"),
        what: Unusable::Nonsense,
        retry_after: None,
    };
    let answer: Granted = serde_json::from_slice(body).map_err(|_| match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => nonsense(&format!("the error {}", refused.error(asked.secrets))),
        Err(_) => nonsense("no token answer in JSON"),
    })?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(nonsense("a token_type other than Bearer"));
    }
    let access = AccessToken::parse(answer.access_token).map_err(|_| nonsense("an access_token that is none"))?;
    let refresh = match answer.refresh_token.filter(|text| !text.is_empty()) {
        Some(text) => Some(RefreshToken::parse(text).map_err(|_| nonsense("a refresh_token that is none"))?),
        None => asked.kept.cloned(),
    };
    let lifetime = lifetime(answer.expires_in.as_ref());
    Ok(Tokens { access, refresh, issued_at: asked.at, expires_at: asked.at.plus(lifetime) })
}

/// A number, or a number in a string (docs/upwork.md "Token"). What is neither, or negative, says nothing, and the rotated
/// refresh token beside it is not thrown away for it: the API's 401 is the last word on a token's end.
pub(super) fn lifetime(value: Option<&serde_json::Value>) -> Duration {
    let seconds = match value {
        Some(serde_json::Value::String(text)) => text.trim().parse::<f64>().ok(),
        Some(value) => value.as_f64(),
        None => None,
    };
    seconds.filter(|seconds| *seconds >= 0.0).map_or(DEFAULT_LIFETIME, |seconds| {
        Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFETIME).min(LONGEST_LIFETIME)
    })
}

fn refusal(refused: &Refused, secrets: &[&str]) -> TokenError {
    let description = refused.description(secrets);
    if refused.error == "invalid_grant" {
        return TokenError::InvalidGrant(if description.is_empty() {
            "it does not say why".to_owned()
        } else {
            description
        });
    }
    let description = if description.is_empty() { description } else { format!(": {description}") };
    TokenError::Misconfigured { error: refused.error(secrets), description }
}

/// Upwork's own words for a log or a page: 200 characters, none of the secrets that were sent, and nothing that could be
/// another token, code or secret (docs/design.md "Tokens stay here"): a word of 16 letters and digits or more that has a digit.
pub(super) fn quoted(text: &str, secrets: &[&str]) -> String {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "_-.~+/=".contains(c);
    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
    let shown = redact(&shown, secrets);
    let mut quote = String::new();
    let mut rest = shown.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| of_word(c) != of_word(first)).unwrap_or(rest.len());
        let (run, more) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let secret = run.len() >= 16 && of_word(first) && run.bytes().any(|byte| byte.is_ascii_digit());
        quote.push_str(if secret { "…" } else { run });
        rest = more;
    }
    quote.chars().take(200).collect()
}

/// Why it was not done, in Upwork's words where it has any.
pub(super) fn reason(status: StatusCode, body: &[u8], secrets: &[&str]) -> String {
    match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => {
            let (error, description) = (refused.error(secrets), refused.description(secrets));
            let description = if description.is_empty() { description } else { format!(": {description}") };
            format!("status {} with the error {error}{description}", status.as_u16())
        }
        Err(_) => describe(status, body),
    }
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
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, retry_after: None, body: body.as_bytes() };
        let secrets = ["s3cr+t/=~&%", "c0de"];
        read(&answer, &Asked { at: Timestamp::from_seconds(1000), kept: Some(&kept), secrets: &secrets })
    }

    #[test]
    fn a_grant_is_read_in_every_form_upwork_sends() {
        let table = [
            (r#"{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":86400}"#, "r", 86_400),
            (r#"{"access_token":"a","expires_in":"60"}"#, "kept", 60),
            (r#"{"access_token":"a","refresh_token":"","token_type":"bearer"}"#, "kept", 86_400),
            (r#"{"access_token":"a","refresh_token":"with a space"}"#, "with a space", 86_400),
            (r#"{"access_token":"a","expires_in":1e300,"more":[]}"#, "kept", 366 * 86_400),
            (r#"{"access_token":"a","expires_in":18446744073709551616}"#, "kept", 366 * 86_400),
            (r#"{"access_token":"a","expires_in":60.0}"#, "kept", 60),
            (r#"{"access_token":"a","expires_in":" 60.0 "}"#, "kept", 60),
            (r#"{"access_token":"a","expires_in":0}"#, "kept", 0),
        ];
        for (body, refresh, seconds) in table {
            let tokens = answer(200, body).unwrap_or_else(|error| panic!("{body}: {error}"));
            assert_eq!(tokens.refresh.unwrap().expose(), refresh, "{body}");
            assert_eq!(tokens.expires_at, Timestamp::from_seconds(1000 + seconds), "{body}");
        }
    }

    #[test]
    fn a_life_that_says_nothing_loses_no_rotated_refresh_token() {
        for expires_in in ["-1", "\"soon\"", "\"\"", "true", "null", "\"NaN\"", "[]"] {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r","expires_in":{expires_in}}}"#);
            let tokens = answer(200, &body).unwrap_or_else(|error| panic!("{body}: {error}"));
            assert_eq!(tokens.expires_at, Timestamp::from_seconds(1000 + 86_400), "{body}");
        }
    }

    #[test]
    fn errors_that_pass_are_told_from_nonsense() {
        for (status, body, kind) in [
            (503, r#"{"error":"temporarily_unavailable"}"#, Unusable::Busy),
            (400, r#"{"error":"temporarily_unavailable"}"#, Unusable::Busy),
            (500, r#"{"error":"server_error"}"#, Unusable::Busy),
            (503, "<html>", Unusable::Busy),
            (429, "", Unusable::Busy),
            (500, "<html>", Unusable::Nonsense),
            (200, r#"{"error":"invalid_grant"}"#, Unusable::Nonsense),
        ] {
            let TokenError::Unavailable { what, why, .. } = answer(status, body).unwrap_err() else { panic!("{body}") };
            assert_eq!(what, kind, "{status} {body}");
            let error = body.split('"').nth(3).unwrap_or_default();
            assert!(why.contains(error), "{why} names {error}");
        }
    }

    #[test]
    fn only_invalid_grant_ends_a_grant() {
        let odd = r#"{"error":"invalid_grant","error_description":["expired"],"error_uri":7}"#;
        for body in [r#"{"error":"invalid_grant"}"#, odd] {
            assert!(matches!(answer(400, body), Err(TokenError::InvalidGrant(_))), "{body}");
        }
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
    fn an_error_repeats_nothing_that_was_sent() {
        for (status, error) in [(400, "invalid_grant"), (401, "invalid_client"), (503, "s3cr+t/=~&%"), (400, "c0de")] {
            let description = "secret s3cr+t/=~&%, s3cr%2Bt%2F%3D%7E%26%25, s3c\\u0001r+t/=~&%, code c0de";
            let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
            let told = answer(status, &body).unwrap_err();
            let told = format!("{told} {told:?}");
            assert!(!told.contains("s3c") && !told.contains("c0de"), "{told}");
        }
    }

    #[test]
    fn an_error_quotes_no_body() {
        let error = answer(500, r#"{"access_token":"oauth2v2_leak"}"#).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("leak"));
    }
}
