//! Personal access tokens as records: their hash, whose they are, what they may, until when.
//!
//! In: a token that was made or shown. Out: its record. The token's text is never kept; a record is found by the first bits
//! of its hash, and compared with all of it. Beside it, an empty record under its owner's namespace says whose it is, so that
//! nobody's list is found by reading everybody's. Both end by themselves.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::kept::owner;
use super::records::{Expect, NewRecord, Record, Version};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::session::personal::PersonalToken;

const TOKENS: &str = "token";

/// The namespace that lists a user's tokens by id.
fn tokens_of(user: &str) -> String {
    format!("{TOKENS}-{}", owner(user))
}

/// What is known of a personal access token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What it is listed and revoked by.
    #[serde(rename = "i")]
    pub id: String,
    /// `user.id` of its owner.
    #[serde(rename = "u")]
    pub user: String,
    /// What its owner called it.
    #[serde(rename = "n")]
    pub name: String,
    /// When it was made.
    #[serde(rename = "c")]
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(rename = "e")]
    pub expires_at: Timestamp,
    /// When a call last came with it, to the minute.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// It may read only.
    #[serde(rename = "r")]
    pub read_only: bool,
    #[serde(rename = "h")]
    hash: String,
    #[serde(skip)]
    version: Option<Version>,
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewTokenRecord {
    /// `user.id` of its owner.
    pub user: String,
    /// What its owner called it.
    pub name: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// It may read only.
    pub read_only: bool,
}

impl Store {
    /// Keeps the hash of a token.
    pub async fn add_token(
        &self,
        token: &PersonalToken,
        new: NewTokenRecord,
        now: Timestamp,
    ) -> Result<TokenRecord, StoreError> {
        let NewTokenRecord { user, name, expires_at, read_only } = new;
        let record = TokenRecord {
            id: token.id(),
            user,
            name,
            created_at: now,
            expires_at,
            last_used_at: None,
            read_only,
            hash: token.hash().to_text(),
            version: None,
        };
        // Listed first: a listing without a token does no harm, and ends with what it lists.
        let listing = NewRecord { bytes: &[], expires_at: Some(expires_at) };
        self.put(&tokens_of(&record.user), &record.id, listing, &Expect::Anything).await?;
        if self.put_token(&record, &Expect::Absent).await? {
            return Ok(record);
        }
        // Two tokens whose hashes begin alike: once in 2^64.
        Err(StoreError::Down("the token is there already".to_owned()))
    }

    /// The record of a token that was shown; none for one that was never made, was revoked, or has ended.
    pub async fn find_token(&self, token: &PersonalToken) -> Result<Option<TokenRecord>, StoreError> {
        let found = self.get(TOKENS, &token.id()).await?.and_then(read);
        Ok(found.filter(|record| token.hash().matches(&record.hash)))
    }

    /// A user's tokens, the youngest first.
    pub async fn tokens_of(&self, user: &str) -> Result<Vec<TokenRecord>, StoreError> {
        let mut theirs = Vec::new();
        for id in self.names(&tokens_of(user)).await? {
            let found = self.get(TOKENS, &id).await?.and_then(read);
            theirs.extend(found.filter(|record| record.user == user));
        }
        theirs.sort_by(|one, other| other.created_at.cmp(&one.created_at).then_with(|| one.id.cmp(&other.id)));
        Ok(theirs)
    }

    /// The users who have tokens, each once.
    pub async fn token_owners(&self) -> Result<Vec<String>, StoreError> {
        let all = self.list(TOKENS).await?.into_iter().filter_map(|(_, record)| read(record));
        let mut owners: Vec<String> = all.map(|record| record.user).collect();
        owners.sort();
        owners.dedup();
        Ok(owners)
    }

    /// Forgets a token of this user; false where there is none.
    pub async fn remove_token(&self, user: &str, id: &str) -> Result<bool, StoreError> {
        let theirs = self.get(TOKENS, id).await?.and_then(read).is_some_and(|record| record.user == user);
        if theirs {
            // Whether it was still there says nothing: a delete is sent again where its answer was lost.
            self.delete(TOKENS, id).await?;
            // It is revoked. A listing that stays does no harm, and is no reason to say that it is not.
            let _ = self.delete(&tokens_of(user), id).await;
        }
        Ok(theirs)
    }

    /// Notes that a token was used; nothing where it was revoked meanwhile.
    pub async fn token_used(&self, record: &TokenRecord, now: Timestamp) -> Result<(), StoreError> {
        let Some(version) = record.version.clone() else { return Ok(()) };
        let used = TokenRecord { last_used_at: Some(now), ..record.clone() };
        self.put_token(&used, &Expect::Version(version)).await.map(drop)
    }

    async fn put_token(&self, record: &TokenRecord, expect: &Expect) -> Result<bool, StoreError> {
        // Texts and numbers always serialize.
        let bytes = serde_json::to_vec(record).map(Zeroizing::new).unwrap_or_default();
        let new = NewRecord { bytes: &bytes, expires_at: Some(record.expires_at) };
        Ok(self.put(TOKENS, &record.id, new, expect).await?.is_some())
    }
}

fn read(record: Record) -> Option<TokenRecord> {
    let found: TokenRecord = serde_json::from_slice(&record.bytes).ok()?;
    Some(TokenRecord { version: Some(record.version), ..found })
}
