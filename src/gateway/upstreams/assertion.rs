//! `X-Upwork-Assertion`: a signed statement of who the user is, for an app that is reachable without upwarden
//! (`app.assertion`).
//!
//! A JWT (RFC 7519) for the configured audience that is valid for one minute. It is signed once for each session and
//! reused for half a minute, so that most requests only cost a look-up. It contains no Upwork token.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use serde::Serialize;

use crate::clock::{SharedClock, Timestamp};
use crate::recent::{Recent, lock};
use crate::seal::{Keyring, SharedKeyring, SigningKeys};
use crate::session::{Organization, Session, User};

const LIFETIME: Duration = Duration::from_secs(60);
/// How long an assertion is reused. The app has the rest of its lifetime to verify it.
const REUSED: Duration = Duration::from_secs(30);
/// Sessions whose assertion is remembered, about 1 KiB each.
const MAX_REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(crate) struct Assertions {
    issuer: String,
    audience: String,
    ring: SharedKeyring,
    clock: SharedClock,
    cache: Mutex<AssertionCache>,
}

/// The assertions signed with one ring. A reload replaces the ring, and no assertion outlives its key.
#[derive(Debug)]
struct AssertionCache {
    ring: Arc<Keyring>,
    keys: SigningKeys,
    recent: Recent<String, Assertion, Timestamp>,
}

#[derive(Debug)]
struct Assertion {
    user: User,
    organization: Option<Organization>,
    issued_at: Timestamp,
    value: HeaderValue,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    nid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a str>,
    iat: i64,
    exp: i64,
}

impl AssertionCache {
    fn new(ring: Arc<Keyring>) -> Self {
        Self { keys: ring.signing_keys(), ring, recent: Recent::new(MAX_REMEMBERED) }
    }
}

impl Assertions {
    pub(crate) fn new(issuer: String, audience: String, ring: SharedKeyring, clock: SharedClock) -> Self {
        let cache = Mutex::new(AssertionCache::new(ring.load()));
        Self { issuer, audience, ring, clock, cache }
    }

    /// Calls `with` with the state for the current ring.
    fn cache<T>(&self, with: impl FnOnce(&mut AssertionCache) -> T) -> T {
        let ring = self.ring.load();
        let mut cache = lock(&self.cache);
        if !Arc::ptr_eq(&cache.ring, &ring) {
            *cache = AssertionCache::new(ring);
        }
        with(&mut cache)
    }

    /// The session's assertion, valid for at least another half minute; `None` if there are no random bytes to sign
    /// with.
    pub(super) fn of(&self, session: &Session) -> Option<HeaderValue> {
        let now = self.clock.now();
        self.cache(|cache| {
            let known = cache.recent.get(&session.id, now).filter(|known| {
                // A refresh may have changed the user, and the clock may have been set back.
                known.user == session.user && known.organization == session.organization && known.issued_at <= now
            });
            if let Some(known) = known {
                return Some(known.value.clone());
            }
            let issued_at = Timestamp::from_seconds(now.seconds());
            let value = self.sign(&cache.keys, session, issued_at)?;
            let (user, organization) = (session.user.clone(), session.organization.clone());
            let assertion = Assertion { user, organization, issued_at, value: value.clone() };
            cache.recent.insert(session.id.clone(), assertion, now, issued_at.plus(REUSED));
            Some(value)
        })
    }

    fn sign(&self, keys: &SigningKeys, session: &Session, issued_at: Timestamp) -> Option<HeaderValue> {
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &session.user.id,
            nid: &session.user.nid,
            name: session.user.name.as_deref(),
            org: session.organization.as_ref().map(|organization| organization.id.as_str()),
            iat: issued_at.seconds(),
            exp: issued_at.plus(LIFETIME).seconds(),
        };
        let token = keys.sign(&claims).inspect_err(|error| tracing::error!(%error, "an assertion could not be signed"));
        let mut value = HeaderValue::try_from(token.ok()?).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(super) fn public_keys(&self) -> impl Serialize + use<> {
        self.cache(|cache| cache.keys.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::seal::Key;
    use crate::session::tests::session;

    const SECOND: Duration = Duration::from_secs(1);

    fn ring() -> Keyring {
        Keyring::generate().unwrap()
    }

    fn assertions(ring: &SharedKeyring) -> (Assertions, Arc<ManualClock>) {
        let clock = ManualClock::at(Timestamp::from_millis(1_000_000_400));
        let assertions = Assertions::new("https://a.example".to_owned(), "app".to_owned(), ring.clone(), clock.clone());
        (assertions, clock)
    }

    #[test]
    fn a_session_is_signed_once_in_half_a_minute() {
        let (assertions, clock) = assertions(&SharedKeyring::new(ring()));
        let first = assertions.of(&session(true)).unwrap();
        clock.advance(29 * SECOND);
        assert_eq!(assertions.of(&session(true)).unwrap(), first, "another copy of the session gets the same one");
        clock.advance(Duration::from_millis(600));
        let second = assertions.of(&session(true)).unwrap();
        assert_ne!(second, first, "less than half a minute would be left");
        clock.set(Timestamp::from_seconds(900_000));
        assert_ne!(assertions.of(&session(true)).unwrap(), second, "the clock was set back");
    }

    #[test]
    fn another_user_organization_or_session_has_another_assertion() {
        let (assertions, _) = assertions(&SharedKeyring::new(ring()));
        let first = assertions.of(&session(true)).unwrap();
        let mut other = session(true);
        other.organization = None;
        assert_ne!(assertions.of(&other).unwrap(), first);
        let mut other = session(true);
        other.user.name = None;
        assert_ne!(assertions.of(&other).unwrap(), first);
        let mut other = session(true);
        other.id = "another".to_owned();
        assert_ne!(assertions.of(&other).unwrap(), first);
    }

    #[test]
    fn no_assertion_outlives_its_key() {
        let key = Key::parse(&Key::generate().unwrap()).unwrap();
        let shared = SharedKeyring::new(Keyring::new(vec![key.clone()]).unwrap());
        let (assertions, _) = assertions(&shared);
        let keys = || serde_json::to_value(assertions.public_keys()).unwrap()["keys"].as_array().unwrap().clone();
        let (first, old) = (assertions.of(&session(true)).unwrap(), keys());
        let new = Key::parse(&Key::generate().unwrap()).unwrap();
        shared.replace(Keyring::new(vec![new, key]).unwrap());
        let second = assertions.of(&session(true)).unwrap();
        let head = |value: &HeaderValue| value.to_str().unwrap().split('.').next().unwrap().to_owned();
        assert_ne!(head(&second), head(&first), "the first key signs");
        assert_eq!((keys().len(), &keys()[1]), (2, &old[0]), "all of them verify");
        shared.replace(ring());
        assert!(keys().len() == 1 && keys()[0] != old[0]);
    }
}
