//! The authorization response, with which Upwork sends the browser back.
//!
//! A response is checked against the browser's pending sign-ins before anything in it is used. Only
//! [`Callback::verify`] makes a [`VerifiedCode`], and the token endpoint requires one, so a code cannot be redeemed
//! before its `state` is checked (docs/design.md "The callback").

use std::borrow::Cow;
use std::time::Duration;

use super::login::{Login, State};
use super::login_cookies::{BrowserLogins, PendingLogin};
use super::response::{OAuthError, is_transient, lifetime, quote};
use crate::clock::Timestamp;
use crate::seal::Keyring;
use crate::secret::Secret;
use crate::session::tokens::AccessToken;

const MAX_PARAMETER: usize = 16 << 10;
/// The lifetime of a fragment's token without `expires_in`.
const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// The parameters (RFC 6749 sections 4.1.2, 4.1.2.1 and 4.2.2, RFC 9207), each at most once.
#[derive(Clone, Default)]
pub struct Callback {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    description: Option<String>,
    issuer: Option<String>,
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<String>,
    /// One of them was too long and was left out.
    too_long: bool,
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("error", &self.error).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// A parameter twice, or `code` beside `error`, which no authorization server sends.
    #[error("the callback's parameters contradict each other")]
    Malformed,
    /// There is no `state`, it is not ours (`None`), or it is not usable.
    #[error("the state is not one of this browser's sign-ins")]
    BadState(Option<StateError>),
    /// An error of Upwork's (RFC 6749 section 4.1.2.1).
    #[error("Upwork answered with the error {0}")]
    Denied(AuthorizationError),
    /// An error without any `state`, so it is unknown which sign-in it ends.
    #[error("Upwork answered with the error {0} and without a state")]
    DeniedWithoutState(AuthorizationError),
    /// `iss` is not the configured issuer (RFC 9207 section 2.4).
    #[error("the callback's {0}")]
    WrongIssuer(String),
    #[error("the callback has {0}")]
    Invalid(&'static str),
    #[error("the callback has no code")]
    NoCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationError {
    pub kind: AuthorizationErrorKind,
    /// `error` and `error_description`, for the log.
    pub text: String,
}

impl std::fmt::Display for AuthorizationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationErrorKind {
    Declined,
    /// Upwork needs to ask the person, and was not allowed to (`OpenID` Connect Core, section 3.1.2.6).
    InteractionRequired,
    Transient,
    ClientRefused,
}

impl AuthorizationErrorKind {
    fn of(error: &str) -> Self {
        match error {
            "access_denied" => Self::Declined,
            "login_required" | "consent_required" | "interaction_required" | "account_selection_required" => {
                Self::InteractionRequired
            }
            error if is_transient(error) => Self::Transient,
            _ => Self::ClientRefused,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    Expired,
    NoCookie,
    /// It belongs to none of the browser's open sign-ins.
    OtherCookie,
}

/// A code whose state was checked. Only [`Callback::verify`] makes one.
#[derive(Debug)]
pub struct VerifiedCode {
    code: Secret,
    verifier: Secret,
}

impl VerifiedCode {
    pub(super) fn code(&self) -> &str {
        self.code.expose()
    }

    pub(super) fn verifier(&self) -> &str {
        self.verifier.expose()
    }
}

/// A token from the fragment whose state was checked.
#[derive(Debug)]
pub struct VerifiedToken {
    pub token: AccessToken,
    pub lifetime: Duration,
}

#[derive(Debug)]
pub enum Authorization {
    Code(VerifiedCode),
    Token(VerifiedToken),
}

/// A callback that belongs to a pending sign-in of this browser.
#[derive(Debug)]
pub struct Verified<'a> {
    pub login: &'a PendingLogin,
    pub outcome: Result<Authorization, CallbackError>,
}

impl Callback {
    /// Reads a query or a form. Unknown parameters are ignored (RFC 6749 section 4.1.2).
    pub fn parse(text: &str) -> Result<Self, CallbackError> {
        let mut callback = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let slot = match name.as_ref() {
                "code" => &mut callback.code,
                "state" => &mut callback.state,
                "error" => &mut callback.error,
                "error_description" => &mut callback.description,
                "iss" => &mut callback.issuer,
                "access_token" => &mut callback.access_token,
                "token_type" => &mut callback.token_type,
                "expires_in" => &mut callback.expires_in,
                _ => continue,
            };
            // RFC 6749 section 3.1: at most once, and an empty one counts as absent.
            if slot.is_some() {
                return Err(CallbackError::Malformed);
            }
            if value.len() > MAX_PARAMETER {
                callback.too_long = true;
            } else if !value.is_empty() {
                *slot = Some(Cow::into_owned(value));
            }
        }
        let answers =
            [&callback.code, &callback.error, &callback.access_token].iter().filter(|slot| slot.is_some()).count();
        if answers > 1 { Err(CallbackError::Malformed) } else { Ok(callback) }
    }

    /// The opened state; `None` if it is not ours.
    pub fn state(&self, ring: &Keyring) -> Option<State> {
        State::open(ring, self.state.as_deref()?)
    }

    /// Whether it contains a token, which only the fragment page's form may.
    pub(crate) fn has_token(&self) -> bool {
        self.access_token.is_some()
    }

    /// Whether it is the bare address, which the fragment page answers.
    pub(crate) fn is_empty(&self) -> bool {
        let nothing = self.code.is_none() && self.error.is_none() && self.access_token.is_none();
        nothing && self.state.is_none() && !self.too_long
    }

    fn error(&self) -> Option<AuthorizationError> {
        let code = self.error.as_deref()?;
        let sent = self.state.as_deref().unwrap_or_default();
        let quoted = OAuthError::quote(code, self.description.as_deref().unwrap_or_default(), &[sent]);
        Some(AuthorizationError { kind: AuthorizationErrorKind::of(code), text: quoted.to_string() })
    }

    /// Checks the state against the browser's sign-ins, and only then reads the other parameters.
    pub fn verify<'a>(
        self,
        state: Option<&State>,
        browser: &'a BrowserLogins,
        issuer: Option<&str>,
        now: Timestamp,
    ) -> Result<Verified<'a>, CallbackError> {
        let Some(state) = state else {
            // Some servers omit the state of an error. It can only concern us if the browser has a pending sign-in.
            let error = self.error().filter(|_| self.state.is_none() && !browser.pending.is_empty());
            return Err(error.map_or(CallbackError::BadState(None), CallbackError::DeniedWithoutState));
        };
        let found = browser.pending.iter().find(|pending| pending.login.matches(state));
        let login = match found {
            _ if state.is_expired(now) => return Err(CallbackError::BadState(Some(StateError::Expired))),
            None if !browser.any_cookie => return Err(CallbackError::BadState(Some(StateError::NoCookie))),
            None => return Err(CallbackError::BadState(Some(StateError::OtherCookie))),
            Some(login) => login,
        };
        let outcome = self.check_issuer(issuer).and_then(|()| self.authorization(&login.login));
        Ok(Verified { login, outcome })
    }

    /// RFC 9207 section 2.4: checked before anything else in the response is used, including an error.
    fn check_issuer(&self, issuer: Option<&str>) -> Result<(), CallbackError> {
        match (issuer, self.issuer.as_deref()) {
            (Some(expected), Some(sent)) if expected != sent => {
                let sent = quote(sent, &[]);
                Err(CallbackError::WrongIssuer(format!("iss is {sent:?}, and upwork.issuer {expected:?}")))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn authorization(self, login: &Login) -> Result<Authorization, CallbackError> {
        if let Some(error) = self.error() {
            return Err(CallbackError::Denied(error));
        }
        match (self.code, self.access_token) {
            _ if self.too_long => Err(CallbackError::Invalid("a parameter of more than 16 KiB")),
            (Some(code), _) => {
                let (code, verifier) = (Secret::new(code), Secret::new(login.verifier()));
                Ok(Authorization::Code(VerifiedCode { code, verifier }))
            }
            (None, Some(token)) => {
                let token = AccessToken::parse(token)
                    .map_err(|_| CallbackError::Invalid("an access_token that is invalid or too long"))?;
                // RFC 6749 section 4.2.2 requires it; if it is missing, we assume the only type we know.
                if self.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
                    return Err(CallbackError::Invalid("a token_type other than Bearer"));
                }
                let lifetime = self.expires_in.map_or(DEFAULT_LIFETIME, |text| lifetime(Some(&text.into())));
                Ok(Authorization::Token(VerifiedToken { token, lifetime }))
            }
            (None, None) => Err(CallbackError::NoCode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradicting_parameters_are_refused() {
        for text in ["code=a&code=b", "state=a&state=b", "code=a&error=b", "code=a&access_token=b", "error=a&error=a"] {
            assert_eq!(Callback::parse(text).unwrap_err(), CallbackError::Malformed, "{text}");
        }
        for name in ["iss", "token_type", "expires_in", "error_description"] {
            let text = format!("code=a&{name}=x&{name}=y");
            assert_eq!(Callback::parse(&text).unwrap_err(), CallbackError::Malformed, "{text}");
        }
        let long = Callback::parse(&format!("code={}", "x".repeat(MAX_PARAMETER + 1))).unwrap();
        assert!(long.code.is_none() && long.too_long && !long.is_empty());
        for text in ["", "code=a&state=b", "error=access_denied&state=b&x=1&x=2", "code=&error=b"] {
            assert!(Callback::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_code() {
        assert!(!format!("{:?}", Callback::parse("code=c0de&state=5tate").unwrap()).contains("c0de"));
    }
}
