//! Shared grants: one record that a user's sessions and personal access tokens refer to, so that one rotation serves
//! all.
//!
//! A session that refers to a grant has no tokens of its own. If the grant is gone, so is the session. A refresh takes
//! the lock that [`StoredSession::lock_name`] names, and writes with the version it read.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, Expect, GRANTS, Version};
use super::sealed_store::{NewRecord, Record, SealedStore, owner};
use super::stored_session::{GrantHandle, RecordHandle};
use super::{StoreError, StoredSession};
use crate::session::tokens::AccessToken;
use crate::session::{Session, Tokens};

/// A grant's record is useless after this: Upwork's refresh tokens live two weeks from their last use.
const LIFETIME: Duration = Duration::from_secs(15 * 86_400);

/// The namespace that lists the sessions that refer to a grant. A listing without its session is harmless.
pub(super) fn sharers_of(grant: &str) -> String {
    format!("shared-{grant}")
}

/// The name of a user's grant, which is stored in plain text.
pub(super) fn grant_of(user_id: &str) -> String {
    format!("user-{}", owner(user_id))
}

impl SealedStore {
    /// The grant alone, without a session.
    pub(super) async fn open_grant(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        let Some((session, version)) = self.read_grant(name).await? else { return Ok(None) };
        let grant = Some(GrantHandle::new(name, version));
        Ok(Some(StoredSession::with_record(session, RecordHandle { key: None, version: None, saved: true, grant })))
    }

    /// A session with the tokens of the grant that its record names. If the grant was renewed since, the record is to be
    /// written again, so that an active user stays signed in.
    pub(super) async fn add_grant(
        &self,
        session: Session,
        record: RecordHandle,
        name: &str,
    ) -> Result<Option<StoredSession>, StoreError> {
        let Some((found, version)) = self.read_grant(name).await? else { return Ok(None) };
        if found.user.id != session.user.id {
            return Ok(None);
        }
        let newer = found.tokens.issued_at != session.tokens.issued_at || found.checked != session.checked;
        let grant = Some(GrantHandle::new(name, version));
        let record = RecordHandle { saved: !newer, grant, ..record };
        // User and organization are the ones that Upwork named last.
        let session = Session { id: session.id, began_at: session.began_at, ..found };
        Ok(Some(StoredSession { reseal: newer, ..StoredSession::with_record(session, record) }))
    }

    /// Writes the grant of a session that was refreshed. If another replica wrote it in the meantime, its tokens are used.
    pub(super) async fn save_grant(&self, stored: &StoredSession) -> Result<StoredSession, StoreError> {
        let Some((record, grant)) = stored.record.as_ref().and_then(|record| Some((record, record.grant.as_ref()?)))
        else {
            return Ok(stored.clone());
        };
        if !grant.changed {
            return Ok(stored.clone());
        }
        let expect = Expect::Version(grant.version.clone());
        let (session, version) = if let Some(version) = self.put_grant(&grant.name, &stored.session, &expect).await? {
            (stored.session.clone(), version)
        } else {
            let (theirs, version) = self.read_grant(&grant.name).await?.ok_or(StoreError::Ended)?;
            (Arc::new(Session { tokens: theirs.tokens, ..Session::clone(&stored.session) }), version)
        };
        let grant = Some(GrantHandle::new(&grant.name, version));
        Ok(StoredSession { session, reseal: stored.reseal, record: Some(RecordHandle { grant, ..record.clone() }) })
    }

    /// Whether a session of this user, other than one that ended, refers to the grant.
    pub(super) async fn is_shared_by_others(&self, grant: &str, ended: &str) -> Result<bool, StoreError> {
        for id in self.backend.names(&sharers_of(grant)).await? {
            if id != ended && self.backend.load(&id).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn read_grant(&self, name: &str) -> Result<Option<(Session, Version)>, StoreError> {
        let record = self.get(GRANTS, name).await?;
        Ok(record.and_then(|Record { bytes, version, .. }| Some((Session::from_bytes(&bytes)?, version))))
    }

    pub(super) async fn put_grant(
        &self,
        name: &str,
        session: &Session,
        expect: &Expect,
    ) -> Result<Option<Version>, StoreError> {
        let expires_at = Some(session.tokens.issued_at.plus(LIFETIME));
        let grant = Session { id: name.to_owned(), ..session.clone() };
        self.put(GRANTS, name, NewRecord { bytes: &grant.to_bytes(), expires_at }, expect).await
    }
}

/// The dates that a session's record has instead of tokens.
pub(super) fn without_tokens(session: &Session) -> Option<Session> {
    let access = AccessToken::parse("shared".to_owned()).ok()?;
    let tokens = Tokens { access, refresh: None, ..session.tokens };
    Some(Session { tokens, ..session.clone() })
}
