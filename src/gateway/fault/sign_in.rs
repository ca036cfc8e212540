//! What went wrong between a person, Upwork and us on the way in.
//!
//! In: a fault of a sign-in, or an error of the rooms that sign in. Out: its status and words. Nobody who did nothing wrong
//! is told that they did.

use std::time::Duration;

use http::StatusCode;

use super::{Fault, Told};
use crate::oauth::Unusable;
use crate::oauth::callback::{CallbackError, Refusal, RefusalKind};
use crate::oauth::token::TokenError;
use crate::oauth::upwork::WhoError;
use crate::pages::texts::{self, Loop};
use crate::telemetry::Side;

/// `Retry-After` where Upwork names none.
const A_MINUTE: Duration = Duration::from_secs(60);

impl Fault {
    pub(super) fn by_sign_in(&self) -> Told {
        let told = Told::new;
        match self {
            Self::Declined(said) => {
                told(Side::Client, StatusCode::FORBIDDEN, "sign-in-declined", texts::DECLINED).seen(said)
            }
            Self::Unasked(said) => {
                told(Side::Client, StatusCode::FORBIDDEN, "upwork-not-asked", texts::UPWORK_NOT_ASKED).seen(said)
            }
            Self::CodeUsed(said) => {
                told(Side::Client, StatusCode::BAD_REQUEST, "code-used", texts::CODE_USED).seen(said)
            }
            Self::AuthorizationRefused(said) => {
                told(Side::Upwork, StatusCode::BAD_GATEWAY, "authorization-refused", texts::KEY_REFUSED).seen(said)
            }
            Self::WrongIssuer(seen) => {
                told(Side::Upwork, StatusCode::BAD_GATEWAY, "wrong-issuer", texts::WRONG_ISSUER).seen(seen)
            }
            Self::SignInUnavailable { why, what, retry_after } => unavailable(why, *what, *retry_after),
            Self::KeyRefused(why) => {
                told(Side::Ours, StatusCode::BAD_GATEWAY, "key-refused", texts::KEY_REFUSED).seen(why)
            }
            Self::Looped(cause) => told(Side::Client, StatusCode::BAD_REQUEST, "sign-in-loop", texts::looped(cause)),
            Self::TooManySignIns => {
                told(Side::Client, StatusCode::TOO_MANY_REQUESTS, "too-many-sign-ins", texts::TOO_MANY_SIGN_INS)
                    .retry(60)
            }
            Self::WrongHost { asked, public_url } => {
                told(Side::Ours, StatusCode::MISDIRECTED_REQUEST, "wrong-host", texts::wrong_host(asked, public_url))
            }
            Self::SessionTooLarge(bytes) => told(
                Side::Ours,
                StatusCode::INTERNAL_SERVER_ERROR,
                "session-too-large",
                texts::looped(&Loop::CookieTooBig(*bytes)),
            ),
            _ => told(Side::Client, StatusCode::BAD_REQUEST, "bad-state", texts::BAD_STATE),
        }
    }
}

fn unavailable(why: &str, what: Unusable, retry_after: Option<Duration>) -> Told {
    let told = |status, name, text| Told::new(Side::Upwork, status, name, text).seen(why);
    match what {
        Unusable::Silence => told(StatusCode::BAD_GATEWAY, "upwork-unreachable", texts::UPWORK_UNREACHABLE),
        Unusable::Nonsense => told(StatusCode::BAD_GATEWAY, "upwork-nonsense", texts::UPWORK_NONSENSE),
        Unusable::Busy => told(StatusCode::SERVICE_UNAVAILABLE, "upwork-busy", texts::UPWORK_BUSY)
            .retry(retry_after.unwrap_or(A_MINUTE).as_secs().max(1)),
    }
}

impl From<CallbackError> for Fault {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Refused(refusal) | CallbackError::Stateless(refusal) => refusal.into(),
            CallbackError::WrongIssuer(seen) => Self::WrongIssuer(seen),
            CallbackError::Unusable(_) => Self::nonsense(error.to_string()),
            CallbackError::Malformed | CallbackError::BadState(_) | CallbackError::Nothing => Self::BadState,
        }
    }
}

impl From<Refusal> for Fault {
    fn from(Refusal { kind, text }: Refusal) -> Self {
        match kind {
            RefusalKind::Declined => Self::Declined(text),
            RefusalKind::Unasked => Self::Unasked(text),
            RefusalKind::Passing => Self::SignInUnavailable { why: text, what: Unusable::Busy, retry_after: None },
            RefusalKind::Client => Self::AuthorizationRefused(text),
        }
    }
}

impl From<TokenError> for Fault {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::InvalidGrant(said) => Self::CodeUsed(said),
            TokenError::Misconfigured { .. } => Self::KeyRefused(error.to_string()),
            TokenError::Unavailable { why, what, retry_after } => Self::SignInUnavailable { why, what, retry_after },
        }
    }
}

impl From<WhoError> for Fault {
    fn from(error: WhoError) -> Self {
        match error {
            WhoError::Unavailable { why, what, retry_after } => Self::SignInUnavailable { why, what, retry_after },
            WhoError::Nameless(why) => Self::nonsense(why),
            WhoError::Rejected => Self::nonsense("the API refused the token that was just issued".to_owned()),
        }
    }
}

impl Fault {
    /// Upwork sent what is of no use for a sign-in.
    pub(in crate::gateway) fn nonsense(why: String) -> Self {
        Self::SignInUnavailable { why, what: Unusable::Nonsense, retry_after: None }
    }
}
