//! The service identity: whom the neighbour door's callers act as when they show nothing.
//!
//! In: its client at Upwork. Out: a token that is fresh. It asks once however many wait, on the control runtime.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::refresh::RefreshError;
use super::token::{Client, TokenGrant};
use super::upwork::Upwork;
use super::{ServiceConfig, ServiceGrant};
use crate::clock::SharedClock;
use crate::session::Tokens;
use crate::session::tokens::AccessToken;

/// The service identity.
#[derive(Debug)]
pub struct Service {
    config: ServiceConfig,
    upwork: Arc<Upwork>,
    clock: SharedClock,
    control: Handle,
    tokens: Mutex<Option<Tokens>>,
}

impl Service {
    /// Nothing is asked until somebody calls.
    pub fn new(config: ServiceConfig, upwork: Arc<Upwork>, clock: SharedClock, control: Handle) -> Arc<Self> {
        Arc::new(Self { config, upwork, clock, control, tokens: Mutex::new(None) })
    }

    /// A token that is fresh, and is not `rejected`.
    pub async fn token(self: &Arc<Self>, rejected: Option<AccessToken>) -> Result<AccessToken, RefreshError> {
        let this = self.clone();
        let task = self.control.spawn(async move { this.fresh(rejected.as_ref()).await });
        task.await.unwrap_or_else(|_| {
            Err(RefreshError::Unavailable { why: "upwarden is stopping".to_owned(), retry_after: None })
        })
    }

    /// Whoever waits for the lock finds the token of the one before.
    async fn fresh(&self, rejected: Option<&AccessToken>) -> Result<AccessToken, RefreshError> {
        let mut held = self.tokens.lock().await;
        let now = self.clock.now();
        let good = |tokens: &&Tokens| rejected.is_none_or(|token| token.expose() != tokens.access.expose());
        if let Some(tokens) = held.as_ref().filter(good).filter(|tokens| now < tokens.due_at()) {
            return Ok(tokens.access.clone());
        }
        match self.ask().await {
            Ok(tokens) => {
                let access = tokens.access.clone();
                *held = Some(tokens);
                Ok(access)
            }
            Err(error) => {
                tracing::warn!(%error, "the service identity got no token");
                let alive = held.as_ref().filter(good).filter(|tokens| now < tokens.expires_at);
                alive.map(|tokens| tokens.access.clone()).ok_or(error)
            }
        }
    }

    async fn ask(&self) -> Result<Tokens, RefreshError> {
        let client = Client { id: &self.config.client_id, secret: &self.config.client_secret, redirect_uri: "" };
        match self.config.grant {
            ServiceGrant::ClientCredentials => {
                Ok(self.upwork.tokens_for(client, TokenGrant::ClientCredentials).await?)
            }
            ServiceGrant::RefreshToken { .. } => Err(RefreshError::Misconfigured(
                "service.grant = \"refresh_token\" needs a store, which this configuration has not".to_owned(),
            )),
        }
    }
}
