//! A session and where its record is.

use std::sync::Arc;

use super::backend::Version;
use crate::secret::Secret;
use crate::session::Session;

#[derive(Clone, Debug)]
pub struct StoredSession {
    pub session: Arc<Session>,
    /// The response should set its cookie again: an older key sealed it, or its grant was renewed since.
    pub reseal: bool,
    /// None for a session that no store has seen yet, and in the cookie store.
    pub(super) record: Option<RecordHandle>,
}

/// How a session's record is found and opened.
#[derive(Clone, Debug)]
pub(super) struct RecordHandle {
    /// The record is sealed with it, and only the cookie holds it. None where a grant is used without a session.
    pub(super) key: Option<Secret>,
    /// The beginning of the record's text as it was last read or written, which differs for each write.
    pub(super) version: Option<String>,
    /// The record holds this very session.
    pub(super) saved: bool,
    pub(super) grant: Option<GrantHandle>,
}

/// The shared grant of a session, as it was last read or written.
#[derive(Clone, Debug)]
pub(super) struct GrantHandle {
    pub(super) name: String,
    pub(super) version: Version,
    /// The session's tokens are newer than the grant's record.
    pub(super) changed: bool,
}

/// What is locked to change a grant.
pub(super) fn lock_of(grant: &str) -> String {
    format!("grant-{grant}")
}

impl GrantHandle {
    pub(super) fn new(name: &str, version: Version) -> Self {
        Self { name: name.to_owned(), version, changed: false }
    }
}

impl StoredSession {
    /// A session that no store has seen yet.
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

    /// Whether its tokens are in a grant that others use too.
    pub fn is_shared(&self) -> bool {
        self.grant().is_some()
    }

    /// What is locked to refresh it: the session, or the grant it refers to.
    pub fn lock_name(&self) -> String {
        self.grant().map_or_else(|| self.session.id.clone(), |grant| lock_of(&grant.name))
    }

    pub(super) fn grant(&self) -> Option<&GrantHandle> {
        self.record.as_ref()?.grant.as_ref()
    }
}
