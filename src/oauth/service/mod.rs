//! The service identity: the user of API calls at the neighbour door without a credential.
//!
//! Returns a fresh token, or an error that says what an operator has to do. Asks Upwork once, however many calls wait.
//! A refresh token (`rotation`) must also be renewed while there are no calls: Upwork's refresh tokens expire two weeks
//! after their last use.

mod rotation;

use std::sync::{Arc, Mutex as Lock};
use std::time::Duration;

use tokio::sync::{Mutex, watch};

pub(crate) use self::rotation::is_stored;
use self::rotation::{FIRST_PAUSE, REFRESH_TOKEN_LIFETIME, Rotation, grant_ended};
use super::config::{ServiceConfig, ServiceGrant};
use super::dependencies::Dependencies;
use super::refresh::RefreshError;
use super::token::{Client, TokenGrant};
use crate::clock::Timestamp;
use crate::pacing::CallerId;
use crate::recent::lock;
use crate::session::Tokens;
use crate::session::tokens::AccessToken;
use crate::telemetry::trace;

/// Tokens are renewed at half of the access token's lifetime, and never later than this: a rotation that was received
/// but not stored is then noticed while Upwork still accepts the old token, which it does for 24 hours.
const MAX_AGE: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug)]
pub struct ServiceIdentity {
    config: ServiceConfig,
    deps: Dependencies,
    /// The tokens that calls use; never locked across an await.
    current: Lock<Option<Tokens>>,
    /// Its holder renews.
    rotation: Mutex<Rotation>,
    /// What an operator has to fix.
    problem: watch::Sender<Option<String>>,
}

/// When tokens are renewed even if there are no calls.
fn renew_at(tokens: &Tokens) -> Timestamp {
    tokens.issued_at.plus((tokens.expires_at.since(tokens.issued_at) / 2).min(MAX_AGE))
}

impl ServiceIdentity {
    /// Asks Upwork only once [`Self::token`] or [`Self::renew_if_due`] is called.
    pub fn new(config: ServiceConfig, deps: Dependencies) -> Arc<Self> {
        let rotation = Mutex::new(Rotation::new(&config, &deps));
        Arc::new(Self { config, deps, current: Lock::default(), rotation, problem: watch::Sender::new(None) })
    }

    /// A fresh token, which is not the one that the API `rejected`.
    pub async fn token(self: &Arc<Self>, rejected: Option<&AccessToken>) -> Result<AccessToken, RefreshError> {
        if let Some(tokens) = self.current().filter(|tokens| self.is_fresh(tokens, rejected)) {
            return Ok(tokens.access);
        }
        let (this, rejected) = (self.clone(), rejected.cloned());
        let task = self.deps.control.spawn(trace::carry(async move { this.fresh_token(rejected.as_ref()).await }));
        task.await.unwrap_or_else(|_| Err(RefreshError::unavailable("upwarden is stopping")))
    }

    /// Why it gets no tokens, for `/readyz`.
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.subscribe()
    }

    /// Renews the tokens if they are due, and returns when to call it again. `None` if there is nothing to keep alive.
    pub async fn renew_if_due(&self) -> Option<Timestamp> {
        if self.config.grant == ServiceGrant::ClientCredentials {
            return None;
        }
        let mut rotation = self.rotation.lock().await;
        let outcome =
            self.renew(&CallerId::Renewal, &mut rotation, &|tokens| self.deps.clock.now() < renew_at(tokens)).await;
        let now = self.deps.clock.now();
        Some(match outcome {
            // However short the lifetime, this does not become a busy loop.
            Ok(tokens) => renew_at(&tokens).max(now.plus(FIRST_PAUSE)),
            Err(error) => now.plus(rotation.pause(&error)),
        })
    }

    async fn fresh_token(&self, rejected: Option<&AccessToken>) -> Result<AccessToken, RefreshError> {
        let mut rotation = self.rotation.lock().await;
        match self.renew(&CallerId::Refresh, &mut rotation, &|tokens| self.is_fresh(tokens, rejected)).await {
            Ok(tokens) => Ok(tokens.access),
            Err(error) => {
                let valid =
                    |tokens: &Tokens| !is_rejected(tokens, rejected) && self.deps.clock.now() < tokens.expires_at;
                self.current().filter(valid).map(|tokens| tokens.access).ok_or(error)
            }
        }
    }

    fn is_fresh(&self, tokens: &Tokens, rejected: Option<&AccessToken>) -> bool {
        !is_rejected(tokens, rejected) && self.deps.clock.now() < tokens.due_at()
    }

    /// The current tokens if they are fresh, for example from the previous holder of the lock; otherwise new ones.
    async fn renew(
        &self,
        caller: &CallerId,
        rotation: &mut Rotation,
        is_fresh: &(dyn Fn(&Tokens) -> bool + Sync),
    ) -> Result<Tokens, RefreshError> {
        let outcome = match (self.current().filter(is_fresh), &self.config.grant) {
            (Some(tokens), _) => Ok(tokens),
            (None, ServiceGrant::RefreshToken { .. }) => rotation.rotate(caller, is_fresh).await,
            (None, ServiceGrant::ClientCredentials) => {
                let secret = self.config.client_secret.load();
                let client = Client { id: &self.config.client_id, secret: &secret, redirect_uri: "" };
                Ok(self
                    .deps
                    .refresh(client, TokenGrant::ClientCredentials, caller.clone())
                    .await
                    .map_err(RefreshError::from)?)
            }
        };
        match &outcome {
            Ok(tokens) => {
                *lock(&self.current) = Some(tokens.clone());
                self.problem.send_if_modified(|problem| problem.take().is_some());
            }
            Err(error) => self.report(error),
        }
        self.report_time_left();
        outcome
    }

    fn current(&self) -> Option<Tokens> {
        lock(&self.current).clone()
    }

    /// When the refresh token ends if it is not used again.
    fn ends_at(&self) -> Option<Timestamp> {
        let rotates = self.config.grant != ServiceGrant::ClientCredentials;
        self.current().filter(|_| rotates).map(|tokens| tokens.issued_at.plus(REFRESH_TOKEN_LIFETIME))
    }

    fn report(&self, error: &RefreshError) {
        let left = self.ends_at().map(|end| end.since(self.deps.clock.now()));
        tracing::warn!(%error, left_seconds = left.map(|left| left.as_secs()), "the service identity could not be refreshed");
        let problem = match error {
            RefreshError::Misconfigured(reason) => reason.clone(),
            RefreshError::Revoked if self.config.grant != ServiceGrant::ClientCredentials => grant_ended().to_string(),
            RefreshError::Unavailable(_) if left == Some(Duration::ZERO) => {
                "its refresh token has not been used for two weeks, since Upwork gave no answer; run `upwarden login`"
                    .to_owned()
            }
            RefreshError::Revoked | RefreshError::Store(_) | RefreshError::Unavailable(_) => return,
        };
        self.problem.send_if_modified(|known| known.replace(problem.clone()).as_ref() != Some(&problem));
    }

    fn report_time_left(&self) {
        if self.config.grant == ServiceGrant::ClientCredentials {
            return;
        }
        let dead = self.problem.borrow().is_some();
        let left = self.ends_at().filter(|_| !dead).map_or(Duration::ZERO, |end| end.since(self.deps.clock.now()));
        self.deps.metrics.service_refresh_token_left(left);
    }
}

fn is_rejected(tokens: &Tokens, rejected: Option<&AccessToken>) -> bool {
    rejected.is_some_and(|token| token.same_as(&tokens.access))
}
