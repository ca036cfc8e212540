//! Stores sessions: sealed in the browser's cookie, or in a record that only the cookie's value can open.
//!
//! Turns sessions into cookie values and back. A cookie value that does not open always means "no session". An outage
//! of the store is an error, never "no session" (docs/design.md "Classifying answers").
//!
//! - `cookie`: the browser holds the sealed session.
//! - `sealed_store`: sealed records over a `backend`, which is `embedded` or `valkey`. `sessions`, `grants`, `ticket`,
//!   `personal` and `lock` are what it stores; `records` has everything else.
//!
//! The control runtime uses the files and connections; workers only wait for it.

mod backend;
pub(crate) mod cookie;
mod embedded;
mod error;
mod grants;
mod jitter;
mod lock;
mod measured;
mod personal;
mod records;
mod sealed_store;
mod sessions;
mod stored_session;
mod ticket;
mod valkey;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::{SharedClock, Timestamp};
use crate::seal::SharedKeyring;
use crate::telemetry::metrics::Metrics;

use backend::Backend as _;
pub use backend::Expect;
pub(crate) use backend::Version;
pub use error::StoreError;
use grants::grant_of;
pub(crate) use lock::Lock;
pub use lock::{LEASE, LOCK_WAIT, RENEWAL};
use measured::{MeasuredBackend, Place};
pub use personal::{NewTokenRecord, TokenRecord, TokenScope};
pub use sealed_store::NewRecord;
use sealed_store::SealedStore;
pub use stored_session::StoredSession;
use stored_session::lock_of;
pub(crate) use ticket::OpenedTicket;
pub use valkey::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply, RateRequest, ServerConfig, check_url};
pub(crate) use valkey::{RateLimits, Survey};

/// Which store, and where: docs/configuration.md "store".
#[derive(Clone, Debug, Default)]
pub enum Config {
    #[default]
    Cookie,
    Embedded {
        path: PathBuf,
    },
    Valkey(ServerConfig),
}

/// A store of any kind. Clones share it.
#[derive(Clone, Debug)]
pub enum Store {
    /// The browser has the sealed session.
    Cookie(cookie::CookieStore),
    /// Sealed records, in a file of this process or in Valkey or Redis.
    Records(SealedStore),
}

/// Opens the store. Opens and repairs a file. A server need not be reachable yet: [`Store::healthy`] tells when it
/// answers.
pub fn open_store(
    config: &Config,
    ring: SharedKeyring,
    clock: SharedClock,
    control: Handle,
) -> Result<Store, StoreError> {
    let place = match config {
        Config::Cookie => return Ok(Store::Cookie(cookie::CookieStore::new(ring))),
        Config::Embedded { path } => Place::File(embedded::File::open(path, clock.clone(), control.clone())?),
        Config::Valkey(config) => Place::Server(valkey::Server::connect(config, clock.clone(), control.clone())?),
    };
    Ok(Store::Records(SealedStore { backend: MeasuredBackend::new(place), ring, clock, control }))
}

impl Store {
    /// Makes the store count its operations.
    #[must_use]
    pub(crate) fn measured(self, metrics: &Arc<Metrics>) -> Self {
        match self {
            Self::Cookie(_) => self,
            Self::Records(store) => Self::Records(SealedStore { backend: store.backend.by(metrics.clone()), ..store }),
        }
    }

    /// The records, for operations that the cookie store does not have.
    fn records(&self) -> Result<&SealedStore, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::NoRecords),
            Self::Records(store) => Ok(store),
        }
    }

    /// The servers of a store that has them.
    fn server(&self) -> Option<&valkey::Server> {
        match &self.records().ok()?.backend.place {
            Place::File(_) => None,
            Place::Server(server) => Some(server),
        }
    }

    /// Opens a cookie's value. The cookie store opens a value of any age; the others until the `ends_at` it was saved
    /// with.
    pub async fn open(&self, value: &str) -> Result<Option<StoredSession>, StoreError> {
        match self {
            Self::Cookie(store) => Ok(store.open(value)),
            // Boxed, so that the future of every request does not need room for it.
            Self::Records(store) => Box::pin(store.open(value)).await,
        }
    }

    /// Saves a session until `ends_at` and returns its cookie's value. A session that its record already has (it was
    /// opened, or refreshed by `oauth`) is not written again; only its cookie is sealed again.
    ///
    /// # Errors
    /// [`StoreError::Ended`] where the session's record is gone: the browser has no session then.
    pub async fn save(&self, stored: &StoredSession, ends_at: Timestamp) -> Result<String, StoreError> {
        match self {
            Self::Cookie(store) => Ok(store.save(stored)?),
            Self::Records(store) => store.save(stored, ends_at).await,
        }
    }

    /// Writes the session's record without its cookie and returns the session as saved. With the cookie store there is
    /// nothing to write before the gateway answers.
    pub async fn save_record(&self, stored: &StoredSession, ends_at: Timestamp) -> Result<StoredSession, StoreError> {
        match self {
            Self::Cookie(_) => Ok(stored.clone()),
            Self::Records(store) => store.save_record(stored, ends_at).await,
        }
    }

    /// The session as the store has it now, which may be newer; `None` if it was ended.
    pub async fn reload(&self, stored: &StoredSession) -> Result<Option<StoredSession>, StoreError> {
        match self {
            Self::Cookie(_) => Ok(Some(stored.clone())),
            Self::Records(store) => store.reload(stored).await,
        }
    }

    /// Ends a session. With the cookie store, only deleting the browser's cookie does that.
    pub async fn end(&self, stored: &StoredSession) -> Result<(), StoreError> {
        match self {
            Self::Cookie(_) => Ok(()),
            Self::Records(store) => store.end(stored).await,
        }
    }

    /// Ends every session of a user (`user.id`) on all replicas at once; returns how many there were. `own`, the
    /// requesting session, ends last: if the store fails midway, it can retry.
    pub async fn end_user(&self, user_id: &str, own: Option<&str>) -> Result<u64, StoreError> {
        self.records()?.end_user(user_id, own).await
    }

    /// Ends a user's sessions beyond `most`, the least recently used first. The cookie store has none to end.
    pub async fn end_surplus(&self, user_id: &str, most: usize) -> Result<(), StoreError> {
        match self {
            Self::Cookie(_) => Ok(()),
            Self::Records(store) => store.end_surplus(user_id, most).await,
        }
    }

    /// Moves the session's tokens into its user's shared grant, or takes over the newer ones that are there.
    pub async fn share(&self, stored: &StoredSession, ends_at: Timestamp) -> Result<StoredSession, StoreError> {
        if stored.is_shared() {
            return Ok(stored.clone());
        }
        let store = self.records()?;
        // Always lock in this order: the session, then the grant. A refresh locks only one of them.
        let session = store.lock(&stored.session.id).await?.ok_or_else(refreshing)?;
        let name = grant_of(&stored.session.user.id);
        let grant = store.lock(&lock_of(&name)).await?.ok_or_else(refreshing)?;
        let shared = store.share(stored, &name, ends_at).await;
        grant.release().await;
        session.release().await;
        shared
    }

    /// A user's shared grant, for callers with a personal access token; `None` if it is gone.
    pub async fn open_shared(&self, user_id: &str) -> Result<Option<StoredSession>, StoreError> {
        self.records()?.open_grant(&grant_of(user_id)).await
    }

    /// Ends the shared grant that a session refers to, and with it every session that does.
    pub async fn end_shared(&self, stored: &StoredSession) -> Result<(), StoreError> {
        match stored.grant() {
            Some(grant) => self.delete_grant(&grant.name).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends the shared grant of a session that has ended, unless another session refers to it. True if one does.
    pub async fn release_shared(&self, ended: &StoredSession) -> Result<bool, StoreError> {
        let Some(grant) = ended.grant() else { return Ok(false) };
        // The lock keeps new sessions from referring to it in between.
        let lock = self.lock(&lock_of(&grant.name)).await?.ok_or_else(refreshing)?;
        let shared = match self.records()?.is_shared_by_others(&grant.name, &ended.session.id).await {
            Ok(false) => self.delete_grant(&grant.name).await.map(|_| false),
            shared => shared,
        };
        lock.release().await;
        shared
    }

    /// Locks a session or grant for a refresh; `None` if another replica kept the lock for [`LOCK_WAIT`]. The lock is
    /// renewed until released, and expires 5 s after its owner dies. The cookie store shares nothing and grants it at
    /// once.
    pub async fn lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        match self {
            Self::Cookie(_) => Ok(Some(Lock::default())),
            Self::Records(store) => store.lock(name).await,
        }
    }

    /// Switches to a store's changed address and certificates. A different kind of store needs a restart.
    pub(crate) fn reconfigure(&self, config: &Config) -> Result<(), StoreError> {
        match (self.server(), config) {
            (Some(server), Config::Valkey(config)) => server.reconfigure(config),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// The keys that seal the values that browsers and the app have.
    pub(crate) fn ring(&self) -> &SharedKeyring {
        match self {
            Self::Cookie(store) => store.ring(),
            Self::Records(store) => &store.ring,
        }
    }

    /// Whether sessions are kept on our side, so that a user can be signed out everywhere at once.
    pub fn keeps_records(&self) -> bool {
        self.records().is_ok()
    }

    /// Whether other replicas use the same records.
    pub fn has_server(&self) -> bool {
        self.server().is_some()
    }

    /// Reserves a call, at the server, under the limits that all replicas share.
    pub async fn limit_rate(&self, request: &RateRequest) -> Result<RateReply, StoreError> {
        self.server().ok_or(StoreError::NoRecords)?.limit_rate(request).await
    }

    /// Whether a new session could be saved: an error during an outage of the store that is more than momentary. Sends
    /// no request.
    pub fn may_sign_in(&self) -> Result<(), StoreError> {
        let outage = self.records().ok().and_then(|store| store.backend.outage());
        outage.map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }

    /// Waits briefly until the store can be written, before an action that cannot be undone.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match self {
            Self::Cookie(_) => Ok(()),
            Self::Records(store) => store.backend.ready().await,
        }
    }

    /// Describes the servers of a store, once they can be written; `None` for the other stores.
    pub(crate) async fn survey(&self) -> Result<Option<Survey>, StoreError> {
        let Some(server) = self.server() else { return Ok(None) };
        server.survey().await.map(Some)
    }

    /// Whether the store answered the last request and could be written; for `/readyz`. Sends no request.
    pub fn healthy(&self) -> bool {
        self.records().map_or(true, |store| store.backend.healthy())
    }
}

fn refreshing() -> StoreError {
    StoreError::Down("another replica is refreshing this session".to_owned())
}
