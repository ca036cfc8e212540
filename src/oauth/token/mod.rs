//! The token endpoint's messages (RFC 6749 section 5). Pure: `upwork` sends them.
//!
//! An error says who is at fault, and contains no token, secret or body: everything that was sent is redacted from
//! Upwork's message.

#[cfg(test)]
mod tests;

use http::StatusCode;
use serde::Deserialize;

use super::callback::VerifiedCode;
use super::response::{OAuthError, Response, Unavailable, UnavailableKind, is_transient, lifetime};
use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::session::Tokens;
use crate::session::tokens::{AccessToken, RefreshToken};

#[derive(Clone, Copy, Debug)]
pub enum TokenGrant<'a> {
    /// RFC 6749 section 4.1.3 with RFC 7636 section 4.5.
    Code(&'a VerifiedCode),
    /// RFC 6749 section 6.
    Refresh(&'a RefreshToken),
    /// RFC 6749 section 4.4.2.
    ClientCredentials,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// `invalid_grant`: this code or refresh token is not valid any more.
    #[error("Upwork says that the grant has ended: {0}")]
    InvalidGrant(String),
    /// Upwork refused our client: a fault of the configuration.
    #[error("Upwork refused this client: {0}")]
    Misconfigured(OAuthError),
    #[error("Upwork's token endpoint gave no usable answer: {0}")]
    Unavailable(#[from] Unavailable),
}

/// A client at Upwork. Its credentials always go in the body (docs/upwork.md "Token").
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub id: &'a str,
    pub secret: &'a Secret,
    /// For the code grant.
    pub redirect_uri: &'a str,
}

#[derive(Debug)]
pub struct TokenRequest<'a> {
    pub client: Client<'a>,
    pub grant: TokenGrant<'a>,
    /// The lifetime of the tokens counts from then.
    pub sent_at: Timestamp,
}

/// RFC 6749 section 5.1.
#[derive(Deserialize)]
struct SuccessfulResponse {
    access_token: String,
    refresh_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl<'a> TokenRequest<'a> {
    pub(super) fn form(&self) -> Vec<(&'static str, &'a str)> {
        let mut fields = vec![("client_id", self.client.id), ("client_secret", self.client.secret.expose())];
        match self.grant {
            TokenGrant::Code(code) => fields.extend([
                ("grant_type", "authorization_code"),
                ("code", code.code()),
                ("redirect_uri", self.client.redirect_uri),
                ("code_verifier", code.verifier()),
            ]),
            TokenGrant::Refresh(token) => {
                fields.extend([("grant_type", "refresh_token"), ("refresh_token", token.expose())]);
            }
            TokenGrant::ClientCredentials => fields.push(("grant_type", "client_credentials")),
        }
        fields
    }

    fn secrets(&self) -> Vec<&'a str> {
        let mut secrets = vec![self.client.secret.expose()];
        match self.grant {
            TokenGrant::Code(code) => secrets.extend([code.code(), code.verifier()]),
            TokenGrant::Refresh(token) => secrets.push(token.expose()),
            TokenGrant::ClientCredentials => {}
        }
        secrets
    }

    pub fn read(&self, response: &Response) -> Result<Tokens, TokenError> {
        let (status, secrets) = (response.status, self.secrets());
        if status.is_success() {
            return Ok(self.tokens(response, &secrets)?);
        }
        let unavailable = || response.unavailable(response.describe(&secrets));
        let Some(error) = response.error() else { return Err(unavailable().into()) };
        if is_transient(&error.error) {
            return Err(Unavailable { kind: UnavailableKind::Busy, ..unavailable() }.into());
        }
        if !status.is_client_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(unavailable().into());
        }
        let quoted = error.quote(&secrets);
        Err(match (error.error.as_str(), quoted.description.is_empty()) {
            ("invalid_grant", true) => TokenError::InvalidGrant("no reason given".to_owned()),
            ("invalid_grant", false) => TokenError::InvalidGrant(quoted.description),
            (_, _) => TokenError::Misconfigured(quoted),
        })
    }

    fn tokens(&self, response: &Response, secrets: &[&str]) -> Result<Tokens, Unavailable> {
        let invalid = |what: &str| Unavailable::invalid(format!("status 200, but {what}"));
        let answer: SuccessfulResponse =
            serde_json::from_slice(&response.body).map_err(|_| match response.error() {
                Some(error) => invalid(&format!("the error {}", error.quote(secrets).code)),
                None => invalid("no token response in JSON"),
            })?;
        if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(invalid("a token_type other than Bearer"));
        }
        let access = AccessToken::parse(answer.access_token).map_err(|_| invalid("an invalid access_token"))?;
        let refresh = match (answer.refresh_token.filter(|text| !text.is_empty()), self.grant) {
            (Some(text), _) => Some(RefreshToken::parse(text).map_err(|_| invalid("an invalid refresh_token"))?),
            // RFC 6749 section 6: without a new one, the old one stays valid.
            (None, TokenGrant::Refresh(token)) => Some(token.clone()),
            (None, TokenGrant::Code(_) | TokenGrant::ClientCredentials) => None,
        };
        let expires_at = self.sent_at.plus(lifetime(answer.expires_in.as_ref()));
        Ok(Tokens { access, refresh, issued_at: self.sent_at, expires_at })
    }
}
