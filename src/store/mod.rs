//! Where sessions live. What the browser's cookie holds is this room's secret: the sealed session itself, or the key to a
//! record.
//!
//! In: a cookie's value, a session. Out: a [`StoredSession`], a cookie's value. Every fault of a value is the same "no
//! session"; a store that is down is said so, and is never taken for "no session" (docs/design.md "Classifying answers").
//!
//! - `cookie`: the browser holds the sealed session.
//! - `kept`: sessions as records, each under a key that only its cookie holds; over a `kept::SessionStore`, which is
//!   `embedded` or `valkey`. `records` adds what is not a session: shared grants, personal access tokens, counters.
//!
//! Whatever talks to a file or a server runs on the control runtime; workers only wait for it.

pub(crate) mod cookie;
mod embedded;
mod kept;
mod lock;
mod personal;
mod records;
mod shared;
mod ticket;
mod valkey;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::{SharedClock, Timestamp};
use crate::seal::{NoRandomness, SharedKeyring};
use crate::secret::Secret;
use crate::session::Session;

use kept::SessionStore;
pub(crate) use lock::{LOCK_WAIT, Lock};
pub use personal::{NewTokenRecord, TokenRecord};
pub(crate) use records::Version;
pub use records::{Expect, NewRecord};
pub(crate) use ticket::OpenedTicket;
pub(crate) use valkey::RateLimits;
pub use valkey::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply, RateRequest, check_url};

/// Which store, and where: docs/configuration.md "store".
#[derive(Clone, Debug, Default)]
pub enum Config {
    /// The browser holds the sealed session.
    #[default]
    Cookie,
    /// One file, one process.
    Embedded {
        /// The database file.
        path: PathBuf,
    },
    /// Valkey or Redis.
    Valkey {
        /// `redis://`, `rediss://` or `valkey(s)://`, with user and password where needed.
        url: Secret,
        /// A CA of its own for TLS.
        ca_file: Option<PathBuf>,
    },
}

/// A session as a store gave it.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// The session.
    pub session: Arc<Session>,
    /// It was sealed by an older key, or in an older way: the answer should carry it anew.
    pub reseal: bool,
    place: Option<Place>,
}

/// Where a session's record is.
#[derive(Clone, Debug)]
struct Place {
    /// What the record is sealed with. Nobody but the cookie keeps it. None where a grant is used without a session.
    key: Option<Secret>,
    /// The record holds this very session.
    stored: bool,
    /// The grant that the session refers to.
    shared: Option<shared::SharedGrant>,
}

impl StoredSession {
    /// A session that no store has seen yet.
    pub fn new(session: Session) -> Self {
        Self { session: Arc::new(session), reseal: false, place: None }
    }

    /// The same place, another session in it.
    #[must_use]
    pub fn with(&self, session: Session) -> Self {
        let renewed = session.tokens.access.expose() != self.session.tokens.access.expose();
        let place = self.place.clone().map(|place| {
            let shared = place.shared.map(|shared| shared.and(renewed));
            Place { stored: false, shared, ..place }
        });
        Self { session: Arc::new(session), reseal: false, place }
    }
}

/// Why a session could not be kept or found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached; it may come back by itself.
    #[error("the session store cannot be reached: {0}")]
    Down(String),
    /// The session was ended meanwhile (signed out, or signed out everywhere), and is not brought back.
    #[error("the session was ended meanwhile")]
    Ended,
    /// The store cannot be set up as it is configured.
    #[error("{0}")]
    Setup(String),
    /// The cookie store has no records.
    #[error("store.kind = \"cookie\" keeps nothing on this side; use \"embedded\" or \"valkey\"")]
    KeepsNothing,
    /// A fault of this process.
    #[error("the session cannot be sealed")]
    Sealing(#[from] NoRandomness),
}

impl StoreError {
    /// A task of ours was given up.
    fn stopping() -> Self {
        Self::Down("upwarden is stopping".to_owned())
    }
}

/// A store of some kind. Clones are the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// The browser holds the sealed session.
    Cookie(cookie::CookieStore),
    /// One file of this process.
    Embedded(Embedded),
    /// Valkey or Redis.
    Valkey(Valkey),
}

/// Sessions and records in one file. Made by [`open_store`].
#[derive(Clone, Debug)]
pub struct Embedded(kept::Kept<embedded::File>);

/// Sessions and records in Valkey or Redis. Made by [`open_store`].
#[derive(Clone, Debug)]
pub struct Valkey(kept::Kept<valkey::Server>);

impl Valkey {
    /// Asks for a call under limits that all replicas share.
    pub async fn limit_rate(&self, request: &RateRequest) -> Result<RateReply, StoreError> {
        self.0.store.limit_rate(request).await
    }
}

/// Opens the store. The file is opened and repaired here, and a fault of the setting is told; whether a server answers is
/// seen later, by [`Store::healthy`], so that upwarden may start before it.
pub fn open_store(
    config: &Config,
    ring: SharedKeyring,
    clock: SharedClock,
    control: Handle,
) -> Result<Store, StoreError> {
    match config {
        Config::Cookie => Ok(Store::Cookie(cookie::CookieStore::new(ring))),
        Config::Embedded { path } => {
            let file = embedded::File::open(path, clock.clone(), control.clone())?;
            Ok(Store::Embedded(Embedded(kept::Kept::new(file, ring, clock, control))))
        }
        Config::Valkey { url, ca_file } => {
            let server = valkey::Server::connect(url, ca_file.as_deref(), clock.clone(), control.clone())?;
            Ok(Store::Valkey(Valkey(kept::Kept::new(server, ring, clock, control))))
        }
    }
}

impl Store {
    /// Opens a cookie's value: a session that is in the store, or none. The cookie store gives it whatever its age; the
    /// others forget it at the `ends_at` it was saved with.
    pub async fn open(&self, value: &str) -> Result<Option<StoredSession>, StoreError> {
        match self {
            Self::Cookie(store) => Ok(store.open(value)),
            Self::Embedded(store) => store.0.open(value).await,
            Self::Valkey(store) => store.0.open(value).await,
        }
    }

    /// Keeps a session until `ends_at`; the answer is its cookie's value. A session that is in the store as it is (it was
    /// opened, or refreshed by `oauth`) is not written again: only its cookie is sealed anew.
    ///
    /// # Errors
    /// [`StoreError::Ended`] where a session that was there is no more: the browser has no session then.
    pub async fn save(&self, held: &StoredSession, ends_at: Timestamp) -> Result<String, StoreError> {
        match self {
            Self::Cookie(store) => Ok(store.save(held)?),
            Self::Embedded(store) => store.0.save(held, ends_at).await,
            Self::Valkey(store) => store.0.save(held, ends_at).await,
        }
    }

    /// Writes the session's record without its cookie; the answer is the same session, known to be stored. With the cookie
    /// store there is nothing to write before the gateway answers.
    pub async fn keep(&self, held: &StoredSession, ends_at: Timestamp) -> Result<StoredSession, StoreError> {
        match self {
            Self::Cookie(_) => Ok(held.clone()),
            Self::Embedded(store) => store.0.keep(held, ends_at).await,
            Self::Valkey(store) => store.0.keep(held, ends_at).await,
        }
    }

    /// The session as it is in the store now, which may be newer; none where it was ended.
    pub async fn reload(&self, held: &StoredSession) -> Result<Option<StoredSession>, StoreError> {
        match self {
            Self::Cookie(_) => Ok(Some(held.clone())),
            Self::Embedded(store) => store.0.reload(held).await,
            Self::Valkey(store) => store.0.reload(held).await,
        }
    }

    /// Whether the session has not been ended: cheap, for upgrades that live long. The cookie store cannot tell, and says
    /// yes.
    pub async fn alive(&self, held: &StoredSession) -> Result<bool, StoreError> {
        match self {
            Self::Cookie(_) => Ok(true),
            Self::Embedded(store) => store.0.alive(held).await,
            Self::Valkey(store) => store.0.alive(held).await,
        }
    }

    /// Forgets a session. The cookie store has nothing to forget: the browser is told.
    pub async fn end(&self, held: &StoredSession) -> Result<(), StoreError> {
        match self {
            Self::Cookie(_) => Ok(()),
            Self::Embedded(store) => store.0.end(held).await,
            Self::Valkey(store) => store.0.end(held).await,
        }
    }

    /// Forgets every session of a user (`user.id`), on all replicas at once; says how many there were. `own`, the session
    /// that asks, goes last: where the store fails on the way, it is there to ask again.
    pub async fn end_user(&self, user_id: &str, own: Option<&str>) -> Result<u64, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.end_user(user_id, own).await,
            Self::Valkey(store) => store.0.end_user(user_id, own).await,
        }
    }

    /// The right to refresh a session, shared by all replicas: none where somebody else held it all the time that was
    /// waited ([`LOCK_WAIT`]). It is renewed while it is held, and falls to the others 5 s after its owner has died. The cookie store
    /// has nothing to share and gives it at once.
    pub async fn lock(&self, session_id: &str) -> Result<Option<Lock>, StoreError> {
        match self {
            Self::Cookie(_) => Ok(Some(Lock::of_nothing())),
            Self::Embedded(store) => store.0.lock(session_id).await,
            Self::Valkey(store) => store.0.lock(session_id).await,
        }
    }

    /// Whether sessions are kept on our side, so that a user can be signed out everywhere at once.
    pub fn keeps_records(&self) -> bool {
        match self {
            Self::Cookie(_) => false,
            Self::Embedded(_) | Self::Valkey(_) => true,
        }
    }

    /// Whether somebody who signs in now could be kept: an error where the store is down, and not for a moment only. It
    /// costs nothing to ask.
    pub fn may_sign_in(&self) -> Result<(), StoreError> {
        let trouble = match self {
            Self::Cookie(_) => None,
            Self::Embedded(store) => store.0.store.trouble(),
            Self::Valkey(store) => store.0.store.trouble(),
        };
        trouble.map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }

    /// Waits for a moment until the store can be written; before something is done that cannot be undone.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match self {
            Self::Cookie(_) => Ok(()),
            Self::Embedded(store) => store.0.store.ready().await,
            Self::Valkey(store) => store.0.store.ready().await,
        }
    }

    /// Whether the store answered when it was last asked, and could be written; for `/readyz`. It costs nothing to ask.
    pub fn healthy(&self) -> bool {
        match self {
            Self::Cookie(_) => true,
            Self::Embedded(store) => store.0.healthy(),
            Self::Valkey(store) => store.0.healthy(),
        }
    }
}
