//! Begins a sign-in: `state`, PKCE and the return address.
//!
//! A sign-in is kept in its own sealed cookie, with its PKCE verifier, which never leaves the cookie. The sealed
//! `state` names that cookie's sign-in and counts the failed ones before it, since it comes back even when cookies do
//! not.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::config::Config;
use crate::clock::Timestamp;
use crate::router::ReturnTo;
use crate::seal::{Keyring, NoRandomness, Purpose, random};
use crate::session::Grant;

/// How long a sign-in may take: its cookie's age, by the browser's clock.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// How far the clocks of replicas may differ.
const SKEW: Duration = Duration::from_secs(600);
/// The number of failed sign-ins in a row after which a page stops the next.
pub(crate) const MAX_FAILURES: u8 = 3;
/// The longest return address that the `state` carries too, so that it survives a lost cookie.
const MAX_STATE_RETURN: usize = 256;

/// A pending sign-in, as its cookie keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "v")]
    verifier: CodeVerifier,
    #[serde(rename = "r")]
    return_to: String,
    #[serde(rename = "t")]
    pub(super) began_at: Timestamp,
}

/// The PKCE secret (RFC 7636 section 4.1): 32 random bytes, base64url.
#[derive(Clone, Serialize, Deserialize)]
struct CodeVerifier(String);

impl std::fmt::Debug for CodeVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeVerifier(…)")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    #[serde(rename = "i")]
    id: String,
    /// Sign-ins in a row that failed before this one.
    #[serde(rename = "f")]
    pub failures: u8,
    /// By the clock of the replica that sealed it.
    #[serde(rename = "t")]
    pub(crate) began_at: Timestamp,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    return_to: Option<String>,
}

impl State {
    /// Opens a `state`; `None` if it is not one of ours. An expired one opens too, because it still counts failures.
    pub fn open(ring: &Keyring, text: &str) -> Option<Self> {
        ring.open_json(Purpose::State, text)
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        now.since(self.began_at) > LIFETIME + SKEW
    }

    /// Where the browser wanted to go, if the address was short enough for the `state`.
    pub(crate) fn return_to(&self, prefix: &str) -> Option<ReturnTo> {
        ReturnTo::parse(self.return_to.as_deref()?, prefix)
    }
}

/// An authorization request (RFC 6749 section 4.1.1), and the cookie that its callback needs.
#[derive(Debug)]
pub struct AuthorizationRequest {
    /// The authorization endpoint with its query, for the browser.
    pub url: String,
    /// The sealed [`Login`].
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
    ) -> Result<AuthorizationRequest, NoRandomness> {
        let login = Self {
            id: URL_SAFE_NO_PAD.encode(random::<16>()?),
            verifier: CodeVerifier(URL_SAFE_NO_PAD.encode(random::<32>()?)),
            return_to: return_to.as_str().to_owned(),
            began_at: now,
        };
        let short = Some(login.return_to.clone()).filter(|address| address.len() <= MAX_STATE_RETURN);
        let state = State { id: login.id.clone(), failures, began_at: now, return_to: short };
        let state = ring.seal_json(Purpose::State, &state)?;
        Ok(AuthorizationRequest {
            url: login.authorization_url(config, &state),
            cookie: ring.seal_json(Purpose::Login, &login)?,
        })
    }

    /// RFC 6749 section 4.1.1 (or 4.2.1), RFC 7636 section 4.3.
    fn authorization_url(&self, config: &Config, state: &str) -> String {
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

    /// Opens a login cookie's value; `None` for another purpose, an unknown key, or an expired sign-in.
    pub fn open(ring: &Keyring, text: &str, now: Timestamp) -> Option<Self> {
        let login: Self = ring.open_json(Purpose::Login, text)?;
        (now.since(login.began_at) <= LIFETIME + SKEW).then_some(login)
    }

    /// When no replica accepts it any more, by this one's clock.
    pub(crate) fn is_over_at(&self, now: Timestamp) -> Timestamp {
        self.began_at.max(now).plus(LIFETIME + SKEW)
    }

    pub(super) fn matches(&self, state: &State) -> bool {
        self.id.as_bytes().ct_eq(state.id.as_bytes()).into()
    }

    pub(crate) fn return_to(&self, prefix: &str) -> ReturnTo {
        ReturnTo::parse(&self.return_to, prefix).unwrap_or_else(ReturnTo::home)
    }

    /// Random, and different for each sign-in.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier.0
    }
}
