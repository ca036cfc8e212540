use std::sync::Arc;

use tokio::runtime::Handle;

use super::token::{Client, TokenError, TokenGrant};
use super::upwork::Upwork;
use crate::clock::SharedClock;
use crate::pacing::CallerId;
use crate::session::Tokens;
use crate::store::Store;
use crate::telemetry::metrics::{Metrics, RefreshOutcome};

/// What a [`Refresher`](super::refresh::Refresher) and a [`ServiceIdentity`](super::service::ServiceIdentity) need.
#[derive(Clone, Debug)]
pub struct Dependencies {
    pub upwork: Arc<Upwork>,
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub clock: SharedClock,
    /// Runs the refreshes, so that they do not end with the request that needed them.
    pub control: Handle,
}

impl Dependencies {
    /// Asks the token endpoint, and counts the outcome as a refresh.
    pub(super) async fn refresh(
        &self,
        client: Client<'_>,
        grant: TokenGrant<'_>,
        caller: CallerId,
    ) -> Result<Tokens, TokenError> {
        let outcome = self.upwork.tokens_for(client, grant, caller).await;
        self.metrics.refreshed(match &outcome {
            Ok(_) => RefreshOutcome::Renewed,
            Err(TokenError::InvalidGrant(_)) => RefreshOutcome::Revoked,
            Err(TokenError::Misconfigured(_)) => RefreshOutcome::Misconfigured,
            Err(TokenError::Unavailable(_)) => RefreshOutcome::Unavailable,
        });
        outcome
    }
}
