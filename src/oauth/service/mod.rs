//! The service identity: whom the neighbour door's callers act as when they show nothing.
//!
//! In: its client at Upwork; for a refresh token a store, and the file that `upwarden login` wrote. Out: a token that is
//! fresh; what is the matter where there is none. It asks once however many wait, on the control runtime.
//!
//! With a refresh token (`rotation`) it also lives on by itself: [`Service::tend`] renews long before Upwork's two weeks
//! are over, whether anybody calls or not.

mod rotation;

use std::sync::{Arc, Mutex as Lock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use super::refresh::RefreshError;
use super::token::{Client, TokenError, TokenGrant};
use super::upwork::Upwork;
use super::{ServiceConfig, ServiceGrant};
use crate::clock::{SharedClock, Timestamp};
use crate::recent::lock;
use crate::session::Tokens;
use crate::session::tokens::AccessToken;
use crate::store::Store;
use crate::telemetry::metrics::{self, Metrics};
use rotation::Rotation;

/// Upwork's refresh tokens live so long since their last use (docs/upwork.md "Token").
const REFRESH_LIFE: Duration = Duration::from_secs(14 * 86_400);
/// Tokens are renewed at half of the access token's life, and never later than this: a rotation that was received and not
/// stored is then found while Upwork still takes the old token, which it does for 24 hours.
const LATEST: Duration = Duration::from_secs(12 * 3600);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Where only a new file can help, it is looked for this often; nobody is asked for it.
const LOOK: Duration = Duration::from_secs(30);
/// The longest that `Retry-After` is believed.
const LONGEST_TOLD: Duration = Duration::from_secs(3600);

/// The rooms that a service identity needs.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where tokens come from.
    pub upwork: Arc<Upwork>,
    /// Where a rotation is kept.
    pub store: Store,
    /// Where is told how long the refresh token lives.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
    /// Where it asks.
    pub control: Handle,
}

/// The service identity.
#[derive(Debug)]
pub struct Service {
    config: ServiceConfig,
    parts: Parts,
    /// What calls use; never held over a wait.
    current: Lock<Option<Tokens>>,
    /// Whoever holds it renews.
    turn: Mutex<Rotation>,
    trouble: watch::Sender<Option<String>>,
}

/// Why tokens are wanted.
#[derive(Clone, Copy)]
enum Why<'a> {
    /// A call needs one that is not this one, which the API refused.
    Call(Option<&'a AccessToken>),
    /// It is time.
    Time,
}

impl Why<'_> {
    /// Whether these will do at `now`.
    fn content(self, tokens: &Tokens, now: Timestamp) -> bool {
        match self {
            Self::Call(rejected) => !refused(rejected, tokens) && now < tokens.due_at(),
            Self::Time => now < renew_at(tokens),
        }
    }
}

fn refused(rejected: Option<&AccessToken>, tokens: &Tokens) -> bool {
    rejected.is_some_and(|token| token.expose() == tokens.access.expose())
}

/// When tokens are renewed though nobody calls.
fn renew_at(tokens: &Tokens) -> Timestamp {
    tokens.issued_at.plus((tokens.expires_at.since(tokens.issued_at) / 2).min(LATEST))
}

impl Service {
    /// Nothing is asked until somebody calls, or tends it.
    pub fn new(config: ServiceConfig, parts: Parts) -> Arc<Self> {
        let (current, turn) = (Lock::default(), Mutex::default());
        Arc::new(Self { config, parts, current, turn, trouble: watch::Sender::new(None) })
    }

    /// A token that is fresh, and is not `rejected`.
    pub async fn token(self: &Arc<Self>, rejected: Option<AccessToken>) -> Result<AccessToken, RefreshError> {
        let now = self.parts.clock.now();
        if let Some(tokens) = self.current().filter(|tokens| Why::Call(rejected.as_ref()).content(tokens, now)) {
            return Ok(tokens.access);
        }
        let this = self.clone();
        let task = self.parts.control.spawn(async move { this.fresh(rejected.as_ref()).await });
        task.await.unwrap_or_else(|_| Err(unavailable("upwarden is stopping")))
    }

    /// What is the matter, where somebody has to do something about it; for `/readyz`.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Renews where it is time; the moment at which it is to be called again. Only a refresh token needs it.
    pub async fn tend(&self) -> Option<Timestamp> {
        let ServiceGrant::RefreshToken { file } = &self.config.grant else { return None };
        let mut turn = self.turn.lock().await;
        let outcome = self.rotate(&mut turn, file.as_deref(), Why::Time).await;
        let now = self.parts.clock.now();
        self.tell_time_left(now);
        Some(match outcome {
            // However short a life Upwork gives, it is not asked in a circle.
            Ok(tokens) => renew_at(&tokens).max(now.plus(FIRST_PAUSE)),
            Err(error) => now.plus(turn.pause(&error)),
        })
    }

    /// Whoever waits for the turn finds the token of the one before.
    async fn fresh(&self, rejected: Option<&AccessToken>) -> Result<AccessToken, RefreshError> {
        let (mut turn, why) = (self.turn.lock().await, Why::Call(rejected));
        if let Some(tokens) = self.current().filter(|tokens| why.content(tokens, self.parts.clock.now())) {
            return Ok(tokens.access);
        }
        let renewed = match &self.config.grant {
            ServiceGrant::ClientCredentials => self.ask(TokenGrant::ClientCredentials).await.map_err(Into::into),
            ServiceGrant::RefreshToken { file } => self.rotate(&mut turn, file.as_deref(), why).await,
        };
        match renewed {
            Ok(tokens) => {
                self.adopt(&tokens);
                Ok(tokens.access)
            }
            Err(error) => {
                tracing::warn!(%error, "the service identity got no token");
                if let RefreshError::Misconfigured(why) = &error {
                    self.tell_trouble(why.clone());
                }
                let alive = |tokens: &Tokens| !refused(rejected, tokens) && self.parts.clock.now() < tokens.expires_at;
                self.current().filter(alive).map(|tokens| tokens.access).ok_or(error)
            }
        }
    }

    async fn ask(&self, grant: TokenGrant<'_>) -> Result<Tokens, TokenError> {
        let client = Client { id: &self.config.client_id, secret: &self.config.client_secret, redirect_uri: "" };
        let outcome = self.parts.upwork.tokens_for(client, grant).await;
        self.parts.metrics.refreshed(match &outcome {
            Ok(_) => metrics::Refreshed::Renewed,
            Err(TokenError::InvalidGrant(_)) => metrics::Refreshed::Revoked,
            Err(TokenError::Misconfigured { .. }) => metrics::Refreshed::Misconfigured,
            Err(TokenError::Unavailable { .. }) => metrics::Refreshed::Unavailable,
        });
        outcome
    }

    fn current(&self) -> Option<Tokens> {
        lock(&self.current).clone()
    }

    /// From now on calls use these.
    fn adopt(&self, tokens: &Tokens) {
        *lock(&self.current) = Some(tokens.clone());
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        self.tell_time_left(self.parts.clock.now());
    }

    fn tell_trouble(&self, trouble: String) {
        self.trouble.send_if_modified(|told| {
            let news = told.as_ref() != Some(&trouble);
            *told = Some(trouble);
            news
        });
    }

    fn tell_time_left(&self, now: Timestamp) {
        if self.config.grant == ServiceGrant::ClientCredentials {
            return;
        }
        let dead = self.trouble.borrow().is_some();
        let ends_at = self.current().filter(|_| !dead).map(|tokens| tokens.issued_at.plus(REFRESH_LIFE));
        self.parts.metrics.service_refresh_token_left(ends_at.map_or(Duration::ZERO, |end| end.since(now)));
    }
}

fn unavailable(why: &str) -> RefreshError {
    RefreshError::Unavailable { why: why.to_owned(), retry_after: None }
}
