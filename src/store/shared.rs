//! Shared grants: one record under the key ring, to which sessions and personal access tokens of a user refer, so that a
//! rotation has one owner.
//!
//! In: a session whose tokens shall be shared; the name of a grant. Out: sessions with the grant's tokens in them, as they
//! are now. A session that refers to a grant keeps no token of its own; where the grant is gone, so is the session.
//!
//! Whoever refreshes takes the lock that [`StoredSession::lock_name`] names, and writes with the version it read.

use std::sync::Arc;
use std::time::Duration;

use super::kept::{Kept, SessionStore, owner};
use super::records::{Expect, GRANTS, NewRecord, Record, Version};
use super::{Place, Store, StoreError, StoredSession};
use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::session::tokens::AccessToken;
use crate::session::{Session, Tokens};

/// A grant's record is of no use for longer: Upwork's refresh tokens live two weeks since their last use.
const LIFETIME: Duration = Duration::from_secs(15 * 86_400);

/// The grant that a held session refers to.
#[derive(Clone, Debug)]
pub(super) struct SharedGrant {
    name: String,
    version: Version,
    /// The session's tokens are newer than the record's.
    changed: bool,
}

impl SharedGrant {
    /// The same grant, its tokens newer than the record's where they were `renewed`.
    pub(super) fn and(self, renewed: bool) -> Self {
        Self { changed: self.changed || renewed, ..self }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The name of a user's grant, which stands in the store as it is.
fn grant_of(user_id: &str) -> String {
    format!("user-{}", owner(user_id))
}

impl StoredSession {
    /// Whether its tokens are in a record that others use too.
    pub fn is_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// What is locked to refresh it: the session, or the grant it refers to.
    pub fn lock_name(&self) -> String {
        self.shared().map_or_else(|| self.session.id.clone(), |shared| format!("grant-{}", shared.name))
    }

    fn shared(&self) -> Option<&SharedGrant> {
        self.place.as_ref()?.shared.as_ref()
    }
}

impl Store {
    /// Moves the session's tokens into its user's shared grant, or lets it use the newer ones that are there already.
    pub async fn share(&self, held: &StoredSession, ends_at: Timestamp) -> Result<StoredSession, StoreError> {
        if held.is_shared() {
            return Ok(held.clone());
        }
        let busy = || StoreError::Down("another replica is refreshing this session".to_owned());
        // Always in this order: the session, then the grant. A refresh takes one of them only.
        let session = self.lock(&held.session.id).await?.ok_or_else(busy)?;
        let name = grant_of(&held.session.user.id);
        let grant = self.lock(&format!("grant-{name}")).await?.ok_or_else(busy)?;
        let shared = match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.share(held, name, ends_at).await,
            Self::Valkey(store) => store.0.share(held, name, ends_at).await,
        };
        grant.release().await;
        session.release().await;
        shared
    }

    /// A user's shared grant, for whoever has a personal access token of theirs; none where it is gone.
    pub async fn open_shared(&self, user_id: &str) -> Result<Option<StoredSession>, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.open_grant(&grant_of(user_id)).await,
            Self::Valkey(store) => store.0.open_grant(&grant_of(user_id)).await,
        }
    }

    /// Forgets the grant that a session refers to, and with it every session that does. Nothing for a session of its own.
    pub async fn end_shared(&self, held: &StoredSession) -> Result<(), StoreError> {
        match held.shared() {
            Some(shared) => self.delete_grant(&shared.name).await.map(drop),
            None => Ok(()),
        }
    }
}

impl<S: SessionStore> Kept<S> {
    async fn share(&self, held: &StoredSession, name: String, ends_at: Timestamp) -> Result<StoredSession, StoreError> {
        let current = self.reload(held).await?.ok_or(StoreError::Ended)?;
        let (Some(Place { key: Some(key), shared: None, .. }), session) = (&current.place, &current.session) else {
            // Shared by another request meanwhile; or never stored, and then there is nothing that could refer to a grant.
            return if current.is_shared() { Ok(current) } else { Err(StoreError::Ended) };
        };
        let there = self.get(GRANTS, &name).await?.and_then(|record| Some((read(&record)?, record.version)));
        let (tokens, version) = match there {
            Some((grant, version)) if grant.tokens.issued_at > session.tokens.issued_at => (grant.tokens, version),
            Some(_) | None => {
                let version = self.put_grant(&name, session, &Expect::Anything).await?;
                (session.tokens.clone(), version.ok_or(StoreError::Ended)?)
            }
        };
        let session = Arc::new(Session { tokens, ..Session::clone(session) });
        let shared = Some(SharedGrant { name, version, changed: false });
        let place = Some(Place { key: Some(key.clone()), stored: false, shared });
        self.keep(&StoredSession { session, reseal: false, place }, ends_at).await
    }

    /// The grant alone, as nobody's session.
    pub(super) async fn open_grant(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        let Some(record) = self.get(GRANTS, name).await? else { return Ok(None) };
        let Some(session) = read(&record) else { return Ok(None) };
        let shared = Some(SharedGrant { name: name.to_owned(), version: record.version, changed: false });
        Ok(Some(StoredSession {
            session: session.into(),
            reseal: false,
            place: Some(Place { key: None, stored: true, shared }),
        }))
    }

    /// A session with the tokens of the grant that its record names. One whose grant was renewed since is written anew, so
    /// that whoever uses it stays signed in.
    pub(super) async fn attach(
        &self,
        session: Session,
        key: Secret,
        name: &str,
    ) -> Result<Option<StoredSession>, StoreError> {
        let Some(grant) = self.open_grant(name).await? else { return Ok(None) };
        if grant.session.user.id != session.user.id {
            return Ok(None);
        }
        let newer = grant.session.tokens.issued_at != session.tokens.issued_at;
        let (tokens, refreshed) = (grant.session.tokens.clone(), grant.session.refreshed);
        let shared = grant.place.and_then(|place| place.shared);
        Ok(Some(StoredSession {
            session: Arc::new(Session { tokens, refreshed, ..session }),
            reseal: newer,
            place: Some(Place { key: Some(key), stored: !newer, shared }),
        }))
    }

    /// Writes the grant of a session that was refreshed. Where somebody else wrote it meanwhile, theirs is used.
    pub(super) async fn keep_grant(&self, held: &StoredSession) -> Result<StoredSession, StoreError> {
        let Some((place, shared)) = held.place.as_ref().and_then(|place| Some((place, place.shared.as_ref()?))) else {
            return Ok(held.clone());
        };
        if !shared.changed {
            return Ok(held.clone());
        }
        let expect = Expect::Version(shared.version.clone());
        if let Some(version) = self.put_grant(&shared.name, &held.session, &expect).await? {
            let shared = Some(SharedGrant { name: shared.name.clone(), version, changed: false });
            return Ok(StoredSession { place: Some(Place { shared, ..place.clone() }), ..held.clone() });
        }
        let theirs = self.open_grant(&shared.name).await?.ok_or(StoreError::Ended)?;
        let tokens = theirs.session.tokens.clone();
        let shared = theirs.place.and_then(|place| place.shared);
        let session = Arc::new(Session { tokens, ..Session::clone(&held.session) });
        Ok(StoredSession { session, reseal: false, place: Some(Place { shared, ..place.clone() }) })
    }

    async fn put_grant(&self, name: &str, session: &Session, expect: &Expect) -> Result<Option<Version>, StoreError> {
        let ends_at = session.tokens.issued_at.plus(LIFETIME);
        let grant = Session { id: name.to_owned(), ..session.clone() };
        self.put(GRANTS, name, NewRecord { bytes: &grant.to_bytes(), expires_at: Some(ends_at) }, expect).await
    }
}

fn read(record: &Record) -> Option<Session> {
    Session::from_bytes(&record.bytes)
}

/// What stands in a session's record instead of tokens: their dates only.
pub(super) fn without_tokens(session: &Session) -> Option<Session> {
    let access = AccessToken::parse("shared".to_owned()).ok()?;
    let tokens = Tokens { access, refresh: None, ..session.tokens };
    Some(Session { tokens, ..session.clone() })
}
