//! A session and the location of its record.

use std::sync::Arc;

use super::backend::Version;
use crate::secret::Secret;
use crate::session::Session;

#[derive(Clone, Debug)]
pub struct StoredSession {
    pub session: Arc<Session>,
    /// The response should set its cookie again: an older key sealed it, or its grant was renewed since.
    pub reseal: bool,
    /// `None` for a session that was not stored yet, and with the cookie store.
    pub(super) record: Option<RecordHandle>,
}

/// How a session's record is found and opened.
#[derive(Clone, Debug)]
pub(super) struct RecordHandle {
    /// The key that seals the record, which only the cookie has. `None` if a grant is used without a session.
    pub(super) key: Option<Secret>,
    /// The beginning of the record's text as last read or written, which differs for each write.
    pub(super) version: Option<String>,
    /// The record contains exactly this session.
    pub(super) saved: bool,
    pub(super) grant: Option<GrantHandle>,
}

/// The shared grant of a session, as last read or written.
#[derive(Clone, Debug)]
pub(super) struct GrantHandle {
    pub(super) name: String,
    pub(super) version: Version,
    /// The session's tokens are newer than the grant's record.
    pub(super) changed: bool,
}

/// The name of the lock for changing a grant.
pub(super) fn lock_of(grant: &str) -> String {
    format!("grant-{grant}")
}

impl GrantHandle {
    pub(super) fn new(name: &str, version: Version) -> Self {
        Self { name: name.to_owned(), version, changed: false }
    }
}

impl StoredSession {
    /// A session that was not stored yet.
    pub fn new(session: Session) -> Self {
        Self { session: Arc::new(session), reseal: false, record: None }
    }

    pub(super) fn with_record(session: impl Into<Arc<Session>>, record: RecordHandle) -> Self {
        Self { session: session.into(), reseal: false, record: Some(record) }
    }

    /// Another session for the same record.
    #[must_use]
    pub fn with(&self, session: Session) -> Self {
        let renewed = session.tokens.access.expose() != self.session.tokens.access.expose()
            || session.checked != self.session.checked;
        let record = self.record.clone().map(|record| {
            let grant = record.grant.map(|grant| GrantHandle { changed: grant.changed || renewed, ..grant });
            RecordHandle { saved: false, grant, ..record }
        });
        Self { session: Arc::new(session), reseal: false, record }
    }

    /// Whether its tokens are in a shared grant.
    pub fn is_shared(&self) -> bool {
        self.grant().is_some()
    }

    /// The name of the lock for refreshing it: the session's, or that of the grant it refers to.
    pub fn lock_name(&self) -> String {
        self.grant().map_or_else(|| self.session.id.clone(), |grant| lock_of(&grant.name))
    }

    pub(super) fn grant(&self) -> Option<&GrantHandle> {
        self.record.as_ref()?.grant.as_ref()
    }
}
