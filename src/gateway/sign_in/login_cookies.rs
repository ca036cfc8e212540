//! The cookies of the sign-ins under way, sealed with the ring of the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::HeaderValue;

use crate::clock::Timestamp;
use crate::cookies::{RequestCookies, TooLarge};
use crate::oauth::login_cookies::{BrowserLogins, LoginJars};
use crate::seal::{Keyring, SharedKeyring};

#[derive(Debug)]
pub(in crate::gateway) struct LoginCookies {
    jars: LoginJars,
    ring: SharedKeyring,
    /// Where the search for a free cookie begins, so that sign-ins at the same moment do not meet.
    turn: AtomicUsize,
}

impl LoginCookies {
    pub(super) fn new(session_cookie: &str, secure: bool, ring: SharedKeyring) -> Self {
        Self { jars: LoginJars::new(session_cookie, secure), ring, turn: AtomicUsize::new(0) }
    }

    pub(in crate::gateway) fn ring(&self) -> Arc<Keyring> {
        self.ring.load()
    }

    pub(super) fn owns(&self, name: &str) -> bool {
        self.jars.owns(name)
    }

    pub(super) fn set(
        &self,
        cookie: &str,
        seen: &RequestCookies,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, TooLarge> {
        let pending = self.jars.open(&self.ring.load(), seen, now).pending;
        self.jars.set(cookie, &pending, self.turn.fetch_add(1, Ordering::Relaxed), seen)
    }

    /// The sign-ins that the browser has under way.
    pub(in crate::gateway) fn browser(&self, seen: &RequestCookies, now: Timestamp) -> BrowserLogins {
        self.jars.open(&self.ring.load(), seen, now)
    }

    /// Whether the request shows a sign-in that was sealed with a key we do not have.
    pub(super) fn has_unknown_key(&self, seen: &RequestCookies) -> bool {
        self.jars.has_unknown_key(&self.ring.load(), seen)
    }

    /// Clears the cookie in `slot`: its sign-in is over, and the others under way stay.
    pub(in crate::gateway) fn clear(&self, slot: usize) -> Vec<HeaderValue> {
        self.jars.jar(slot).map(|jar| jar.clear(&RequestCookies::default())).unwrap_or_default()
    }

    /// Clears every one that the request shows.
    pub(super) fn clear_shown(&self, seen: &RequestCookies) -> Vec<HeaderValue> {
        self.jars.all().iter().filter(|jar| jar.is_shown(seen)).flat_map(|jar| jar.clear(seen)).collect()
    }
}
