//! Records of personal access tokens: hash, owner, name, permissions and expiry.
//!
//! A token's text is never stored. A record is found by the first bits of its token's hash, and then the whole hash is
//! compared. An empty record in a namespace of the owner lists it, so that a user's tokens are found without reading
//! everyone's.

use serde::{Deserialize, Serialize};

use super::backend::{Expect, Version};
use super::lock::Lock;
use super::sealed_store::{NewRecord, Record, owner};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::seal::to_json;
use crate::session::personal::PersonalToken;

const TOKENS: &str = "token";

/// The namespace that lists a user's tokens by id.
fn tokens_of(user: &str) -> String {
    format!("{TOKENS}-{}", owner(user))
}

/// What a personal access token opens: a list of words, as in OAuth (RFC 6749 section 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::EnumString)]
pub enum TokenScope {
    #[default]
    #[serde(rename = "api")]
    #[strum(serialize = "api")]
    Api,
    #[serde(rename = "app")]
    #[strum(serialize = "app")]
    App,
    #[serde(rename = "api app")]
    #[strum(serialize = "api app")]
    Both,
}

impl TokenScope {
    pub(crate) const fn has_api(self) -> bool {
        matches!(self, Self::Api | Self::Both)
    }

    pub(crate) const fn has_app(self) -> bool {
        matches!(self, Self::App | Self::Both)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// For lists and for revoking it.
    #[serde(rename = "i")]
    pub id: String,
    /// `user.id` of its owner.
    #[serde(rename = "u")]
    pub user: String,
    #[serde(rename = "n")]
    pub name: String,
    /// The token's first characters, so that its owner recognizes it: 24 of its 190 random bits.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub starts_with: String,
    #[serde(rename = "c")]
    pub created_at: Timestamp,
    #[serde(rename = "e")]
    pub expires_at: Timestamp,
    /// To the minute.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    #[serde(rename = "r")]
    pub read_only: bool,
    #[serde(rename = "o", default)]
    pub scope: TokenScope,
    #[serde(rename = "h")]
    hash: String,
    #[serde(skip)]
    version: Option<Version>,
}

#[derive(Clone, Debug)]
pub struct NewTokenRecord {
    /// `user.id` of its owner.
    pub user: String,
    pub name: String,
    pub expires_at: Timestamp,
    pub read_only: bool,
    pub scope: TokenScope,
}

impl Store {
    /// Locks a user's personal access tokens, so that one request at a time counts them and adds one.
    pub async fn lock_tokens(&self, user_id: &str) -> Result<Lock, StoreError> {
        let busy = || StoreError::Down("another request is creating a token".to_owned());
        self.lock(&tokens_of(user_id)).await?.ok_or_else(busy)
    }

    pub async fn add_token(
        &self,
        token: &PersonalToken,
        new: NewTokenRecord,
        now: Timestamp,
    ) -> Result<TokenRecord, StoreError> {
        let NewTokenRecord { user, name, expires_at, read_only, scope } = new;
        let record = TokenRecord {
            id: token.id(),
            user,
            name,
            starts_with: token.start(),
            created_at: now,
            expires_at,
            last_used_at: None,
            read_only,
            scope,
            hash: token.hash().expose().to_owned(),
            version: None,
        };
        // Listed first: a listing without its token is harmless, and expires when the token would.
        let listing = NewRecord { bytes: &[], expires_at: Some(expires_at) };
        self.put(&tokens_of(&record.user), &record.id, listing, &Expect::Anything).await?;
        if self.put_token(&record, &Expect::Absent).await? {
            return Ok(record);
        }
        // Two tokens whose hashes share their first bits: a chance of 1 in 2^64.
        Err(StoreError::Down("the token exists already".to_owned()))
    }

    /// `None` for a token that was never issued, was revoked, or has expired.
    pub async fn find_token(&self, token: &PersonalToken) -> Result<Option<TokenRecord>, StoreError> {
        let found = self.get(TOKENS, &token.id()).await?.and_then(read);
        Ok(found.filter(|record| token.hash().matches(record.hash.as_bytes())))
    }

    pub async fn tokens_of(&self, user: &str) -> Result<Vec<TokenRecord>, StoreError> {
        let mut theirs = Vec::new();
        for id in self.names(&tokens_of(user)).await? {
            let found = self.get(TOKENS, &id).await?.and_then(read);
            theirs.extend(found.filter(|record| record.user == user));
        }
        theirs.sort_by(|one, other| other.created_at.cmp(&one.created_at).then_with(|| one.id.cmp(&other.id)));
        Ok(theirs)
    }

    /// Every user who has tokens, once.
    pub async fn token_owners(&self) -> Result<Vec<String>, StoreError> {
        let all = self.list(TOKENS).await?.into_iter().filter_map(|(_, record)| read(record));
        let mut owners: Vec<String> = all.map(|record| record.user).collect();
        owners.sort();
        owners.dedup();
        Ok(owners)
    }

    /// Revokes a token; false if this user has no such token.
    pub async fn remove_token(&self, user: &str, id: &str) -> Result<bool, StoreError> {
        let theirs = self.get(TOKENS, id).await?.and_then(read).is_some_and(|record| record.user == user);
        if theirs {
            // Ignore whether it was still there: a delete is repeated if its answer was lost.
            self.delete(TOKENS, id).await?;
            // The token is revoked. A remaining listing is harmless and no reason to report a failure.
            let _ = self.delete(&tokens_of(user), id).await;
        }
        Ok(theirs)
    }

    /// Records the use of a token, unless it was revoked in the meantime.
    pub async fn token_used(&self, record: &TokenRecord, now: Timestamp) -> Result<(), StoreError> {
        let Some(version) = record.version.clone() else { return Ok(()) };
        let used = TokenRecord { last_used_at: Some(now), ..record.clone() };
        self.put_token(&used, &Expect::Version(version)).await.map(drop)
    }

    async fn put_token(&self, record: &TokenRecord, expect: &Expect) -> Result<bool, StoreError> {
        let new = NewRecord { bytes: &to_json(record), expires_at: Some(record.expires_at) };
        Ok(self.put(TOKENS, &record.id, new, expect).await?.is_some())
    }
}

fn read(record: Record) -> Option<TokenRecord> {
    let found: TokenRecord = serde_json::from_slice(&record.bytes).ok()?;
    Some(TokenRecord { version: Some(record.version), ..found })
}
