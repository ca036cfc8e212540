//! Sessions as records: sealed with a key that only the cookie holds, so that whoever reads the store reads nothing.
//!
//! In: sessions, and cookies' values. Out: the same. The cookie's value is `{id, key}` sealed under the ring, so keys of the
//! ring rotate without a sign-out; the record is `ends_at ‖ session` sealed under the cookie's key with a fresh salt each
//! time, so no nonce comes twice. It never hands a record's key to the store, nor brings back a session that was ended.

use std::future::Future;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::records::{Expect, Version};
use super::shared::{SharedGrant, without_tokens};
use super::{Place, StoreError, StoredSession};
use crate::clock::{SharedClock, Timestamp};
use crate::seal::{Key, Keyring, NoRandomness, Purpose, SharedKeyring};
use crate::secret::Secret;
use crate::session::Session;

/// A session's record as it goes to a store.
#[derive(Debug)]
pub(super) struct SessionRecord {
    /// The session's id.
    pub(super) id: String,
    /// A digest of the user's id.
    pub(super) owner: String,
    /// Sealed.
    pub(super) text: String,
    /// The store may forget it then.
    pub(super) ends_at: Timestamp,
    /// The store has not seen it; otherwise it is written only where it still is.
    pub(super) new: bool,
}

/// A record that is no session, as it goes to a store.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// Another one for each time it was written.
    pub(super) version: Version,
    /// Sealed.
    pub(super) text: String,
}

/// A record that is no session, to be written.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    pub(super) sealed: Sealed,
    /// The store forgets it then by itself, if ever.
    pub(super) ends_at: Option<Timestamp>,
    pub(super) expect: &'a Expect,
}

/// What keeps records: bytes it cannot read, under names that tell nothing. All calls may come from any thread.
pub(super) trait SessionStore: Clone + Send + Sync + 'static {
    /// A session's sealed text.
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError>;
    /// Writes a session and its place among its owner's; false where it should have been there and was not.
    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError>;
    /// Whether there is such a session.
    async fn exists(&self, id: &str) -> Result<bool, StoreError>;
    /// Forgets a session.
    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError>;
    /// Forgets all sessions of an owner, `own` of them last; says how many.
    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError>;
    /// Takes the lock of a session for a time, or keeps it for longer; false where it is another owner's.
    fn try_lock(&self, id: &str, owner: &str, lease: Duration)
    -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Gives the lock back, where it is still this owner's.
    fn unlock(&self, id: &str, owner: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// A record that has not ended.
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<Sealed>, StoreError>;
    /// The names of a namespace's records. One whose record has just gone does no harm.
    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError>;
    /// Writes a record, and its name among the namespace's, where it is as expected; false where it is not.
    async fn put(&self, namespace: &str, name: &str, writing: Writing<'_>) -> Result<bool, StoreError>;
    /// Forgets a record and its name; false where there was none.
    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError>;
    /// Adds to a counter, which is forgotten at `expires_at`; the sum.
    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError>;
    /// Whether it answered when it was last asked, and could be written.
    fn healthy(&self) -> bool;
    /// Why nothing can be written, where that is not the matter of a moment.
    fn trouble(&self) -> Option<String>;
    /// Waits for a moment until it can be written.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// What the cookie holds. Both are text without anything to escape, so nothing of it is copied.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference<'a> {
    #[serde(rename = "r")]
    id: &'a str,
    #[serde(rename = "k")]
    key: &'a str,
}

/// Sessions over a store.
#[derive(Clone, Debug)]
pub(super) struct Kept<S> {
    pub(super) store: S,
    pub(super) ring: SharedKeyring,
    pub(super) clock: SharedClock,
    pub(super) control: Handle,
}

impl<S: SessionStore> Kept<S> {
    pub(super) fn new(store: S, ring: SharedKeyring, clock: SharedClock, control: Handle) -> Self {
        Self { store, ring, clock, control }
    }

    pub(super) async fn open(&self, value: &str) -> Result<Option<StoredSession>, StoreError> {
        let Some(opened) = self.ring.load().open(Purpose::Session, value) else { return Ok(None) };
        let Ok(reference) = serde_json::from_slice::<Reference<'_>>(&opened.bytes) else { return Ok(None) };
        let found = self.find(reference.id, Secret::new(reference.key)).await?;
        Ok(found.map(|held| StoredSession { reseal: opened.reseal || held.reseal, ..held }))
    }

    pub(super) async fn reload(&self, held: &StoredSession) -> Result<Option<StoredSession>, StoreError> {
        match &held.place {
            Some(Place { key: Some(key), .. }) => self.find(&held.session.id, key.clone()).await,
            Some(Place { shared: Some(shared), .. }) => self.open_grant(shared.name()).await,
            Some(_) | None => Ok(Some(held.clone())),
        }
    }

    /// The record of this id, where this key opens it and its time has not come.
    pub(super) async fn find(&self, id: &str, key: Secret) -> Result<Option<StoredSession>, StoreError> {
        let Some(text) = self.store.load(id).await? else { return Ok(None) };
        let found = keyring(&key)
            .and_then(|ring| ring.open(Purpose::Session, &text))
            .and_then(|opened| read_record(&opened.bytes, self.clock.now()))
            .filter(|(session, _)| session.id == id);
        match found {
            None => Ok(None),
            Some((session, Some(grant))) => self.attach(session, key, &grant).await,
            Some((session, None)) => {
                let place = Some(Place { key: Some(key), stored: true, shared: None });
                Ok(Some(StoredSession { session: session.into(), reseal: false, place }))
            }
        }
    }

    pub(super) async fn save(&self, held: &StoredSession, ends_at: Timestamp) -> Result<String, StoreError> {
        let kept = self.keep(held, ends_at).await?;
        let key = kept.place.and_then(|place| place.key).ok_or(NoRandomness)?;
        let reference = Reference { id: &kept.session.id, key: key.expose() };
        let bytes = Zeroizing::new(serde_json::to_vec(&reference).map_err(|_| NoRandomness)?);
        Ok(self.ring.load().seal(Purpose::Session, &bytes)?)
    }

    pub(super) async fn keep(&self, held: &StoredSession, ends_at: Timestamp) -> Result<StoredSession, StoreError> {
        let held = self.keep_grant(held).await?;
        let (key, new) = match &held.place {
            Some(place) if place.stored || place.key.is_none() => return Ok(held),
            Some(Place { key: Some(key), .. }) => (key.clone(), false),
            Some(_) | None => (Key::generate()?, true),
        };
        let shared = held.place.and_then(|place| place.shared);
        let grant = shared.as_ref().map(SharedGrant::name);
        let bytes = write_record(&held.session, grant, ends_at).ok_or(NoRandomness)?;
        let text = keyring(&key).ok_or(NoRandomness)?.seal(Purpose::Session, &bytes)?;
        let owner = owner(&held.session.user.id);
        let record = SessionRecord { id: held.session.id.clone(), owner, text, ends_at, new };
        if !self.store.save(record).await? {
            return Err(StoreError::Ended);
        }
        Ok(StoredSession {
            session: held.session.clone(),
            reseal: false,
            place: Some(Place { key: Some(key), stored: true, shared }),
        })
    }

    pub(super) async fn alive(&self, held: &StoredSession) -> Result<bool, StoreError> {
        self.store.exists(&held.session.id).await
    }

    pub(super) async fn end(&self, held: &StoredSession) -> Result<(), StoreError> {
        self.store.end(&held.session.id, &owner(&held.session.user.id)).await
    }

    pub(super) async fn end_user(&self, user_id: &str, own: Option<&str>) -> Result<u64, StoreError> {
        self.store.end_owned(&owner(user_id), own).await
    }

    pub(super) fn healthy(&self) -> bool {
        self.store.healthy()
    }
}

/// The ring of one record's key.
fn keyring(key: &Secret) -> Option<Keyring> {
    Keyring::new(vec![Key::parse(key).ok()?])
}

/// What a user's sessions, grant and tokens are kept under; never keyed, since it must outlive every key. Ids are public, so this hides them from a glance, not from a guess.
pub(super) fn owner(user_id: &str) -> String {
    let text = format!("upwarden owner {user_id}");
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// The session, and the name of the grant that has its tokens.
#[derive(Serialize)]
struct Referring<'a> {
    #[serde(flatten)]
    session: &'a Session,
    #[serde(rename = "x")]
    grant: &'a str,
}

#[derive(Deserialize)]
struct Reading {
    #[serde(rename = "x")]
    grant: Option<String>,
}

/// `ends_at` in milliseconds, big-endian, and the session: with its tokens, or with the name of the grant that has them.
fn write_record(session: &Session, grant: Option<&str>, ends_at: Timestamp) -> Option<Zeroizing<Vec<u8>>> {
    let session = match grant {
        None => session.to_bytes(),
        Some(grant) => {
            let session = without_tokens(session)?;
            serde_json::to_vec(&Referring { session: &session, grant }).ok().map(Zeroizing::new)?
        }
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 + session.len()));
    bytes.extend_from_slice(&ends_at.millis().to_be_bytes());
    bytes.extend_from_slice(&session);
    Some(bytes)
}

fn read_record(bytes: &[u8], now: Timestamp) -> Option<(Session, Option<String>)> {
    let (ends_at, text) = bytes.split_first_chunk()?;
    let ends_at = Timestamp::from_millis(i64::from_be_bytes(*ends_at));
    let session = Session::from_bytes(text).filter(|_| now < ends_at)?;
    let grant = serde_json::from_slice::<Reading>(text).ok()?.grant;
    Some((session, grant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    #[test]
    fn a_record_ends_inside_its_seal() {
        let bytes = write_record(&session(true), None, Timestamp::from_seconds(10)).unwrap();
        assert!(read_record(&bytes, Timestamp::from_seconds(9)).is_some());
        assert!(read_record(&bytes, Timestamp::from_seconds(10)).is_none());
        assert!(read_record(&bytes[..7], Timestamp::from_seconds(9)).is_none());
    }

    #[test]
    fn a_session_that_refers_to_a_grant_keeps_no_token_of_its_own() {
        let bytes = write_record(&session(true), Some("user-1"), Timestamp::from_seconds(10)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("oauth2v2_"));
        let (found, grant) = read_record(&bytes, Timestamp::from_seconds(9)).unwrap();
        assert_eq!((found.user, grant.as_deref()), (session(true).user, Some("user-1")));
    }

    #[test]
    fn an_owner_is_not_the_user_id() {
        assert!(!owner("1181921839933591552").contains("118192"));
        assert_ne!(owner("1"), owner("2"));
    }
}
