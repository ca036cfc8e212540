//! What Upwork sends the browser back with.
//!
//! In: the callback's query (or the fragment page's form), and the sign-ins the browser has under way. Out: a
//! [`VerifiedCode`], which nothing else makes and the token endpoint demands: a code cannot be redeemed before its state was
//! checked (docs/design.md "The callback").

use std::borrow::Cow;

use std::time::Duration;

use super::login::{Login, State};
use super::token::{PASSING, lifetime, quoted};
use crate::clock::Timestamp;
use crate::seal::Keyring;
use crate::session::tokens::AccessToken;

/// Bytes of one parameter that are read.
const LONGEST: usize = 16 << 10;
/// A fragment's token lives so long where nothing says it.
const UNSAID: Duration = Duration::from_hours(1);

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
    /// One of them was longer than is read, and is left out.
    over_long: bool,
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("error", &self.error).finish_non_exhaustive()
    }
}

/// Why a callback is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// A parameter twice, or `code` beside `error`: nobody honest sends that.
    #[error("the callback's parameters contradict each other")]
    Malformed,
    /// No `state`, one that is not ours, or one that no sign-in of this browser knows.
    #[error("the state is not one of this browser's sign-ins")]
    BadState(Option<StateFault>),
    /// An error of Upwork's (RFC 6749 section 4.1.2.1).
    #[error("Upwork answered with {0}")]
    Refused(Refusal),
    /// The same without any `state`: whose sign-in it ends cannot be told.
    #[error("Upwork answered without a state, and with {0}")]
    Stateless(Refusal),
    /// `iss` is not the configured issuer (RFC 9207 section 2.4).
    #[error("the callback's {0}")]
    WrongIssuer(String),
    /// A code or token that cannot be one.
    #[error("the callback brought {0}")]
    Unusable(&'static str),
    /// Neither a code nor an error.
    #[error("the callback brought no code")]
    Nothing,
}

/// An error that Upwork sent the browser back with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it asks for.
    pub kind: RefusalKind,
    /// `error` and `error_description`, for the log.
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the error {}", self.text)
    }
}

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The person declined.
    Declined,
    /// Upwork would have had to ask the person, and was not allowed to (`OpenID` Connect Core, section 3.1.2.6).
    Unasked,
    /// It passes by itself.
    Passing,
    /// Our client, or what we ask for, is refused.
    Client,
}

impl RefusalKind {
    fn of(error: &str) -> Self {
        match error {
            "access_denied" => Self::Declined,
            "login_required" | "consent_required" | "interaction_required" | "account_selection_required" => {
                Self::Unasked
            }
            error if PASSING.contains(&error) => Self::Passing,
            _ => Self::Client,
        }
    }
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
    /// How long it lives, as the fragment said.
    pub lifetime: Duration,
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
                "error_description" => &mut callback.description,
                "iss" => &mut callback.issuer,
                "access_token" => &mut callback.access_token,
                "token_type" => &mut callback.token_type,
                "expires_in" => &mut callback.expires_in,
                _ => continue,
            };
            // RFC 6749 section 3.1: not more than once; and an empty one is as good as none.
            if slot.is_some() {
                return Err(CallbackError::Malformed);
            }
            if value.len() > LONGEST {
                callback.over_long = true;
            } else if !value.is_empty() {
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
        let nothing = self.code.is_none() && self.error.is_none() && self.access_token.is_none();
        nothing && self.state.is_none() && !self.over_long
    }

    /// Upwork's error, without what we sent it.
    fn refusal(&self) -> Option<Refusal> {
        let error = self.error.as_deref()?;
        let description = self.description.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let text = quoted(&format!("{error}{description}"), &[self.state.as_deref().unwrap_or_default()]);
        Some(Refusal { kind: RefusalKind::of(error), text })
    }

    /// Checks the state first, against the browser's sign-ins, and only then looks at what came.
    pub fn verify<'a>(
        self,
        state: Option<&State>,
        browser: &'a Browser,
        issuer: Option<&str>,
        now: Timestamp,
    ) -> Result<Verified<'a>, CallbackError> {
        let Some(state) = state else {
            // Some servers leave the state out of an error. Only a browser that has a sign-in under way can mean ours.
            let refusal = self.refusal().filter(|_| self.state.is_none() && !browser.under_way.is_empty());
            return Err(refusal.map_or(CallbackError::BadState(None), CallbackError::Stateless));
        };
        let found = browser.under_way.iter().find(|(_, login)| login.matches(state));
        let login = match found {
            _ if state.is_stale(now) => return Err(CallbackError::BadState(Some(StateFault::Stale))),
            None if !browser.cookies => return Err(CallbackError::BadState(Some(StateFault::NoCookie))),
            None => return Err(CallbackError::BadState(Some(StateFault::OtherCookie))),
            Some(login) => login,
        };
        let brought = self.same_issuer(issuer).and_then(|()| self.brought(&login.1));
        Ok(Verified { login, brought })
    }

    /// RFC 9207 section 2.4: before anything else of the answer is used, an error too.
    fn same_issuer(&self, issuer: Option<&str>) -> Result<(), CallbackError> {
        match (issuer, self.issuer.as_deref()) {
            (Some(expected), Some(sent)) if expected != sent => {
                let sent = quoted(sent, &[]);
                Err(CallbackError::WrongIssuer(format!("iss is {sent:?}, and upwork.issuer {expected:?}")))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn brought(self, login: &Login) -> Result<Brought, CallbackError> {
        if let Some(refusal) = self.refusal() {
            return Err(CallbackError::Refused(refusal));
        }
        match (self.code, self.access_token) {
            _ if self.over_long => Err(CallbackError::Unusable("a parameter of more than 16 KiB")),
            (Some(code), _) => Ok(Brought::Code(VerifiedCode { code, verifier: login.verifier().to_owned() })),
            (None, Some(token)) => {
                let token = AccessToken::parse(token)
                    .map_err(|_| CallbackError::Unusable("an access_token that is none, or too long"))?;
                // RFC 6749 section 4.2.2; where it is missing, the token is taken for the one kind we know.
                if self.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
                    return Err(CallbackError::Unusable("a token_type other than Bearer"));
                }
                let lifetime = self.expires_in.map_or(UNSAID, |text| lifetime(Some(&text.into())));
                Ok(Brought::Token(VerifiedToken { token, lifetime }))
            }
            (None, None) => Err(CallbackError::Nothing),
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
        let long = Callback::parse(&format!("code={}", "x".repeat(LONGEST + 1))).unwrap();
        assert!(long.code.is_none() && long.over_long && !long.is_empty());
        for text in ["", "code=a&state=b", "error=access_denied&state=b&x=1&x=2", "code=&error=b"] {
            assert!(Callback::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_code() {
        assert!(!format!("{:?}", Callback::parse("code=c0de&state=5tate").unwrap()).contains("c0de"));
    }
}
