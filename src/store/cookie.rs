//! The cookie store: the browser holds the sealed session, and nothing is kept here.
//!
//! In: a session. Out: its sealed text, and the session again. It cannot forget: what ends a session early is the browser's
//! cookie, Upwork's word at the next refresh, and `access.not_before`.

use std::sync::Arc;

use super::Held;
use crate::seal::{NoRandomness, Purpose, Ring};
use crate::session::Session;

/// Sealed sessions in the browser.
#[derive(Clone, Debug)]
pub struct CookieStore {
    ring: Ring,
}

impl CookieStore {
    /// Seals and opens with `ring`.
    pub fn new(ring: Ring) -> Self {
        Self { ring }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn open(&self, value: &str) -> Option<Held> {
        let opened = self.ring.now().open(Purpose::Session, value)?;
        let session = Session::from_bytes(&opened.bytes)?;
        Some(Held { session: Arc::new(session), reseal: opened.reseal, place: None })
    }

    pub(super) fn save(&self, held: &Held) -> Result<String, NoRandomness> {
        let bytes = held.session.to_bytes().map_err(|_| NoRandomness)?;
        self.ring.now().seal(Purpose::Session, &bytes)
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
        let store = CookieStore::new(ring.clone());
        let value = store.save(&Held::new(session(true))).unwrap();
        assert_eq!(store.open(&value).unwrap().session.user.nid, "foo");
        let login = ring.now().seal(Purpose::Login, &session(true).to_bytes().unwrap()).unwrap();
        assert!(store.open(&login).is_none(), "a value of another purpose is no session");
        assert!(store.open("").is_none());
    }
}
