//! The cookie store: the browser holds the sealed session, and nothing is kept here.
//!
//! In: a session. Out: its sealed text, and the session again. It cannot forget: what ends a session early is the browser's
//! cookie, Upwork's word at the next refresh, and `access.not_before`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::StoredSession;
use crate::recent::lock;
use crate::seal::{Keyring, NoRandomness, Purpose, SharedKeyring};
use crate::session::Session;

/// Opened sessions that are remembered at the most.
const MOST_OPENED: usize = 1024;
/// For how long: a burst of requests of one page opens its cookie once.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Sealed sessions in the browser.
#[derive(Clone, Debug)]
pub struct CookieStore {
    ring: SharedKeyring,
    opened: Arc<Mutex<Opened>>,
}

/// What was opened lately, by the whole sealed value; forgotten with the ring that opened it.
#[derive(Debug, Default)]
struct Opened {
    ring: Option<Arc<Keyring>>,
    held: HashMap<String, (StoredSession, Instant)>,
}

impl Opened {
    fn find(&self, ring: &Arc<Keyring>, value: &str, now: Instant) -> Option<StoredSession> {
        let same = self.ring.as_ref().is_some_and(|opener| Arc::ptr_eq(opener, ring));
        let (held, until) = self.held.get(value).filter(|_| same)?;
        (now < *until).then(|| held.clone())
    }

    fn remember(&mut self, ring: &Arc<Keyring>, value: &str, held: &StoredSession, now: Instant) {
        if !self.ring.as_ref().is_some_and(|opener| Arc::ptr_eq(opener, ring)) {
            self.held.clear();
            self.ring = Some(ring.clone());
        }
        if self.held.len() >= MOST_OPENED {
            self.held.retain(|_, (_, until)| now < *until);
        }
        if self.held.len() >= MOST_OPENED {
            self.held.clear();
        }
        self.held.insert(value.to_owned(), (held.clone(), now + REMEMBERED));
    }
}

impl CookieStore {
    /// Seals and opens with `ring`.
    pub fn new(ring: SharedKeyring) -> Self {
        Self { ring, opened: Arc::default() }
    }

    pub(super) fn ring(&self) -> &SharedKeyring {
        &self.ring
    }

    pub(super) fn open(&self, value: &str) -> Option<StoredSession> {
        let (ring, now) = (self.ring.load(), Instant::now());
        if let Some(held) = lock(&self.opened).find(&ring, value, now) {
            return Some(held);
        }
        let opened = ring.open(Purpose::Session, value)?;
        let session = Session::from_bytes(&opened.bytes)?;
        let held = StoredSession { session: Arc::new(session), reseal: opened.reseal, place: None };
        lock(&self.opened).remember(&ring, value, &held, now);
        Some(held)
    }

    pub(super) fn save(&self, held: &StoredSession) -> Result<String, NoRandomness> {
        self.ring.load().seal(Purpose::Session, &held.session.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Key, Keyring};
    use crate::session::tests::session;

    #[test]
    fn a_session_comes_back_from_its_cookie() {
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        let store = CookieStore::new(ring.clone());
        let value = store.save(&StoredSession::new(session(true))).unwrap();
        assert_eq!(store.open(&value).unwrap().session.user.nid, "foo");
        let login = ring.load().seal(Purpose::Login, &session(true).to_bytes()).unwrap();
        assert!(store.open(&login).is_none(), "a value of another purpose is no session");
        assert!(store.open("").is_none());
    }
    #[test]
    fn what_was_opened_is_remembered_no_longer_than_its_ring() {
        let key = || Key::parse(&Key::generate().unwrap()).unwrap();
        let ring = SharedKeyring::new(Keyring::new(vec![key()]).unwrap());
        let store = CookieStore::new(ring.clone());
        let value = store.save(&StoredSession::new(session(true))).unwrap();
        let (first, second) = (store.open(&value).unwrap(), store.open(&value).unwrap());
        assert!(Arc::ptr_eq(&first.session, &second.session), "opened once");
        ring.replace(Keyring::new(vec![key()]).unwrap());
        assert!(store.open(&value).is_none(), "a key that is gone opens nothing");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        let store = CookieStore::new(ring);
        for _ in 0..=MOST_OPENED {
            let value = store.save(&StoredSession::new(session(true))).unwrap();
            assert!(store.open(&value).is_some());
        }
        assert!(store.opened.lock().unwrap().held.len() <= MOST_OPENED);
    }
}
