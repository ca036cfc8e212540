//! The service identity's refresh token: one record in the store, rotated by one replica at a time.
//!
//! The first token comes from the file that `upwarden login` wrote, and is imported once. After that the record is used
//! until Upwork ends its grant; then a file with a different token is imported the same way. New tokens are written
//! into the store **before** they are used. If the store does not accept them, they wait in memory; a process that dies
//! in between leaves the old token in the record, which Upwork accepts for another 24 hours.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::oauth::config::{ServiceConfig, ServiceGrant};
use crate::oauth::dependencies::Dependencies;
use crate::oauth::refresh::RefreshError;
use crate::oauth::token::{Client, TokenError, TokenGrant};
use crate::pacing::CallerId;
use crate::seal::to_json;
use crate::secret::LiveSecret;
use crate::session::Tokens;
use crate::session::tokens::RefreshToken;
use crate::store::{Expect, Store, StoreError, Version};

/// Upwork's refresh tokens expire this long after their last use (docs/upwork.md "Token").
pub(super) const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(14 * 86_400);
/// The pause after the first failure; it doubles with each further one.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// The pause if only a new file can help. Upwork is not called in the meantime.
const FILE_PAUSE: Duration = Duration::from_secs(30);
/// A longer `Retry-After` counts as this one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

const RECORD: &str = "service";
const LOCK: &str = "grant-service";

#[derive(Serialize, Deserialize)]
struct GrantRecord {
    #[serde(rename = "t")]
    tokens: Tokens,
    /// The fingerprint of the token that was imported from the file.
    #[serde(rename = "f")]
    imported: String,
    #[serde(rename = "d", default)]
    ended: bool,
}

/// The rotation, and what a process remembers between two attempts.
pub(super) struct Rotation {
    deps: Dependencies,
    client_id: String,
    client_secret: LiveSecret,
    file: Option<PathBuf>,
    /// Tokens that the store did not accept yet, with the fingerprint of what they replace.
    unsaved: Option<(String, Tokens)>,
    /// The fingerprint of a token in the file that Upwork refused.
    refused: Option<String>,
    failures: u32,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("failures", &self.failures).finish_non_exhaustive()
    }
}

/// A token to redeem, and how to write the one that replaces it.
struct Source {
    token: RefreshToken,
    imported: String,
    expect: Expect,
}

/// Whether the store has a refresh token of the service identity that Upwork has not ended.
pub(crate) async fn is_stored(store: &Store) -> Result<bool, StoreError> {
    let found = store.get_grant(RECORD).await?;
    let record = found.and_then(|found| serde_json::from_slice::<GrantRecord>(&found.bytes).ok());
    Ok(record.is_some_and(|record| !record.ended && record.tokens.refresh.is_some()))
}

fn fingerprint(token: &RefreshToken) -> String {
    URL_SAFE_NO_PAD.encode(token.digest())
}

impl Rotation {
    pub(super) fn new(config: &ServiceConfig, deps: &Dependencies) -> Self {
        let file = match &config.grant {
            ServiceGrant::RefreshToken { file } => file.clone(),
            ServiceGrant::ClientCredentials => None,
        };
        Self {
            deps: deps.clone(),
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            file,
            unsaved: None,
            refused: None,
            failures: 0,
        }
    }

    pub(super) fn pause(&mut self, error: &RefreshError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        pause(self.failures, error)
    }

    /// The record's tokens if they are fresh, otherwise new ones.
    pub(super) async fn rotate(
        &mut self,
        caller: &CallerId,
        is_fresh: &(dyn Fn(&Tokens) -> bool + Sync),
    ) -> Result<Tokens, RefreshError> {
        let busy =
            || RefreshError::unavailable("another replica has been refreshing the service identity for too long");
        let lock = self.deps.store.lock(LOCK).await?.ok_or_else(busy)?;
        let outcome = self.rotate_locked(caller, is_fresh).await;
        lock.release().await;
        if outcome.is_ok() {
            self.failures = 0;
        }
        outcome
    }

    async fn rotate_locked(
        &mut self,
        caller: &CallerId,
        is_fresh: &(dyn Fn(&Tokens) -> bool + Sync),
    ) -> Result<Tokens, RefreshError> {
        // Once for the record, once more for another token in the file.
        for _ in 0..2 {
            let found = self.deps.store.get_grant(RECORD).await?;
            let found = found.and_then(|found| {
                let record: GrantRecord = serde_json::from_slice(&found.bytes).ok()?;
                Some((record, found.version))
            });
            if let Some((record, _)) = found.as_ref().filter(|(record, _)| !record.ended)
                && is_fresh(&record.tokens)
            {
                return Ok(record.tokens.clone());
            }
            let source = match &found {
                Some((
                    GrantRecord { ended: false, tokens: Tokens { refresh: Some(token), .. }, imported },
                    version,
                )) => {
                    let expect = Expect::Version(version.clone());
                    Source { token: token.clone(), imported: imported.clone(), expect }
                }
                _ => self.import(found.as_ref()).await?,
            };
            match self.redeem(caller, &source.token).await {
                Ok(tokens) => return self.write(tokens, source).await,
                Err(TokenError::InvalidGrant(reason)) => {
                    tracing::error!(reason, "Upwork has ended the service identity's grant");
                    self.refused = Some(fingerprint(&source.token));
                    self.mark_ended(found).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(grant_ended())
    }

    /// The tokens that Upwork issues for this token, or issued before and that could not be written.
    async fn redeem(&self, caller: &CallerId, token: &RefreshToken) -> Result<Tokens, TokenError> {
        match &self.unsaved {
            Some((replaced, tokens)) if *replaced == fingerprint(token) => Ok(tokens.clone()),
            Some(_) | None => {
                let secret = self.client_secret.load();
                let client = Client { id: &self.client_id, secret: &secret, redirect_uri: "" };
                self.deps.refresh(client, TokenGrant::Refresh(token), caller.clone()).await
            }
        }
    }

    /// The token in the file, unless it was tried before.
    async fn import(&self, found: Option<&(GrantRecord, Version)>) -> Result<Source, RefreshError> {
        let missing = |reason: String| RefreshError::Misconfigured(format!("{reason}; run `upwarden login`"));
        let file = match (&self.file, found) {
            (Some(file), _) => file,
            (None, Some(_)) => return Err(grant_ended()),
            (None, None) => {
                let reason = "the store has no refresh token, and service.refresh_token_file names none";
                return Err(missing(reason.to_owned()));
            }
        };
        let shown = file.display();
        let text = match (tokio::fs::read_to_string(file).await.map(Zeroizing::new), found) {
            (Ok(text), _) => text,
            (Err(_), Some(_)) => return Err(grant_ended()),
            (Err(error), None) => {
                return Err(missing(format!("service.refresh_token_file {shown} cannot be read: {error}")));
            }
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let token = RefreshToken::parse(line.strip_suffix('\r').unwrap_or(line).to_owned())
            .map_err(|_| missing(format!("service.refresh_token_file {shown} holds no token")))?;
        let imported = fingerprint(&token);
        let known = found.is_some_and(|(record, _)| record.imported == imported);
        if known || self.refused.as_ref() == Some(&imported) {
            return Err(grant_ended());
        }
        tracing::info!(file = %shown, "the service identity's refresh token is imported");
        let expect = found.map_or(Expect::Absent, |(_, version)| Expect::Version(version.clone()));
        Ok(Source { token, imported, expect })
    }

    /// Writes new tokens into the store, and only then returns them.
    async fn write(&mut self, tokens: Tokens, source: Source) -> Result<Tokens, RefreshError> {
        self.unsaved = Some((fingerprint(&source.token), tokens.clone()));
        let record = GrantRecord { tokens, imported: source.imported, ended: false };
        let written = self.deps.store.put_grant(RECORD, &to_json(&record), &source.expect).await?;
        self.unsaved = None;
        // A replica that kept the lock longer than we did has written another pair, which is equally valid.
        let replaced = || RefreshError::unavailable("another replica refreshed the service identity in the meantime");
        written.ok_or_else(replaced)?;
        let ends_at = record.tokens.issued_at.plus(REFRESH_TOKEN_LIFETIME).rfc3339();
        tracing::info!(refresh_token_ends_at = ends_at, "the service identity was refreshed");
        Ok(record.tokens)
    }

    /// Marks the record as ended, so that no replica and no restart asks again.
    async fn mark_ended(&self, found: Option<(GrantRecord, Version)>) -> Result<(), RefreshError> {
        if let Some((record, version)) = found {
            let record = GrantRecord { ended: true, ..record };
            self.deps.store.put_grant(RECORD, &to_json(&record), &Expect::Version(version)).await?;
        }
        Ok(())
    }
}

fn pause(failures: u32, error: &RefreshError) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE);
    match error {
        RefreshError::Unavailable(unavailable) => {
            pause.max(unavailable.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
        }
        RefreshError::Store(_) => pause,
        RefreshError::Misconfigured(_) | RefreshError::Revoked => FILE_PAUSE,
    }
}

pub(super) fn grant_ended() -> RefreshError {
    RefreshError::Misconfigured(
        "Upwork has ended the service identity’s grant; run `upwarden login` for another one".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::response::Unavailable;

    #[test]
    fn pauses_grow_and_only_a_new_file_is_checked_for_steadily() {
        let down = RefreshError::unavailable("down");
        let pauses: Vec<u64> = (1..10).map(|failures| pause(failures, &down).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(pause(10, &grant_ended()), FILE_PAUSE);
        let retry_after = Some(Duration::from_secs(999_999));
        let asked_to_wait = RefreshError::Unavailable(Unavailable { retry_after, ..Unavailable::no_response("") });
        assert_eq!(pause(11, &asked_to_wait), MAX_RETRY_AFTER);
    }
}
