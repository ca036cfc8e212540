//! What went wrong between a person, Upwork and us on the way in.
//!
//! In: a fault of a sign-in, or an error of the rooms that sign in. Out: its status and words. Nobody who did nothing wrong
//! is told that they did.

use std::time::Duration;

use http::StatusCode;

use super::{Fault, Told};
use crate::oauth::callback::{AuthorizationError, AuthorizationErrorKind, CallbackError};
use crate::oauth::token::TokenError;
use crate::oauth::upwork::UserInfoError;
use crate::oauth::{Unavailable, UnavailableKind};
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

fn unavailable(why: &str, what: UnavailableKind, retry_after: Option<Duration>) -> Told {
    let told = |status, name, text| Told::new(Side::Upwork, status, name, text).seen(why);
    match what {
        UnavailableKind::NoResponse => told(StatusCode::BAD_GATEWAY, "upwork-unreachable", texts::UPWORK_UNREACHABLE),
        UnavailableKind::Invalid => told(StatusCode::BAD_GATEWAY, "upwork-nonsense", texts::UPWORK_NONSENSE),
        UnavailableKind::Busy => told(StatusCode::SERVICE_UNAVAILABLE, "upwork-busy", texts::UPWORK_BUSY)
            .retry(retry_after.unwrap_or(A_MINUTE).as_secs().max(1)),
    }
}

impl From<CallbackError> for Fault {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Denied(error) | CallbackError::DeniedWithoutState(error) => error.into(),
            CallbackError::WrongIssuer(seen) => Self::WrongIssuer(seen),
            CallbackError::Invalid(_) => Self::nonsense(error.to_string()),
            CallbackError::Malformed | CallbackError::BadState(_) | CallbackError::NoCode => Self::BadState,
        }
    }
}

impl From<AuthorizationError> for Fault {
    fn from(AuthorizationError { kind, text }: AuthorizationError) -> Self {
        match kind {
            AuthorizationErrorKind::Declined => Self::Declined(text),
            AuthorizationErrorKind::InteractionRequired => Self::Unasked(text),
            AuthorizationErrorKind::Transient => Unavailable::busy(text).into(),
            AuthorizationErrorKind::ClientRefused => Self::AuthorizationRefused(text),
        }
    }
}

impl From<TokenError> for Fault {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::InvalidGrant(said) => Self::CodeUsed(said),
            TokenError::Misconfigured(_) => Self::KeyRefused(error.to_string()),
            TokenError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<UserInfoError> for Fault {
    fn from(error: UserInfoError) -> Self {
        match error {
            UserInfoError::Unavailable(unavailable) => unavailable.into(),
            UserInfoError::NoUser(why) => Self::nonsense(why),
            UserInfoError::TokenRejected => Self::nonsense("the API refused the token that was just issued".to_owned()),
        }
    }
}

impl From<Unavailable> for Fault {
    fn from(Unavailable { reason, kind, retry_after }: Unavailable) -> Self {
        Self::SignInUnavailable { why: reason, what: kind, retry_after }
    }
}

impl Fault {
    /// Upwork sent what is of no use for a sign-in.
    pub(in crate::gateway) fn nonsense(why: String) -> Self {
        Unavailable::invalid(why).into()
    }
}
