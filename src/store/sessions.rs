//! Sessions as records, each sealed with a key that only its cookie has, so that reading the store reveals nothing.
//!
//! Turns sessions into cookie values and back. A cookie's value is `{id, key}` sealed under the ring, so the ring's
//! keys can be rotated without signing anyone out. The record is `ends_at ‖ session` sealed under the cookie's key with
//! a fresh salt each time, so no nonce repeats. Never gives a record's key to the backend, and never writes an ended
//! session again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::backend::{Backend, Expect, SessionRecord};
use super::grants::{sharers_of, without_tokens};
use super::sealed_store::{NewRecord, SealedStore, owner};
use super::stored_session::{GrantHandle, RecordHandle};
use super::{StoreError, StoredSession};
use crate::clock::Timestamp;
use crate::seal::{Key, Keyring, NoRandomness, Purpose, to_json, unique_part};
use crate::secret::Secret;
use crate::session::Session;

/// The content of a cookie. Neither text needs escaping, so reading it copies nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference<'a> {
    #[serde(rename = "r")]
    id: &'a str,
    #[serde(rename = "k")]
    key: &'a str,
}

impl SealedStore {
    pub(super) async fn open(&self, value: &str) -> Result<Option<StoredSession>, StoreError> {
        let Some(opened) = self.ring.load().open(Purpose::Session, value) else { return Ok(None) };
        let Ok(reference) = serde_json::from_slice::<Reference<'_>>(&opened.bytes) else { return Ok(None) };
        let found = self.find(reference.id, Secret::new(reference.key)).await?;
        Ok(found.map(|stored| StoredSession { reseal: opened.reseal || stored.reseal, ..stored }))
    }

    pub(super) async fn reload(&self, stored: &StoredSession) -> Result<Option<StoredSession>, StoreError> {
        match &stored.record {
            Some(RecordHandle { key: Some(key), .. }) => self.find(&stored.session.id, key.clone()).await,
            Some(RecordHandle { grant: Some(grant), .. }) => self.open_grant(&grant.name).await,
            Some(_) | None => Ok(Some(stored.clone())),
        }
    }

    /// The session with this id, if this key opens its record and it has not ended.
    pub(super) async fn find(&self, id: &str, key: Secret) -> Result<Option<StoredSession>, StoreError> {
        let Some(text) = self.backend.load(id).await? else { return Ok(None) };
        let found = keyring(&key)
            .and_then(|ring| ring.open(Purpose::Session, &text))
            .and_then(|opened| read(&opened.bytes, self.clock.now()))
            .filter(|(session, _)| session.id == id);
        let record = RecordHandle { key: Some(key), version: Some(version_of(&text)), saved: true, grant: None };
        match found {
            None => Ok(None),
            Some((session, Some(grant))) => self.add_grant(session, record, &grant).await,
            Some((session, None)) => Ok(Some(StoredSession::with_record(session, record))),
        }
    }

    pub(super) async fn save(&self, stored: &StoredSession, ends_at: Timestamp) -> Result<String, StoreError> {
        let stored = self.save_record(stored, ends_at).await?;
        let key = stored.record.and_then(|record| record.key).ok_or(NoRandomness)?;
        let reference = Reference { id: &stored.session.id, key: key.expose() };
        Ok(self.ring.load().seal_json(Purpose::Session, &reference)?)
    }

    pub(super) async fn save_record(
        &self,
        stored: &StoredSession,
        ends_at: Timestamp,
    ) -> Result<StoredSession, StoreError> {
        let stored = self.save_grant(stored).await?;
        let (key, replaces) = match &stored.record {
            Some(record) if record.saved || record.key.is_none() => return Ok(stored),
            Some(RecordHandle { key: Some(key), version, .. }) => (key.clone(), version.clone()),
            Some(_) | None => (Key::generate()?, None),
        };
        let StoredSession { session, record, .. } = stored;
        let grant = record.and_then(|record| record.grant);
        let bytes = write(&session, grant.as_ref().map(|grant| grant.name.as_str()), ends_at).ok_or(NoRandomness)?;
        let text = keyring(&key).ok_or(NoRandomness)?.seal(Purpose::Session, &bytes)?;
        if let Some(grant) = &grant {
            // Listed first, so that a sign-out elsewhere does not end the grant.
            let listing = NewRecord { bytes: &[], expires_at: Some(ends_at) };
            self.put(&sharers_of(&grant.name), &session.id, listing, &Expect::Anything).await?;
        }
        let version = Some(version_of(&text));
        let record = SessionRecord { id: session.id.clone(), owner: owner(&session.user.id), text, ends_at, replaces };
        if !self.backend.save(record).await? {
            // It has ended, or another replica wrote it in the meantime. A late write must not restore old tokens.
            return self.find(&session.id, key).await?.ok_or(StoreError::Ended);
        }
        Ok(StoredSession::with_record(session, RecordHandle { key: Some(key), version, saved: true, grant }))
    }

    /// Moves the session's tokens into a grant, or adopts newer ones that are there.
    pub(super) async fn share(
        &self,
        stored: &StoredSession,
        grant: &str,
        ends_at: Timestamp,
    ) -> Result<StoredSession, StoreError> {
        let current = self.reload(stored).await?.ok_or(StoreError::Ended)?;
        let (Some(record @ RecordHandle { key: Some(_), grant: None, .. }), session) =
            (&current.record, &current.session)
        else {
            // Another request shared it in the meantime, or it was never stored and so cannot refer to a grant.
            return if current.is_shared() { Ok(current) } else { Err(StoreError::Ended) };
        };
        let (tokens, version) = match self.read_grant(grant).await? {
            Some((found, version)) if found.tokens.issued_at > session.tokens.issued_at => (found.tokens, version),
            Some(_) | None => {
                let version = self.put_grant(grant, session, &Expect::Anything).await?;
                (session.tokens.clone(), version.ok_or(StoreError::Ended)?)
            }
        };
        let session = Arc::new(Session { tokens, ..Session::clone(session) });
        let grant = Some(GrantHandle::new(grant, version));
        let record = RecordHandle { saved: false, grant, ..record.clone() };
        self.save_record(&StoredSession::with_record(session, record), ends_at).await
    }

    pub(super) async fn end(&self, stored: &StoredSession) -> Result<(), StoreError> {
        self.backend.end(&stored.session.id, &owner(&stored.session.user.id)).await
    }

    pub(super) async fn end_surplus(&self, user_id: &str, most: usize) -> Result<(), StoreError> {
        let owner = owner(user_id);
        for id in self.backend.surplus(&owner, most).await? {
            self.backend.end(&id, &owner).await?;
        }
        Ok(())
    }

    pub(super) async fn end_user(&self, user_id: &str, own: Option<&str>) -> Result<u64, StoreError> {
        self.backend.end_owned(&owner(user_id), own).await
    }
}

/// Distinguishes one write of a session's record from another.
fn version_of(text: &str) -> String {
    unique_part(text).to_owned()
}

fn keyring(key: &Secret) -> Option<Keyring> {
    Keyring::new(vec![Key::parse(key).ok()?])
}

/// A session whose tokens are in a grant.
#[derive(Serialize)]
struct SharedSession<'a> {
    #[serde(flatten)]
    session: &'a Session,
    #[serde(rename = "x")]
    grant: &'a str,
}

#[derive(Deserialize)]
struct GrantName {
    #[serde(rename = "x")]
    name: Option<String>,
}

/// `ends_at` in milliseconds, big-endian, and the session: with its tokens, or with the name of the grant that has them.
fn write(session: &Session, grant: Option<&str>, ends_at: Timestamp) -> Option<Zeroizing<Vec<u8>>> {
    let session = match grant {
        None => session.to_bytes(),
        Some(grant) => {
            let session = without_tokens(session)?;
            to_json(&SharedSession { session: &session, grant })
        }
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 + session.len()));
    bytes.extend_from_slice(&ends_at.millis().to_be_bytes());
    bytes.extend_from_slice(&session);
    Some(bytes)
}

fn read(bytes: &[u8], now: Timestamp) -> Option<(Session, Option<String>)> {
    let (ends_at, text) = bytes.split_first_chunk()?;
    let ends_at = Timestamp::from_millis(i64::from_be_bytes(*ends_at));
    let session = Session::from_bytes(text).filter(|_| now < ends_at)?;
    Some((session, serde_json::from_slice::<GrantName>(text).ok()?.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    #[test]
    fn a_record_contains_its_own_end() {
        let bytes = write(&session(true), None, Timestamp::from_seconds(10)).unwrap();
        assert!(read(&bytes, Timestamp::from_seconds(9)).is_some());
        assert!(read(&bytes, Timestamp::from_seconds(10)).is_none());
        assert!(read(&bytes[..7], Timestamp::from_seconds(9)).is_none());
    }

    #[test]
    fn a_session_that_refers_to_a_grant_has_no_tokens_of_its_own() {
        let bytes = write(&session(true), Some("user-1"), Timestamp::from_seconds(10)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("oauth2v2_"));
        let (found, grant) = read(&bytes, Timestamp::from_seconds(9)).unwrap();
        assert_eq!((found.user, grant.as_deref()), (session(true).user, Some("user-1")));
    }
}
