//! Where sessions live. What the browser's cookie holds is this room's secret: the sealed session itself, or the key to a
//! record.
//!
//! In: a cookie's value, a session. Out: a [`Held`] session, a cookie's value. Every fault of a value is the same "no
//! session"; a store that is down is said so, and is never taken for "no session" (LESSONS 5).

use std::path::PathBuf;
use std::sync::Arc;

use crate::seal::{NoRandomness, Purpose, Ring};
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
    Cookie(Ring),
}

impl Store {
    /// Opens a cookie's value.
    pub fn open(&self, value: &str) -> Result<Option<Held>, StoreError> {
        match self {
            Self::Cookie(ring) => {
                let opened = ring.now().open(Purpose::Session, value);
                Ok(opened.and_then(|opened| {
                    let session = Session::from_bytes(&opened.bytes)?;
                    Some(Held { session: Arc::new(session), reseal: opened.reseal })
                }))
            }
        }
    }

    /// Keeps a session; the answer is its cookie's value.
    pub fn save(&self, held: &Held) -> Result<String, StoreError> {
        match self {
            Self::Cookie(ring) => {
                let bytes = held.session.to_bytes().map_err(|_| NoRandomness)?;
                Ok(ring.now().seal(Purpose::Session, &bytes)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Key, Keyring};
    use crate::session::tests::session;

    #[test]
    fn a_session_comes_back_from_its_cookie() {
        let ring = Ring::new(Keyring::new(vec![Key::parse(&Key::generate().unwrap()).unwrap()]).unwrap());
        let store = Store::Cookie(ring.clone());
        let value = store.save(&Held::new(session(true))).unwrap();
        assert_eq!(store.open(&value).unwrap().unwrap().session.user.nid, "foo");
        let login = ring.now().seal(Purpose::Login, &session(true).to_bytes().unwrap()).unwrap();
        assert!(store.open(&login).unwrap().is_none(), "a value of another purpose is no session");
        assert!(store.open("").unwrap().is_none());
    }
}
