//! Codes and tokens: issued, rotated, expired, revoked.
//!
//! In: who consented, what a client shows, and the time. Out: tokens, or why not. Only hashes of codes and tokens are kept.
//! All tokens that come from one consent are a family.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Config;
use super::accounts::{Account, SERVICE};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A refresh token lives so long since its last use.
const REFRESH_LIFETIME: Duration = Duration::from_hours(14 * 24);
/// A replaced refresh token goes on working for so long.
const REFRESH_GRACE: Duration = Duration::from_hours(24);
/// Between two sweeps of what has ended lie so many tokens or codes.
const SWEEP_EVERY: u64 = 1024;

/// This many random hex digits.
pub(super) fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0; digits.div_ceil(2)];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    let mut hex = to_hex(&bytes);
    hex.truncate(digits);
    hex
}

/// Bytes as hex digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

type Hash = [u8; 32];

fn hash(text: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// What the authorize request committed to (RFC 7636 section 4.3).
#[derive(Clone)]
pub(super) enum Challenge {
    Plain(String),
    S256(String),
}

impl Challenge {
    fn met_by(&self, verifier: &str) -> bool {
        match self {
            Self::Plain(challenge) => challenge == verifier,
            Self::S256(challenge) => *challenge == URL_SAFE_NO_PAD.encode(hash(verifier)),
        }
    }
}

/// What a code is bound to.
#[derive(Clone)]
pub(super) struct Consent {
    pub(super) account: &'static Account,
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<Challenge>,
}

/// What a client shows to have a code redeemed.
pub(super) struct Redemption<'a> {
    pub(super) code: &'a str,
    pub(super) client: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) verifier: Option<&'a str>,
}

/// Fresh tokens.
pub(super) struct Issued {
    pub(super) access: Secret,
    pub(super) refresh: Option<Secret>,
}

/// Why there are none: each an `invalid_grant` (RFC 6749 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Code,
    Verifier,
    Refresh,
}

impl Refused {
    pub(super) fn description(self) -> &'static str {
        match self {
            // Inferred: Upwork's words for these two are not known.
            Self::Code => "Authorization code is expired, used or not registered",
            Self::Verifier => "PKCE verification failed",
            Self::Refresh => "Refresh token is expired or revoked or not registered",
        }
    }
}

#[derive(Clone)]
struct Family {
    account: &'static Account,
    client: String,
    ended: bool,
}

struct Access {
    family: u64,
    ends: Timestamp,
}

struct Refresh {
    family: u64,
    ends: Timestamp,
    replaced: bool,
}

struct Code {
    consent: Consent,
    ends: Timestamp,
    /// The family that came of it; a code is redeemed once.
    family: Option<u64>,
}

#[derive(Default)]
pub(super) struct Grants {
    families: HashMap<u64, Family>,
    access: HashMap<Hash, Access>,
    refresh: HashMap<Hash, Refresh>,
    codes: HashMap<Hash, Code>,
    made: u64,
}

impl Grants {
    /// A code for somebody who consented.
    pub(super) fn code(&mut self, consent: Consent, config: &Config, now: Timestamp) -> Secret {
        self.count(now);
        let code = random_hex(32);
        self.codes.insert(hash(&code), Code { consent, ends: now.plus(config.code_lifetime), family: None });
        Secret::new(code)
    }

    /// Redeems a code, once. A code shown again ends what it gave before (RFC 6749 section 4.1.2).
    pub(super) fn redeem(&mut self, shown: &Redemption, config: &Config, now: Timestamp) -> Result<Issued, Refused> {
        let key = hash(shown.code);
        let code = self.codes.get(&key).ok_or(Refused::Code)?;
        let bound = code.consent.client == shown.client && code.consent.redirect_uri == shown.redirect_uri;
        if !bound || code.ends <= now {
            return Err(Refused::Code);
        }
        if let Some(family) = code.family {
            self.end(family);
            return Err(Refused::Code);
        }
        // A verifier for a code that was asked for without a challenge is a downgrade (RFC 9700 section 4.8.2).
        let proven = match (&code.consent.challenge, shown.verifier) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => challenge.met_by(verifier),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !proven {
            return Err(Refused::Verifier);
        }
        let family = self.family(code.consent.account, shown.client, now);
        if let Some(code) = self.codes.get_mut(&key) {
            code.family = Some(family);
        }
        Ok(self.issue(family, config, now))
    }

    /// Access and refresh token of a new family.
    pub(super) fn open(&mut self, account: &'static Account, client: &str, config: &Config, now: Timestamp) -> Issued {
        let family = self.family(account, client, now);
        self.issue(family, config, now)
    }

    /// An access token alone: the implicit grant's.
    pub(super) fn implicit(
        &mut self,
        account: &'static Account,
        client: &str,
        config: &Config,
        now: Timestamp,
    ) -> Secret {
        let family = self.family(account, client, now);
        self.access_token(family, config, now)
    }

    /// An access token alone, of the service account.
    pub(super) fn service(&mut self, client: &str, config: &Config, now: Timestamp) -> Secret {
        self.implicit(&SERVICE, client, config, now)
    }

    /// Rotates: a new pair; the old refresh token works for a day more, and the old access token to its own end.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: &str,
        config: &Config,
        now: Timestamp,
    ) -> Result<Issued, Refused> {
        let family = self.refreshable(token, client, now).ok_or(Refused::Refresh)?;
        let refresh = self.refresh.get_mut(&hash(token)).ok_or(Refused::Refresh)?;
        if refresh.replaced && config.strict {
            self.end(family);
            return Err(Refused::Refresh);
        }
        if !refresh.replaced {
            refresh.replaced = true;
            refresh.ends = refresh.ends.min(now.plus(REFRESH_GRACE));
        }
        Ok(self.issue(family, config, now))
    }

    /// Ends the family of a refresh token.
    pub(super) fn kill(&mut self, token: &str) {
        if let Some(family) = self.refresh.get(&hash(token)).map(|refresh| refresh.family) {
            self.end(family);
        }
    }

    /// RFC 7009 section 2.1: a refresh token takes its family with it, an access token only itself. Another client's
    /// token stays.
    pub(super) fn revoke(&mut self, token: &str, client: &str) {
        let key = hash(token);
        if let Some(family) = self.refresh.get(&key).map(|refresh| refresh.family) {
            if self.live(family).is_some_and(|family| family.client == client) {
                self.end(family);
            }
        } else if let Some(access) = self.access.get(&key)
            && self.live(access.family).is_some_and(|family| family.client == client)
        {
            self.access.remove(&key);
        }
    }

    /// Whom an access token stands for.
    pub(super) fn holder(&self, token: &str, now: Timestamp) -> Option<&'static Account> {
        let access = self.access.get(&hash(token)).filter(|access| now < access.ends)?;
        self.live(access.family).map(|family| family.account)
    }

    pub(super) fn expire_all(&mut self, now: Timestamp) {
        for access in self.access.values_mut() {
            access.ends = access.ends.min(now);
        }
    }

    pub(super) fn revoke_all(&mut self) {
        for family in self.families.values_mut() {
            family.ended = true;
        }
        self.codes.clear();
    }

    fn refreshable(&self, token: &str, client: &str, now: Timestamp) -> Option<u64> {
        let refresh = self.refresh.get(&hash(token)).filter(|refresh| now < refresh.ends)?;
        self.live(refresh.family).filter(|family| family.client == client).map(|_| refresh.family)
    }

    fn live(&self, family: u64) -> Option<&Family> {
        self.families.get(&family).filter(|family| !family.ended)
    }

    fn end(&mut self, family: u64) {
        if let Some(family) = self.families.get_mut(&family) {
            family.ended = true;
        }
    }

    fn family(&mut self, account: &'static Account, client: &str, now: Timestamp) -> u64 {
        self.count(now);
        self.families.insert(self.made, Family { account, client: client.to_owned(), ended: false });
        self.made
    }

    fn issue(&mut self, family: u64, config: &Config, now: Timestamp) -> Issued {
        let access = self.access_token(family, config, now);
        let refresh = token(config);
        let ends = now.plus(REFRESH_LIFETIME);
        self.refresh.insert(hash(&refresh), Refresh { family, ends, replaced: false });
        Issued { access, refresh: Some(Secret::new(refresh)) }
    }

    fn access_token(&mut self, family: u64, config: &Config, now: Timestamp) -> Secret {
        self.count(now);
        let access = token(config);
        self.access.insert(hash(&access), Access { family, ends: now.plus(config.token_lifetime) });
        Secret::new(access)
    }

    /// Numbers what is made, and now and then drops what has ended.
    fn count(&mut self, now: Timestamp) {
        self.made += 1;
        if !self.made.is_multiple_of(SWEEP_EVERY) {
            return;
        }
        self.codes.retain(|_, code| now < code.ends);
        self.access.retain(|_, access| now < access.ends);
        self.refresh.retain(|_, refresh| now < refresh.ends);
        // A family whose tokens are all gone, but which a code still names, is not needed either: its end is their end.
        let used: std::collections::HashSet<u64> = (self.access.values().map(|access| access.family))
            .chain(self.refresh.values().map(|refresh| refresh.family))
            .collect();
        let newest = self.made;
        self.families.retain(|number, _| used.contains(number) || *number + 2 > newest);
    }
}

fn token(config: &Config) -> String {
    format!("oauth2v2_{}", random_hex(config.token_chars))
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
