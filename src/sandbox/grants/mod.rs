//! Codes and tokens: issued, rotated, expired, revoked.
//!
//! Only hashes of codes and tokens are kept. All tokens that come from one consent are a family.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::accounts::Account;
use super::config::Config;
use crate::clock::Timestamp;
use crate::secret::Secret;

/// Since its last use.
const REFRESH_LIFETIME: Duration = Duration::from_hours(14 * 24);
const REFRESH_GRACE: Duration = Duration::from_hours(24);
/// Tokens and codes issued between two sweeps of the expired ones.
const SWEEP_EVERY: u64 = 1024;

pub(super) fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0; digits.div_ceil(2)];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    let mut hex = to_hex(&bytes);
    hex.truncate(digits);
    hex
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
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

/// What a client sends to redeem a code (RFC 6749 section 4.1.3).
pub(super) struct Redemption<'a> {
    pub(super) code: &'a str,
    pub(super) client: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) verifier: Option<&'a str>,
}

/// Fresh tokens.
#[derive(Clone, Debug)]
pub struct TokenPair {
    /// The access token.
    pub access_token: Secret,
    /// The refresh token.
    pub refresh_token: Secret,
}

/// Why no tokens are issued: each an `invalid_grant` (RFC 6749 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantError {
    Code,
    Verifier,
    Refresh,
}

impl GrantError {
    pub(super) fn description(self) -> &'static str {
        match self {
            // Inferred: Upwork's words for the first two are not known.
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
    /// The family it was redeemed for.
    family: Option<u64>,
}

#[derive(Default)]
pub(super) struct Grants {
    families: HashMap<u64, Family>,
    access: HashMap<Hash, Access>,
    refresh: HashMap<Hash, Refresh>,
    codes: HashMap<Hash, Code>,
    /// Codes, families and access tokens issued so far.
    issued: u64,
}

impl Grants {
    pub(super) fn code(&mut self, consent: Consent, config: &Config, now: Timestamp) -> Secret {
        self.count(now);
        let code = random_hex(32);
        self.codes.insert(hash(&code), Code { consent, ends: now.plus(config.code_lifetime), family: None });
        Secret::new(code)
    }

    /// Redeems a code once. Redeeming it again ends the tokens it gave (RFC 6749 section 4.1.2).
    pub(super) fn redeem(
        &mut self,
        redemption: &Redemption,
        config: &Config,
        now: Timestamp,
    ) -> Result<TokenPair, GrantError> {
        let key = hash(redemption.code);
        let code = self.codes.get(&key).ok_or(GrantError::Code)?;
        let bound = code.consent.client == redemption.client && code.consent.redirect_uri == redemption.redirect_uri;
        if !bound || code.ends <= now {
            return Err(GrantError::Code);
        }
        if let Some(family) = code.family {
            self.end(family);
            return Err(GrantError::Code);
        }
        // A verifier for a code that was requested without a challenge is a downgrade (RFC 9700 section 4.8.2).
        let proven = match (&code.consent.challenge, redemption.verifier) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => challenge.met_by(verifier),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !proven {
            return Err(GrantError::Verifier);
        }
        let family = self.family(code.consent.account, redemption.client, now);
        if let Some(code) = self.codes.get_mut(&key) {
            code.family = Some(family);
        }
        Ok(self.issue(family, config, now))
    }

    pub(super) fn open(
        &mut self,
        account: &'static Account,
        client: &str,
        config: &Config,
        now: Timestamp,
    ) -> TokenPair {
        let family = self.family(account, client, now);
        self.issue(family, config, now)
    }

    /// An access token without a refresh token, as of the implicit and the client credentials grant.
    pub(super) fn access_only(
        &mut self,
        account: &'static Account,
        client: &str,
        config: &Config,
        now: Timestamp,
    ) -> Secret {
        let family = self.family(account, client, now);
        self.access_token(family, config, now)
    }

    /// Issues a new pair. The old refresh token works for another day, the old access token until it expires.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: &str,
        config: &Config,
        now: Timestamp,
    ) -> Result<TokenPair, GrantError> {
        let family = self.refreshable(token, client, now).ok_or(GrantError::Refresh)?;
        let refresh = self.refresh.get_mut(&hash(token)).ok_or(GrantError::Refresh)?;
        if refresh.replaced && config.strict {
            self.end(family);
            return Err(GrantError::Refresh);
        }
        if !refresh.replaced {
            refresh.replaced = true;
            refresh.ends = refresh.ends.min(now.plus(REFRESH_GRACE));
        }
        Ok(self.issue(family, config, now))
    }

    pub(super) fn kill(&mut self, token: &str) {
        if let Some(family) = self.refresh.get(&hash(token)).map(|refresh| refresh.family) {
            self.end(family);
        }
    }

    /// Revoking a refresh token ends its family, revoking an access token only itself (RFC 7009 section 2.1). A token of
    /// another client is left alone.
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

    /// The account that an access token was issued for.
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
        self.families.insert(self.issued, Family { account, client: client.to_owned(), ended: false });
        self.issued
    }

    fn issue(&mut self, family: u64, config: &Config, now: Timestamp) -> TokenPair {
        let access_token = self.access_token(family, config, now);
        let refresh = token(config);
        let ends = now.plus(REFRESH_LIFETIME);
        self.refresh.insert(hash(&refresh), Refresh { family, ends, replaced: false });
        TokenPair { access_token, refresh_token: Secret::new(refresh) }
    }

    fn access_token(&mut self, family: u64, config: &Config, now: Timestamp) -> Secret {
        self.count(now);
        let access = token(config);
        self.access.insert(hash(&access), Access { family, ends: now.plus(config.token_lifetime) });
        Secret::new(access)
    }

    /// Counts what is issued, and sometimes drops what has expired.
    fn count(&mut self, now: Timestamp) {
        self.issued += 1;
        if !self.issued.is_multiple_of(SWEEP_EVERY) {
            return;
        }
        self.codes.retain(|_, code| now < code.ends);
        self.access.retain(|_, access| now < access.ends);
        self.refresh.retain(|_, refresh| now < refresh.ends);
        // A family whose tokens are all gone is not needed, even if a code still names it.
        let used: std::collections::HashSet<u64> = (self.access.values().map(|access| access.family))
            .chain(self.refresh.values().map(|refresh| refresh.family))
            .collect();
        let newest = self.issued;
        self.families.retain(|number, _| used.contains(number) || *number + 2 > newest);
    }
}

fn token(config: &Config) -> String {
    format!("oauth2v2_{}", random_hex(config.token_chars))
}

#[cfg(test)]
mod tests;
