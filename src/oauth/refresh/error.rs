use crate::oauth::response::Unavailable;
use crate::oauth::token::TokenError;
use crate::store::StoreError;

/// Why there is no fresh token. Only [`RefreshError::Revoked`] ends a session.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// Upwork says that the grant has ended, or there is no refresh token.
    #[error("Upwork has ended this sign-in")]
    Revoked,
    #[error("{0}")]
    Misconfigured(String),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Unavailable(Unavailable),
}

impl RefreshError {
    pub(in crate::oauth) fn unavailable(reason: &str) -> Self {
        Self::Unavailable(Unavailable::no_response(reason))
    }
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Ended => Self::Revoked,
            StoreError::Down(_) | StoreError::Setup(_) | StoreError::NoRecords | StoreError::Sealing(_) => {
                Self::Store(error)
            }
        }
    }
}

impl From<TokenError> for RefreshError {
    fn from(error: TokenError) -> Self {
        let text = error.to_string();
        match error {
            TokenError::InvalidGrant(_) => Self::Revoked,
            TokenError::Misconfigured(_) => Self::Misconfigured(text),
            TokenError::Unavailable(unavailable) => Self::Unavailable(Unavailable { reason: text, ..unavailable }),
        }
    }
}
