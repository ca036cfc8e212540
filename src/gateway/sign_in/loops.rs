//! Counts sign-ins in a row that left no session behind (a cookie too large, a key that only one replica has), so that the
//! third stops at a page instead of looping.
//!
//! The count is in its own cookie, `NAME-tries`, which lives one minute and is no secret: changing it affects no other
//! user's sign-in. It is set from the second sign-in on, if this process remembers the first. That saves a first
//! sign-in one cookie, and the next page the clearing of it. An admitted navigation with a session resets the count:
//! that sign-in lasted, however soon its session ends afterwards. (Failed callbacks are counted inside the sealed
//! state, which comes back even when cookies do not.)

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};

use crate::clock::Timestamp;
use crate::cookies::{Jar, RequestCookies};
use crate::fields::Fields;
use crate::gateway::request::RequestInfo;
use crate::recent::{Recent, lock};
use crate::session::Session;

/// Sign-ins further apart do not count as a row.
const IN_A_ROW: Duration = Duration::from_secs(60);
const MAX_SIGN_INS: usize = 10_000;

#[derive(Debug)]
pub(in crate::gateway) struct LoopCounter {
    cookie: Jar,
    hasher: RandomState,
    /// The session of each client's last sign-in, by hashes, until a request shows it.
    pending: Mutex<Recent<u64, u64, Timestamp>>,
}

/// A client as far as it is known without a cookie: by address and `User-Agent`. Another user with the same address and
/// browser counts as the same client, and at worst gets the counting cookie.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct ClientKey(u64);

/// What a lasting sign-in ends.
#[derive(Debug, Default)]
pub(in crate::gateway) struct LastingSignIn {
    pending: Option<(ClientKey, u64)>,
    cookies: Vec<HeaderValue>,
}

/// Sign-ins in a row that left no session behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    pub(super) count: u8,
    /// Size of the session's `Set-Cookie` lines at the last sign-in, in bytes.
    pub(super) bytes: usize,
    at: Timestamp,
}

impl Tries {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (count, bytes, at) = (parts.next()?, parts.next()?, parts.next()?);
        let at = Timestamp::from_seconds(at.parse().ok()?);
        Some(Self { count: count.parse().ok()?, bytes: bytes.parse().ok()?, at })
    }

    fn text(self) -> String {
        format!("{}-{}-{}", self.count, self.bytes, self.at.seconds())
    }
}

impl LoopCounter {
    /// `session_cookie`: the name that the counting cookie's name extends.
    pub(super) fn new(session_cookie: &str, secure: bool) -> Self {
        Self {
            cookie: Jar::new(format!("{session_cookie}-tries"), secure),
            hasher: RandomState::new(),
            pending: Mutex::new(Recent::new(MAX_SIGN_INS)),
        }
    }

    pub(in crate::gateway) fn cookie(&self) -> &Jar {
        &self.cookie
    }

    pub(in crate::gateway) fn client(&self, request: &RequestInfo, headers: &Fields) -> ClientKey {
        ClientKey(self.hasher.hash_one((request.client.origin.client, headers.get(USER_AGENT))))
    }

    pub(super) fn tries(&self, cookies: &RequestCookies, now: Timestamp) -> Option<Tries> {
        let tries = self.cookie.candidates(cookies).iter().filter_map(|text| Tries::parse(text)).max_by_key(|t| t.at);
        tries.filter(|tries| now.since(tries.at).max(tries.at.since(now)) <= IN_A_ROW)
    }

    /// Records a successful sign-in of a browser that had no session, and `tries` before it. Returns its count if it is
    /// not the first in the row.
    pub(super) fn completed(
        &self,
        client: ClientKey,
        session: &Session,
        tries: Option<Tries>,
        now: Timestamp,
    ) -> Option<u8> {
        let id = self.hasher.hash_one(&session.id);
        let again = lock(&self.pending).insert(client.0, id, now, now.plus(IN_A_ROW)).is_some();
        tries.map(|tries| tries.count.saturating_add(1)).or(again.then_some(2))
    }

    pub(super) fn set(&self, count: u8, bytes: usize, seen: &RequestCookies, now: Timestamp) -> Vec<HeaderValue> {
        // A value this short always fits.
        self.cookie.set(&Tries { count, bytes, at: now }.text(), IN_A_ROW, seen).unwrap_or_default()
    }

    /// Call before an admitted navigation is forwarded. Only a navigation shows that a sign-in lasted: requests of
    /// another tab may reach a replica that has the key while navigations do not.
    pub(in crate::gateway) fn navigation(
        &self,
        request: &RequestInfo,
        headers: &Fields,
        session: &Session,
        now: Timestamp,
    ) -> LastingSignIn {
        // An older sign-in does not count as part of a row, so it needs no lock.
        let young = now.since(session.began_at) <= IN_A_ROW;
        LastingSignIn {
            pending: young.then(|| (self.client(request, headers), self.hasher.hash_one(&session.id))),
            cookies: self.cookie.clear_shown(&request.cookies),
        }
    }

    /// Call once it is clear that the request did not end the session. Returns the cookies that reset the count. Only
    /// its own session completes a pending sign-in: another client's says nothing about it.
    pub(in crate::gateway) fn confirm(&self, lasting: LastingSignIn) -> Vec<HeaderValue> {
        if let Some((client, session)) = lasting.pending {
            lock(&self.pending).remove_if(&client.0, |pending| *pending == session);
        }
        lasting.cookies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_comes_back_from_its_cookie_and_nonsense_counts_nothing() {
        let tries = Tries { count: 2, bytes: 700, at: Timestamp::from_seconds(1000) };
        assert_eq!(Tries::parse(&tries.text()), Some(tries));
        for text in ["", "2", "2-700", "x-700-1000", "-1-2-3", "256-1-1"] {
            assert_eq!(Tries::parse(text), None, "{text}");
        }
    }
}
