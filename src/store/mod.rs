//! Where sessions live. What the browser's cookie holds is this room's secret: the sealed session itself, or the key to a
//! record.
//!
//! In: a cookie's value, a session. Out: a [`Held`] session, a cookie's value. Every fault of a value is the same "no
//! session"; a store that is down is said so, and is never taken for "no session" (LESSONS 5).

pub mod cookie;

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::seal::NoRandomness;
use crate::secret::Secret;
use crate::session::Session;

/// Which store, and where: CONTRACT "store".
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
pub struct Held {
    /// The session.
    pub session: Arc<Session>,
    /// It was sealed by an older key, or in an older way: the answer should carry it anew.
    pub reseal: bool,
}

impl Held {
    /// A session that no store has seen yet.
    pub fn new(session: Session) -> Self {
        Self { session: Arc::new(session), reseal: false }
    }

    /// The same place, another session in it.
    #[must_use]
    pub fn with(&self, session: Session) -> Self {
        Self { session: Arc::new(session), reseal: false }
    }
}

/// What an answer does to the session's cookie. Only the gateway writes it.
#[must_use]
#[derive(Clone, Debug)]
pub enum SessionChange {
    /// Nothing.
    Keep,
    /// This session from now on.
    Replace(Held),
    /// No session any more.
    End,
}

/// Why a session could not be kept or found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached.
    #[error("the session store cannot be reached: {0}")]
    Down(String),
    /// A fault of this process.
    #[error("the session cannot be sealed")]
    Sealing(#[from] NoRandomness),
}

/// A store of some kind.
#[derive(Clone, Debug)]
pub enum Store {
    /// The browser holds the sealed session.
    Cookie(cookie::CookieStore),
}

impl Store {
    /// Opens a cookie's value: a session that is in the store, whatever its age; or none.
    pub async fn open(&self, value: &str) -> Result<Option<Held>, StoreError> {
        match self {
            Self::Cookie(store) => Ok(store.open(value)),
        }
    }

    /// Keeps a session until `ends_at`; the answer is its cookie's value.
    pub async fn save(&self, held: &Held, _ends_at: Timestamp) -> Result<String, StoreError> {
        match self {
            Self::Cookie(store) => Ok(store.save(held)?),
        }
    }

    /// Forgets a session. The cookie store has nothing to forget: the browser is told.
    pub async fn end(&self, _held: &Held) -> Result<(), StoreError> {
        match self {
            Self::Cookie(_) => Ok(()),
        }
    }

    /// Whether sessions are kept on our side, so that a user can be signed out everywhere at once.
    pub fn keeps_records(&self) -> bool {
        match self {
            Self::Cookie(_) => false,
        }
    }
}
