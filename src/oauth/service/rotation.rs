//! The service identity by a refresh token: one record in the store, rotated by one replica at a time.
//!
//! In: the record, else the file that `upwarden login` wrote. Out: tokens, written into the store **before** anyone uses
//! them. What Upwork gave and the store would not take waits in memory; a process that dies in between leaves the old token
//! in the record, which Upwork takes for 24 hours more.
//!
//! The file is imported once. Afterwards the record wins, until Upwork has ended what is in it: then a file with another
//! token in it is imported as the first was.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    FIRST_PAUSE, LONGEST_PAUSE, LONGEST_TOLD, LOOK, REFRESH_LIFE, RefreshError, Service, TokenError, TokenGrant,
    Tokens, Why, unavailable,
};
use crate::session::tokens::RefreshToken;
use crate::store::{Expect, Version};

/// The name of the record, and what is locked.
const RECORD: &str = "service";
const LOCK: &str = "grant-service";

/// What the store keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "t")]
    tokens: Tokens,
    /// A digest of the token that was imported from the file.
    #[serde(rename = "f")]
    imported: String,
    /// Upwork has ended it.
    #[serde(rename = "d", default)]
    dead: bool,
}

/// What a process remembers between two tries.
#[derive(Default)]
pub(super) struct Rotation {
    /// Tokens that the store did not take yet, with the digest of what they replace.
    unwritten: Option<(String, Tokens)>,
    /// The digest of a token in the file that Upwork refused.
    refused: Option<String>,
    failures: u32,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("failures", &self.failures).finish_non_exhaustive()
    }
}

impl Rotation {
    /// How long to wait after this failure.
    pub(super) fn pause(&mut self, error: &RefreshError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(10)).min(LONGEST_PAUSE);
        match error {
            RefreshError::Unavailable { retry_after, .. } => {
                pause.max(retry_after.unwrap_or_default().min(LONGEST_TOLD))
            }
            RefreshError::Store(_) => pause,
            RefreshError::Misconfigured(_) | RefreshError::Revoked => LOOK,
        }
    }
}

/// A token to ask with, and how what comes is to be written.
struct Source {
    token: RefreshToken,
    imported: String,
    expect: Expect,
}

fn name(token: &RefreshToken) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.expose().as_bytes()))
}

impl Service {
    /// Tokens that `why` is content with: those of the record, or new ones.
    pub(super) async fn rotate(
        &self,
        turn: &mut Rotation,
        file: Option<&Path>,
        why: Why<'_>,
    ) -> Result<Tokens, RefreshError> {
        let now = self.parts.clock.now();
        if let Some(tokens) = self.current().filter(|tokens| why.content(tokens, now)) {
            return Ok(tokens);
        }
        let busy = || unavailable("another replica has been refreshing the service identity for too long");
        let lock = self.parts.store.lock(LOCK).await?.ok_or_else(busy)?;
        let outcome = self.rotate_alone(turn, file, why).await;
        lock.release().await;
        match &outcome {
            Ok(tokens) => {
                turn.failures = 0;
                self.adopt(tokens);
            }
            Err(error) => {
                self.tell_failure(error);
                self.tell_time_left(self.parts.clock.now());
            }
        }
        outcome
    }

    async fn rotate_alone(
        &self,
        turn: &mut Rotation,
        file: Option<&Path>,
        why: Why<'_>,
    ) -> Result<Tokens, RefreshError> {
        // Once for what is there, once more for another token in the file.
        for _ in 0..2 {
            let record = self.parts.store.get_grant(RECORD).await?;
            let kept = record.and_then(|record| Some((read(&record.bytes)?, record.version)));
            if let Some((kept, _)) = kept.as_ref().filter(|(kept, _)| !kept.dead)
                && why.content(&kept.tokens, self.parts.clock.now())
            {
                return Ok(kept.tokens.clone());
            }
            let source = match &kept {
                Some((Kept { dead: false, tokens: Tokens { refresh: Some(token), .. }, imported }, version)) => {
                    Source { token: token.clone(), imported: imported.clone(), expect: after(version) }
                }
                _ => self.import(turn, file, kept.as_ref()).await?,
            };
            match self.redeem(turn, &source).await {
                Ok(tokens) => return self.write(turn, tokens, source).await,
                Err(TokenError::InvalidGrant(why)) => {
                    tracing::error!(why, "Upwork has ended the service identity's grant");
                    turn.refused = Some(name(&source.token));
                    self.bury(kept).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(dead())
    }

    /// What Upwork gives for this token, or gave before and could not be written.
    async fn redeem(&self, turn: &Rotation, source: &Source) -> Result<Tokens, TokenError> {
        match &turn.unwritten {
            Some((replaced, tokens)) if *replaced == name(&source.token) => Ok(tokens.clone()),
            Some(_) | None => self.ask(TokenGrant::Refresh(&source.token)).await,
        }
    }

    /// The token in the file, where nobody has tried it yet.
    async fn import(
        &self,
        turn: &Rotation,
        file: Option<&Path>,
        kept: Option<&(Kept, Version)>,
    ) -> Result<Source, RefreshError> {
        let missing = |why: String| RefreshError::Misconfigured(format!("{why}; run `upwarden login`"));
        let unnamed =
            || missing("the store has no refresh token, and service.refresh_token_file names none".to_owned());
        let file = match (file, kept) {
            (Some(file), _) => file,
            (None, Some(_)) => return Err(dead()),
            (None, None) => return Err(unnamed()),
        };
        let shown = file.display();
        let text = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
        let text = match (text, kept) {
            (Ok(text), _) => text,
            (Err(_), Some(_)) => return Err(dead()),
            (Err(error), None) => {
                return Err(missing(format!("service.refresh_token_file {shown} cannot be read: {error}")));
            }
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let token = RefreshToken::parse(line.strip_suffix('\r').unwrap_or(line).to_owned())
            .map_err(|_| missing(format!("service.refresh_token_file {shown} holds no token")))?;
        let imported = name(&token);
        let known = kept.is_some_and(|(kept, _)| kept.imported == imported) || turn.refused.as_ref() == Some(&imported);
        if known {
            return Err(dead());
        }
        tracing::info!(file = %shown, "the service identity's refresh token is imported");
        let expect = kept.map_or(Expect::Absent, |(_, version)| after(version));
        Ok(Source { token, imported, expect })
    }

    /// Into the store, and only then to whoever waits.
    async fn write(&self, turn: &mut Rotation, tokens: Tokens, source: Source) -> Result<Tokens, RefreshError> {
        turn.unwritten = Some((name(&source.token), tokens.clone()));
        let Source { imported, expect, .. } = source;
        let kept = Kept { tokens, imported, dead: false };
        let written = self.parts.store.put_grant(RECORD, &write(&kept), &expect).await?;
        turn.unwritten = None;
        // Somebody whose lock outlived ours wrote another pair, which is as good.
        written.ok_or_else(|| unavailable("another replica refreshed the service identity meanwhile"))?;
        let ends_at = kept.tokens.issued_at.plus(REFRESH_LIFE).rfc3339();
        tracing::info!(refresh_token_ends_at = ends_at, "the service identity was refreshed");
        Ok(kept.tokens)
    }

    /// Says in the record that it is over, so that no replica and no restart asks again.
    async fn bury(&self, kept: Option<(Kept, Version)>) -> Result<(), RefreshError> {
        if let Some((kept, version)) = kept {
            let kept = Kept { dead: true, ..kept };
            self.parts.store.put_grant(RECORD, &write(&kept), &after(&version)).await?;
        }
        Ok(())
    }

    fn tell_failure(&self, error: &RefreshError) {
        let now = self.parts.clock.now();
        let ends_at = self.current().map(|tokens| tokens.issued_at.plus(REFRESH_LIFE));
        let left = ends_at.map(|end| end.since(now));
        tracing::warn!(%error, left_seconds = left.map(|left| left.as_secs()), "the service identity could not be refreshed");
        let trouble = match error {
            RefreshError::Misconfigured(why) => why.clone(),
            RefreshError::Revoked => dead().to_string(),
            RefreshError::Unavailable { .. } if left == Some(Duration::ZERO) => {
                "its refresh token has not been used for two weeks, since Upwork gave no answer; run `upwarden login`"
                    .to_owned()
            }
            RefreshError::Store(_) | RefreshError::Unavailable { .. } => return,
        };
        self.tell_trouble(trouble);
    }
}

fn after(version: &Version) -> Expect {
    Expect::Version(version.clone())
}

fn read(bytes: &[u8]) -> Option<Kept> {
    serde_json::from_slice(bytes).ok()
}

fn write(kept: &Kept) -> Zeroizing<Vec<u8>> {
    // Texts and numbers always serialize.
    serde_json::to_vec(kept).map(Zeroizing::new).unwrap_or_default()
}

fn dead() -> RefreshError {
    RefreshError::Misconfigured(
        "Upwork has ended the service identity’s grant; run `upwarden login` for another one".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_only_a_new_file_is_looked_for_steadily() {
        let (mut turn, down) = (Rotation::default(), unavailable("down"));
        let pauses: Vec<u64> = (0..9).map(|_| turn.pause(&down).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(turn.pause(&dead()), LOOK);
        let told = RefreshError::Unavailable { why: String::new(), retry_after: Some(Duration::from_secs(999_999)) };
        assert_eq!(turn.pause(&told), LONGEST_TOLD);
    }
}
