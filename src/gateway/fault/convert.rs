//! Converts the errors of other modules into faults, each kind in one place.

use super::{AppFault, ClientFault, Fault, OurFault, UpworkFault};
use crate::body::CollectError;
use crate::broker::read_only::Refusal as ReadOnlyRefusal;
use crate::broker::{CallError, TargetError};
use crate::cookies::TooLarge;
use crate::http1;
use crate::listener::Rejection;
use crate::oauth::Unavailable;
use crate::oauth::callback::{AuthorizationError, AuthorizationErrorKind, CallbackError};
use crate::oauth::refresh::RefreshError;
use crate::oauth::token::TokenError;
use crate::oauth::upwork::UserInfoError;
use crate::proxy;
use crate::seal::NoRandomness;
use crate::session::User;
use crate::store::StoreError;
use crate::telemetry::causes;
use crate::tls;

impl Fault {
    /// The fault of a user whom the access rules do not admit.
    pub(in crate::gateway) fn not_admitted(user: &User) -> Self {
        let shown = user.name.clone().unwrap_or_else(|| user.nid.clone());
        ClientFault::NotAdmitted { shown, id: user.id.clone() }.into()
    }
}

impl From<ClientFault> for Fault {
    fn from(fault: ClientFault) -> Self {
        Self::Client(fault)
    }
}

impl From<AppFault> for Fault {
    fn from(fault: AppFault) -> Self {
        Self::App(fault)
    }
}

impl From<UpworkFault> for Fault {
    fn from(fault: UpworkFault) -> Self {
        Self::Upwork(fault)
    }
}

impl From<OurFault> for Fault {
    fn from(fault: OurFault) -> Self {
        Self::Ours(fault)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            // The session ended during this request, so the request changed nothing.
            StoreError::Ended => ClientFault::SignInRequired { sent: true }.into(),
            StoreError::Down(_) | StoreError::Setup(_) | StoreError::NoRecords | StoreError::Sealing(_) => {
                OurFault::StoreDown(error.to_string()).into()
            }
        }
    }
}

impl From<NoRandomness> for Fault {
    fn from(error: NoRandomness) -> Self {
        OurFault::Internal(error.to_string()).into()
    }
}

impl From<TooLarge> for Fault {
    fn from(error: TooLarge) -> Self {
        OurFault::SessionTooLarge(error.bytes).into()
    }
}

impl From<CallbackError> for Fault {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Denied(error) | CallbackError::DeniedWithoutState(error) => error.into(),
            CallbackError::WrongIssuer(seen) => UpworkFault::WrongIssuer(seen).into(),
            CallbackError::Invalid(_) => Unavailable::invalid(error.to_string()).into(),
            CallbackError::Malformed | CallbackError::BadState(_) | CallbackError::NoCode => {
                ClientFault::BadState.into()
            }
        }
    }
}

impl From<AuthorizationError> for Fault {
    fn from(AuthorizationError { kind, text }: AuthorizationError) -> Self {
        match kind {
            AuthorizationErrorKind::Declined => ClientFault::Declined(text).into(),
            AuthorizationErrorKind::InteractionRequired => ClientFault::LoginRequired(text).into(),
            AuthorizationErrorKind::Transient => Unavailable::busy(text).into(),
            AuthorizationErrorKind::ClientRefused => UpworkFault::AuthorizationRefused(text).into(),
        }
    }
}

impl From<Unavailable> for Fault {
    fn from(unavailable: Unavailable) -> Self {
        UpworkFault::SignInUnavailable(unavailable).into()
    }
}

impl From<TokenError> for Fault {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::InvalidGrant(said) => ClientFault::CodeUsed(said).into(),
            TokenError::Misconfigured(_) => OurFault::KeyRefused(error.to_string()).into(),
            TokenError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<UserInfoError> for Fault {
    fn from(error: UserInfoError) -> Self {
        match error {
            UserInfoError::Unavailable(unavailable) => unavailable,
            UserInfoError::NoUser(why) => Unavailable::invalid(why),
            UserInfoError::TokenRejected => Unavailable::invalid("the API refused the token that was just issued"),
        }
        .into()
    }
}

impl From<TargetError> for Fault {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Forbidden => ClientFault::ForbiddenTarget.into(),
            TargetError::NotApi => ClientFault::NotFound.into(),
        }
    }
}

impl From<ReadOnlyRefusal> for Fault {
    fn from(refusal: ReadOnlyRefusal) -> Self {
        ClientFault::ReadOnly { why: refusal.to_string(), too_long: false }.into()
    }
}

/// Why the body of a read-only call could not be checked.
impl From<CollectError> for Fault {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::TooLong => {
                let why = ReadOnlyRefusal::Unclear("it is longer than 1 MiB").to_string();
                ClientFault::ReadOnly { why, too_long: true }.into()
            }
            CollectError::Cut(error) => client_fault(error.as_ref()),
        }
    }
}

/// The client's own body failed.
fn client_fault(error: &(dyn std::error::Error + 'static)) -> Fault {
    Rejection::of(error).map_or(ClientFault::RequestCut, ClientFault::Refused).into()
}

impl Fault {
    pub(in crate::gateway) fn of_app(error: &proxy::Error) -> Self {
        match error {
            proxy::Error::NoDescriptor => OurFault::Overloaded.into(),
            proxy::Error::Exchange(http1::Error::RequestBody(_)) => client_fault(error),
            proxy::Error::Connect(cause) if tls::is_distrust(cause) => AppFault::Untrusted(causes(error)).into(),
            proxy::Error::Connect(_) | proxy::Error::ConnectTimeout => AppFault::Down(causes(error)).into(),
            proxy::Error::Exchange(http1::Error::FirstByteTimeout) => AppFault::Slow.into(),
            proxy::Error::Exchange(http1::Error::Response(_) | http1::Error::Malformed)
            | proxy::Error::UnexpectedUpgrade => AppFault::Broken(causes(error)).into(),
        }
    }

    /// Why an API call got no answer from Upwork. `service`: it was made as the service identity.
    pub(in crate::gateway) fn of_call(error: CallError, service: bool) -> Self {
        match error {
            CallError::Upstream(error) => Self::of_api(&error),
            CallError::Token(RefreshError::Store(error)) => OurFault::StoreDown(error.to_string()).into(),
            CallError::Token(error) if service => UpworkFault::ServiceUnavailable(error.to_string()).into(),
            CallError::Token(RefreshError::Unavailable(Unavailable { reason, retry_after, .. })) => {
                UpworkFault::RefreshUnavailable { why: reason, retry_after }.into()
            }
            CallError::Token(RefreshError::Misconfigured(why)) => {
                UpworkFault::RefreshUnavailable { why, retry_after: None }.into()
            }
            CallError::Token(RefreshError::Revoked) => ClientFault::SignInRequired { sent: false }.into(),
            CallError::RateLimited(refusal) => ClientFault::Paced(refusal).into(),
            CallError::ReadOnly(refusal) => refusal.into(),
            CallError::SendAgain => UpworkFault::SendAgain.into(),
        }
    }

    fn of_api(error: &proxy::Error) -> Self {
        match error {
            proxy::Error::NoDescriptor => OurFault::Overloaded.into(),
            proxy::Error::Exchange(http1::Error::RequestBody(_)) => client_fault(error),
            proxy::Error::Exchange(http1::Error::FirstByteTimeout) => UpworkFault::ApiSlow.into(),
            proxy::Error::Connect(_)
            | proxy::Error::ConnectTimeout
            | proxy::Error::Exchange(http1::Error::Response(_) | http1::Error::Malformed)
            | proxy::Error::UnexpectedUpgrade => UpworkFault::ApiDown(causes(error)).into(),
        }
    }
}
