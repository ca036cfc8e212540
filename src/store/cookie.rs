//! The cookie store: the browser has the sealed session, and the server keeps nothing.
//!
//! It cannot delete a session. A session ends early when the browser deletes its cookie, when Upwork refuses the next
//! refresh, or by `access.not_before`.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::StoredSession;
use crate::recent::{Recent, lock};
use crate::seal::{Keyring, NoRandomness, Purpose, SharedKeyring, unique_part};
use crate::session::Session;

const MAX_OPENED: usize = 1024;
/// The requests of one page come in a burst, so their cookie is opened only once.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Sealed sessions in the browser.
#[derive(Clone, Debug)]
pub struct CookieStore {
    ring: SharedKeyring,
    cache: Arc<Mutex<Cache>>,
}

/// Recently opened or sealed sessions, by the unique part of their sealed value. Each has the whole value, too.
#[derive(Debug)]
struct Cache {
    /// The ring that opened and sealed them.
    ring: Arc<Keyring>,
    sessions: Recent<String, (String, StoredSession), Instant>,
}

impl Cache {
    fn new(ring: Arc<Keyring>) -> Self {
        Self { ring, sessions: Recent::new(MAX_OPENED) }
    }
}

impl CookieStore {
    pub fn new(ring: SharedKeyring) -> Self {
        let cache = Arc::new(Mutex::new(Cache::new(ring.load())));
        Self { ring, cache }
    }

    pub(super) fn ring(&self) -> &SharedKeyring {
        &self.ring
    }

    /// The sessions that this ring opened or sealed; those of another ring are dropped.
    fn cache(&self, ring: &Arc<Keyring>) -> MutexGuard<'_, Cache> {
        let mut cache = lock(&self.cache);
        if !Arc::ptr_eq(&cache.ring, ring) {
            *cache = Cache::new(ring.clone());
        }
        cache
    }

    pub(super) fn open(&self, value: &str) -> Option<StoredSession> {
        let (ring, now) = (self.ring.load(), Instant::now());
        let key = unique_part(value);
        if let Some((sealed, stored)) = self.cache(&ring).sessions.get(key, now)
            && sealed == value
        {
            return Some(stored.clone());
        }
        let opened = ring.open(Purpose::Session, value)?;
        let session = Session::from_bytes(&opened.bytes)?;
        let stored = StoredSession { reseal: opened.reseal, ..StoredSession::new(session) };
        self.remember(&ring, value, stored.clone());
        Some(stored)
    }

    /// Also remembers the session, because the browser's next request brings the value back.
    pub(super) fn save(&self, stored: &StoredSession) -> Result<String, NoRandomness> {
        let ring = self.ring.load();
        let value = ring.seal(Purpose::Session, &stored.session.to_bytes())?;
        self.remember(&ring, &value, StoredSession { reseal: false, ..stored.clone() });
        Ok(value)
    }

    fn remember(&self, ring: &Arc<Keyring>, value: &str, stored: StoredSession) {
        let now = Instant::now();
        let entry = (value.to_owned(), stored);
        self.cache(ring).sessions.insert(unique_part(value).to_owned(), entry, now, now + REMEMBERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Key;
    use crate::session::tests::session;

    #[test]
    fn a_session_comes_back_from_its_cookie() {
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        let store = CookieStore::new(ring.clone());
        let value = store.save(&StoredSession::new(session(true))).unwrap();
        // At another replica, which did not seal it.
        let store = CookieStore::new(ring.clone());
        assert_eq!(store.open(&value).unwrap().session.user.nid, "foo");
        let login = ring.load().seal(Purpose::Login, &session(true).to_bytes()).unwrap();
        assert!(store.open(&login).is_none(), "a value of another purpose is no session");
        assert!(store.open("").is_none());
    }

    #[test]
    fn an_opened_session_is_remembered_no_longer_than_its_ring() {
        let key = || Key::parse(&Key::generate().unwrap()).unwrap();
        let ring = SharedKeyring::new(Keyring::new(vec![key()]).unwrap());
        let store = CookieStore::new(ring.clone());
        let saved = StoredSession::new(session(true));
        let value = store.save(&saved).unwrap();
        assert!(Arc::ptr_eq(&saved.session, &store.open(&value).unwrap().session), "not opened");
        let replica = CookieStore::new(ring.clone());
        let (first, second) = (replica.open(&value).unwrap(), replica.open(&value).unwrap());
        assert!(Arc::ptr_eq(&first.session, &second.session), "opened once");
        ring.replace(Keyring::new(vec![key()]).unwrap());
        assert!(store.open(&value).is_none() && replica.open(&value).is_none(), "a removed key opens nothing");
    }

    #[test]
    fn a_bounded_number_of_sessions_is_remembered() {
        let store = CookieStore::new(SharedKeyring::new(Keyring::generate().unwrap()));
        let open = || {
            let value = store.save(&StoredSession::new(session(true))).unwrap();
            (store.open(&value).unwrap().session, value)
        };
        let (oldest, value) = open();
        for _ in 0..MAX_OPENED {
            open();
        }
        assert!(!Arc::ptr_eq(&oldest, &store.open(&value).unwrap().session), "it was opened again");
    }
}
