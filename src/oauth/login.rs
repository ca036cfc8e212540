//! The beginning of a sign-in: state, PKCE and the way back.
//!
//! In: where the browser wanted to go. Out: a [`Login`] for a sealed cookie of its own, a sealed `state`, and the address at
//! Upwork to send the browser to. The verifier never leaves the cookie; the `state` names the cookie's sign-in and counts
//! the ones that failed before it, since it comes back even when cookies do not.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use subtle::ConstantTimeEq;

use super::{Config, Grant};
use crate::clock::Timestamp;
use crate::cookies::{Jar, RequestCookies, TooLarge};
use crate::router::ReturnTo;
use crate::seal::{Keyring, NoRandomness, Purpose, random};

/// How long a sign-in may take.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// Sign-ins of one browser that may be under way; an older one makes room.
pub(crate) const MOST: usize = 8;
/// Bytes of their cookies that one browser carries at the most, as far as it has shown them: a proxy in front (nginx by
/// default) takes 8 KiB of `Cookie`, and the app has its own.
const MOST_BYTES: usize = 3400;
/// The larger a cookie, the fewer of the places are open to it, since those that begin at once do not know of each other.
const PLACES_BYTES: usize = 2400;
/// Places that are open to the largest.
const FEWEST: usize = 2;
/// Failed sign-ins in a row, after which a page stops the next.
pub(crate) const MOST_FAILURES: u8 = 3;
/// Bytes of a return address that the `state` carries too, so that it survives a lost cookie.
const STATE_RETURN: usize = 256;

/// A sign-in under way, as its cookie keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "v")]
    verifier: Verifier,
    #[serde(rename = "r")]
    return_to: String,
    #[serde(rename = "t")]
    began_at: Timestamp,
}

/// The PKCE secret (RFC 7636 section 4.1): 32 random bytes, base64url.
#[derive(Clone, Serialize, Deserialize)]
struct Verifier(String);

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// What the `state` parameter says once opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    #[serde(rename = "i")]
    id: String,
    /// Sign-ins in a row that failed before this one.
    #[serde(rename = "f")]
    pub failures: u8,
    #[serde(rename = "t")]
    began_at: Timestamp,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    return_to: Option<String>,
}

impl State {
    /// Opens a `state`; `None` where it is not one of ours. A stale one opens too: it still counts failures.
    pub fn open(ring: &Keyring, text: &str) -> Option<Self> {
        serde_json::from_slice(&ring.open(Purpose::State, text)?.bytes).ok()
    }

    /// Older than a sign-in may be.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.began_at) > LIFETIME
    }

    /// When the sign-in began, by the clock of whoever sealed it.
    pub fn began_at(&self) -> Timestamp {
        self.began_at
    }

    /// Where the browser wanted to go, where the address was short enough to ride along.
    pub fn return_to(&self, prefix: &str) -> Option<ReturnTo> {
        ReturnTo::parse(self.return_to.as_deref()?, prefix)
    }
}

/// A sign-in that has begun: what to send, and what to set.
#[derive(Debug)]
pub struct Begun {
    /// Upwork's authorization page.
    pub location: String,
    /// The sealed [`Login`], for its cookie.
    pub cookie: String,
}

impl Login {
    /// Begins a sign-in, after `failures` that failed in a row.
    pub fn begin(
        config: &Config,
        ring: &Keyring,
        return_to: &ReturnTo,
        failures: u8,
        now: Timestamp,
    ) -> Result<Begun, NoRandomness> {
        let login = Self {
            id: URL_SAFE_NO_PAD.encode(random::<16>()?),
            verifier: Verifier(URL_SAFE_NO_PAD.encode(random::<32>()?)),
            return_to: return_to.as_str().to_owned(),
            began_at: now,
        };
        let short = (return_to.as_str().len() <= STATE_RETURN).then(|| return_to.as_str().to_owned());
        let state = State { id: login.id.clone(), failures, began_at: now, return_to: short };
        let bytes = |value: serde_json::Result<Vec<u8>>| value.map_err(|_| NoRandomness);
        let cookie = ring.seal(Purpose::Login, &bytes(serde_json::to_vec(&login))?)?;
        let state = ring.seal(Purpose::State, &bytes(serde_json::to_vec(&state))?)?;
        Ok(Begun { location: login.location(config, &state), cookie })
    }

    /// RFC 6749 section 4.1.1 (or 4.2.1), RFC 7636 section 4.3.
    fn location(&self, config: &Config, state: &str) -> String {
        let mut url = config.authorize_url.clone();
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.0.as_bytes()));
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", if config.grant == Grant::Code { "code" } else { "token" });
        query.append_pair("client_id", &config.client_id);
        query.append_pair("redirect_uri", &config.redirect_uri);
        query.append_pair("state", state);
        if config.grant == Grant::Code {
            query.append_pair("code_challenge", &challenge).append_pair("code_challenge_method", "S256");
        }
        drop(query);
        url.into()
    }

    /// Opens a login cookie's value; `None` for one of another purpose, an old key, or gone stale.
    pub fn open(ring: &Keyring, text: &str, now: Timestamp) -> Option<Self> {
        let login: Self = serde_json::from_slice(&ring.open(Purpose::Login, text)?.bytes).ok()?;
        (now.since(login.began_at) <= LIFETIME).then_some(login)
    }

    /// Whether `state` belongs to this sign-in.
    pub fn matches(&self, state: &State) -> bool {
        self.id.as_bytes().ct_eq(state.id.as_bytes()).into()
    }

    /// Where the browser wanted to go.
    pub fn return_to(&self, prefix: &str) -> ReturnTo {
        ReturnTo::parse(&self.return_to, prefix).unwrap_or_else(ReturnTo::home)
    }

    /// When it began.
    pub fn began_at(&self) -> Timestamp {
        self.began_at
    }

    /// Its name, random and its own.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier.0
    }
}

/// The cookies of the sign-ins under way: as many names as there may be sign-ins, so that they are bounded whatever comes.
#[derive(Clone, Debug)]
pub struct LoginJars {
    jars: Vec<Jar>,
    base: String,
}

impl LoginJars {
    /// `NAME-login-1` … `NAME-login-8`.
    pub fn new(session_cookie: &str, secure: bool) -> Self {
        let base = format!("{session_cookie}-login-");
        Self { jars: (1..=MOST).map(|place| Jar::new(format!("{base}{place}"), secure)).collect(), base }
    }

    /// Whether a cookie of this name is one of these.
    pub fn owns(&self, name: &str) -> bool {
        name.starts_with(self.base.as_str())
    }

    /// Every sign-in under way that the request shows, with the place of its cookie.
    pub fn open(&self, ring: &Keyring, cookies: &RequestCookies, now: Timestamp) -> Vec<(usize, Login)> {
        self.jars
            .iter()
            .enumerate()
            .flat_map(|(place, jar)| jar.candidates(cookies).into_iter().map(move |value| (place, value)))
            .filter_map(|(place, value)| Some((place, Login::open(ring, &value, now)?)))
            .collect()
    }

    /// Whether the request shows a sign-in that was sealed with a key we do not have.
    pub fn foreign(&self, ring: &Keyring, cookies: &RequestCookies) -> bool {
        let mut values = self.jars.iter().flat_map(|jar| jar.candidates(cookies));
        values.any(|value| ring.open(Purpose::Login, &value).is_none())
    }

    /// Whether the request shows any cookie of these, opened or not.
    pub fn any(&self, cookies: &RequestCookies) -> bool {
        cookies.iter().any(|(name, _)| self.owns(name))
    }

    /// The `Set-Cookie` values for a new sign-in: in a free place, by turns, else in that of the one that began first; and
    /// what makes room for it, the oldest first. No few long return addresses make a `Cookie` field that nobody takes.
    pub fn set(
        &self,
        cookie: &str,
        under_way: &[(usize, Login)],
        turn: usize,
        seen: &RequestCookies,
    ) -> Result<Vec<HeaderValue>, TooLarge> {
        let open = (PLACES_BYTES / cookie.len().max(1)).clamp(FEWEST, MOST);
        let began = |place: usize| under_way.iter().filter(|(used, _)| *used == place).map(|(_, l)| l.began_at()).max();
        // One that does not open any more began before all others.
        let taken = (0..open).map(|step| (turn + step) % open).min_by_key(|place| began(*place)).unwrap_or(0);
        let mut lines = self.jar(taken).map_or(Ok(Vec::new()), |jar| jar.set(cookie, LIFETIME, seen))?;
        let mut others: Vec<(usize, &Jar)> =
            self.all().iter().enumerate().filter(|(place, _)| *place != taken).collect();
        others.sort_by_key(|(place, _)| began(*place));
        let bytes = |jar: &Jar| {
            seen.iter().filter(|(name, _)| jar.owns(name)).map(|(name, value)| name.len() + value.len()).sum::<usize>()
        };
        let mut sum = cookie.len() + others.iter().map(|(_, jar)| bytes(jar)).sum::<usize>();
        for (_, jar) in others {
            if sum > MOST_BYTES && bytes(jar) > 0 {
                sum -= bytes(jar);
                lines.extend(jar.clear(seen));
            }
        }
        Ok(lines)
    }

    /// The cookie at `place`.
    pub fn jar(&self, place: usize) -> Option<&Jar> {
        self.jars.get(place)
    }

    /// All of them.
    pub fn all(&self) -> &[Jar] {
        &self.jars
    }
}
