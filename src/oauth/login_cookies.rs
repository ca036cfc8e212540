//! The cookies of pending sign-ins: a limited number of slots, so that a browser with many tabs keeps few of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;

use super::login::{LIFETIME, Login};
use crate::clock::Timestamp;
use crate::cookies::{Jar, RequestCookies, TooLarge};
use crate::seal::{Keyring, MAX_TRIED, Purpose, SharedKeyring};

/// Pending sign-ins of one browser; a further one replaces the oldest.
const MAX_SLOTS: usize = 8;
/// The maximum size of a browser's known login cookies, in bytes: a proxy in front (nginx by default) accepts 8 KiB of
/// `Cookie`, and the app has its own cookies.
const MAX_BYTES: usize = 3400;
/// The larger a cookie, the fewer slots are open to it, since sign-ins that begin at once do not know of each other.
const SLOTS_BYTES: usize = 2400;
/// Slots that are open to a large cookie; a cookie of half the maximum size gets one.
const MIN_SLOTS: usize = 2;

/// A pending sign-in, and the slot of its cookie.
#[derive(Clone, Debug)]
pub struct PendingLogin {
    /// For `LoginCookies::clear`.
    pub slot: usize,
    pub login: Login,
}

#[derive(Debug)]
pub struct BrowserLogins {
    pub pending: Vec<PendingLogin>,
    /// Whether there is any login cookie, opened or not.
    pub any_cookie: bool,
}

/// The cookies of pending sign-ins: `NAME-login-1` to `NAME-login-8`, sealed with the current ring.
#[derive(Debug)]
pub struct LoginCookies {
    jars: Vec<Jar>,
    base: String,
    ring: SharedKeyring,
    /// Where the search for a free slot begins, so that simultaneous sign-ins do not collide.
    turn: AtomicUsize,
}

impl LoginCookies {
    /// `session_cookie`: the name that the cookies' names extend.
    pub fn new(session_cookie: &str, secure: bool, ring: SharedKeyring) -> Self {
        let base = format!("{session_cookie}-login-");
        let jars = (1..=MAX_SLOTS).map(|number| Jar::new(format!("{base}{number}"), secure)).collect();
        Self { jars, base, ring, turn: AtomicUsize::new(0) }
    }

    pub(crate) fn ring(&self) -> Arc<Keyring> {
        self.ring.load()
    }

    /// Whether a cookie of this name is one of these.
    pub fn owns(&self, name: &str) -> bool {
        name.starts_with(self.base.as_str())
    }

    pub fn open(&self, seen: &RequestCookies, now: Timestamp) -> BrowserLogins {
        let ring = self.ring();
        let jars = self.jars.iter().enumerate();
        let values = jars
            .flat_map(|(slot, jar)| ring.plausible(jar.candidates(seen)).into_iter().map(move |value| (slot, value)));
        let pending = values.take(MAX_TRIED).filter_map(|(slot, value)| {
            let login = Login::open(&ring, &value, now)?;
            Some(PendingLogin { slot, login })
        });
        BrowserLogins { pending: pending.collect(), any_cookie: seen.iter().any(|(name, _)| self.owns(name)) }
    }

    /// Whether the request shows a sign-in that was sealed with a key we do not have.
    pub(crate) fn has_unknown_key(&self, seen: &RequestCookies) -> bool {
        let ring = self.ring();
        let mut values = self.jars.iter().flat_map(|jar| jar.candidates(seen)).take(MAX_TRIED);
        values.any(|value| ring.open(Purpose::Login, &value).is_none())
    }

    /// The `Set-Cookie` values for a new sign-in. It takes a free slot, or else that of the oldest sign-in; then the
    /// oldest others are cleared until the rest fits. So a few long return addresses never cause a `Cookie` field that
    /// a proxy refuses.
    pub(crate) fn set(
        &self,
        cookie: &str,
        seen: &RequestCookies,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, TooLarge> {
        let (pending, turn) = (self.open(seen, now).pending, self.turn.fetch_add(1, Ordering::Relaxed));
        let least = if cookie.len() * MIN_SLOTS > MAX_BYTES { 1 } else { MIN_SLOTS };
        let open = (SLOTS_BYTES / cookie.len().max(1)).clamp(least, MAX_SLOTS);
        // `None`, for a slot without a valid sign-in, sorts before all times.
        let began_at =
            |slot: usize| pending.iter().filter(|other| other.slot == slot).map(|other| other.login.began_at).max();
        let taken = (0..open).map(|step| (turn + step) % open).min_by_key(|slot| began_at(*slot)).unwrap_or(0);
        let mut lines = self.jars.get(taken).map_or(Ok(Vec::new()), |jar| jar.set(cookie, LIFETIME, seen))?;
        let mut others: Vec<(usize, &Jar)> = self.jars.iter().enumerate().filter(|(slot, _)| *slot != taken).collect();
        others.sort_by_key(|(slot, _)| began_at(*slot));
        let bytes = |jar: &Jar| {
            seen.iter().filter(|(name, _)| jar.owns(name)).map(|(name, value)| name.len() + value.len()).sum::<usize>()
        };
        let mut sum = cookie.len() + others.iter().map(|(_, jar)| bytes(jar)).sum::<usize>();
        for (_, jar) in others {
            if sum > MAX_BYTES && bytes(jar) > 0 {
                sum -= bytes(jar);
                lines.extend(jar.clear(seen));
            }
        }
        Ok(lines)
    }

    /// Clears the cookie in `slot`, whose sign-in is over. Other pending ones stay.
    pub(crate) fn clear(&self, slot: usize) -> Vec<HeaderValue> {
        self.jars.get(slot).map(|jar| jar.clear(&RequestCookies::default())).unwrap_or_default()
    }

    pub(crate) fn clear_shown(&self, seen: &RequestCookies) -> Vec<HeaderValue> {
        self.jars.iter().flat_map(|jar| jar.clear_shown(seen)).collect()
    }
}
