//! What Upwork sends the browser back with.
//!
//! In: the callback's query (or the fragment page's form), and the sign-ins the browser has under way. Out: a
//! [`VerifiedCode`], which nothing else makes and the token endpoint demands: a code cannot be redeemed before its state was
//! checked (docs/lessons.md 19).

use std::borrow::Cow;

use super::login::{Login, State};
use crate::clock::Timestamp;
use crate::seal::Keyring;
use crate::session::tokens::AccessToken;

/// Bytes of one parameter that are read.
const LONGEST: usize = 16 << 10;

/// The parameters (RFC 6749 sections 4.1.2 and 4.2.2, RFC 9207), each at most once.
#[derive(Clone, Default)]
pub struct Callback {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
    access_token: Option<String>,
    expires_in: Option<String>,
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("error", &self.error).finish_non_exhaustive()
    }
}

/// Why a callback is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// A parameter twice, over-long, or `code` beside `error`: nobody honest sends that.
    #[error("the callback's parameters contradict each other")]
    Malformed,
    /// No `state`, one that is not ours, or one that no sign-in of this browser knows.
    #[error("the state is not one of this browser's sign-ins")]
    BadState(Option<StateFault>),
    /// The person declined.
    #[error("the person declined at Upwork")]
    Declined,
    /// Upwork answered with another error (RFC 6749 section 4.1.2.1).
    #[error("Upwork answered with the error {0:?}")]
    Refused(String),
    /// `iss` is not the configured issuer (RFC 9207 section 2.4).
    #[error("the callback comes from another issuer")]
    WrongIssuer,
    /// Neither a code nor an error.
    #[error("the callback brought no code")]
    Nothing,
}

/// What was the matter with a state that opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFault {
    /// It opened, and is older than a sign-in may be.
    Stale,
    /// It opened, and the browser showed no cookie of a sign-in at all.
    NoCookie,
    /// It opened, and the browser's sign-ins are others, or do not open any more.
    OtherCookie,
}

/// A code, its state checked. Only [`Callback::verify`] makes one.
pub struct VerifiedCode {
    code: String,
    verifier: String,
}

impl std::fmt::Debug for VerifiedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifiedCode(…)")
    }
}

impl VerifiedCode {
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }
}

/// A token from the fragment, its state checked.
#[derive(Debug)]
pub struct VerifiedToken {
    /// The token.
    pub token: AccessToken,
    /// Seconds it lives, as the fragment said.
    pub expires_in: Option<u64>,
}

/// What a checked callback brought.
#[derive(Debug)]
pub enum Brought {
    /// To be redeemed.
    Code(VerifiedCode),
    /// To be used as it is.
    Token(VerifiedToken),
}

/// What the browser shows of its sign-ins.
#[derive(Debug)]
pub struct Browser {
    /// Those that open, each with the place of its cookie.
    pub under_way: Vec<(usize, Login)>,
    /// Any login cookie came, opened or not.
    pub cookies: bool,
}

/// A callback that belongs to a sign-in of this browser.
#[derive(Debug)]
pub struct Verified<'a> {
    /// The sign-in, and the place of its cookie.
    pub login: &'a (usize, Login),
    /// What came.
    pub brought: Result<Brought, CallbackError>,
}

impl Callback {
    /// Reads a query or a form. Unknown parameters are passed over (RFC 6749 section 4.1.2).
    pub fn parse(text: &str) -> Result<Self, CallbackError> {
        let mut callback = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let slot = match name.as_ref() {
                "code" => &mut callback.code,
                "state" => &mut callback.state,
                "error" => &mut callback.error,
                "iss" => &mut callback.issuer,
                "access_token" => &mut callback.access_token,
                "expires_in" => &mut callback.expires_in,
                _ => continue,
            };
            // RFC 6749 section 3.1: not more than once; and an empty one is as good as none.
            if slot.is_some() || value.len() > LONGEST {
                return Err(CallbackError::Malformed);
            }
            if !value.is_empty() {
                *slot = Some(Cow::into_owned(value));
            }
        }
        let answers =
            [&callback.code, &callback.error, &callback.access_token].iter().filter(|slot| slot.is_some()).count();
        if answers > 1 { Err(CallbackError::Malformed) } else { Ok(callback) }
    }

    /// The state, opened; `None` where it is not ours.
    pub fn state(&self, ring: &Keyring) -> Option<State> {
        State::open(ring, self.state.as_deref()?)
    }

    /// Whether it brings a token itself, as only the fragment page's form may.
    pub fn brings_token(&self) -> bool {
        self.access_token.is_some()
    }

    /// Whether there is nothing in it at all: the bare address, for one that the fragment page answers.
    pub fn is_empty(&self) -> bool {
        self.code.is_none() && self.error.is_none() && self.access_token.is_none() && self.state.is_none()
    }

    /// Checks the state first, against the browser's sign-ins, and only then looks at what came.
    pub fn verify<'a>(
        self,
        state: Option<&State>,
        browser: &'a Browser,
        issuer: Option<&str>,
        now: Timestamp,
    ) -> Result<Verified<'a>, CallbackError> {
        let state = state.ok_or(CallbackError::BadState(None))?;
        let found = browser.under_way.iter().find(|(_, login)| login.matches(state));
        let login = match found {
            _ if state.is_stale(now) => return Err(CallbackError::BadState(Some(StateFault::Stale))),
            None if !browser.cookies => return Err(CallbackError::BadState(Some(StateFault::NoCookie))),
            None => return Err(CallbackError::BadState(Some(StateFault::OtherCookie))),
            Some(login) => login,
        };
        if let (Some(expected), Some(sent)) = (issuer, self.issuer.as_deref())
            && expected != sent
        {
            return Err(CallbackError::WrongIssuer);
        }
        Ok(Verified { login, brought: self.brought(&login.1) })
    }

    fn brought(self, login: &Login) -> Result<Brought, CallbackError> {
        match (self.error.as_deref(), self.code, self.access_token) {
            (Some("access_denied"), ..) => Err(CallbackError::Declined),
            (Some(error), ..) => {
                Err(CallbackError::Refused(error.chars().filter(char::is_ascii_graphic).take(100).collect()))
            }
            (None, Some(code), _) => Ok(Brought::Code(VerifiedCode { code, verifier: login.verifier().to_owned() })),
            (None, None, Some(token)) => {
                let token = AccessToken::parse(token).map_err(|_| CallbackError::Malformed)?;
                let expires_in = self.expires_in.and_then(|seconds| seconds.parse().ok());
                Ok(Brought::Token(VerifiedToken { token, expires_in }))
            }
            (None, None, None) => Err(CallbackError::Nothing),
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
        let long = format!("code={}", "x".repeat(LONGEST + 1));
        assert_eq!(Callback::parse(&long).unwrap_err(), CallbackError::Malformed);
        for text in ["", "code=a&state=b", "error=access_denied&state=b&x=1&x=2", "code=&error=b"] {
            assert!(Callback::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_code() {
        assert!(!format!("{:?}", Callback::parse("code=c0de&state=5tate").unwrap()).contains("c0de"));
    }
}
