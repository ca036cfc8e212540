//! The end of a grant at Upwork.

use std::sync::Arc;
use std::time::Duration;

use crate::oauth::upwork::{RevokeError, Upwork};
use crate::pages::Revocation;
use crate::session::Tokens;

/// A sign-out waits this long for Upwork's answer; the revocation itself goes on.
const WAIT: Duration = Duration::from_secs(5);

/// Revokes a grant, and waits for Upwork's answer for a while.
pub(super) async fn revoke(upwork: &Arc<Upwork>, tokens: &Tokens) -> Revocation {
    let Ok(outcome) = tokio::time::timeout(WAIT, upwork.revoke(tokens)).await else {
        return Revocation::Failed;
    };
    if let Err(error) = &outcome {
        tracing::warn!(%error, "Upwork did not revoke a grant");
    }
    match outcome {
        Ok(()) => Revocation::Revoked,
        Err(RevokeError::Refused(_)) => Revocation::Refused,
        Err(RevokeError::Unavailable(_)) => Revocation::Failed,
    }
}
