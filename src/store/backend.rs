//! The interface of a backend for records. A backend sees sealed text under names that reveal nothing, and never a key.

use std::time::Duration;

use super::error::StoreError;
use crate::clock::Timestamp;
use crate::seal::{NoRandomness, random};

/// The namespace of grants, whose names are not listed.
pub(super) const GRANTS: &str = "grant";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub(super) String);

impl Version {
    /// In hex digits.
    pub(super) const LENGTH: usize = 16;

    pub(super) fn fresh() -> Result<Self, NoRandomness> {
        Ok(Self(format!("{:016x}", u64::from_be_bytes(random()?))))
    }
}

/// What must be true for a record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Replaces whatever is there.
    Anything,
    /// There is no such record yet.
    Absent,
    /// It has not been written since it was read.
    Version(Version),
}

#[derive(Debug)]
pub(super) struct SessionRecord {
    pub(super) id: String,
    /// A digest of the user's id.
    pub(super) owner: String,
    pub(super) text: String,
    pub(super) ends_at: Timestamp,
    /// The beginning of the text that was read: the write happens only if it is still there. `None` for a new session.
    pub(super) replaces: Option<String>,
}

/// Any other sealed record.
#[derive(Clone, Debug)]
pub(super) struct SealedRecord {
    pub(super) version: Version,
    pub(super) text: String,
}

impl SealedRecord {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (version, text) = value.split_at_checked(Version::LENGTH)?;
        Some(Self { version: Version(version.to_owned()), text: text.to_owned() })
    }

    pub(super) fn to_text(&self) -> String {
        format!("{}{}", self.version.0, self.text)
    }
}

#[derive(Debug)]
pub(super) struct NewSealedRecord<'a> {
    pub(super) record: SealedRecord,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) expect: &'a Expect,
}

/// Stores records and deletes them when they expire. All calls may come from any thread.
pub(super) trait Backend {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError>;
    /// Writes a session and lists it under its owner; false if the record that it replaces is gone. A write that is
    /// repeated because its answer was lost finds its own record and succeeds.
    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError>;
    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError>;
    /// Deletes all sessions of an owner, `own` last; returns how many there were.
    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError>;
    /// An owner's sessions beyond `most`: those that end soonest.
    async fn surplus(&self, owner: &str, most: usize) -> Result<Vec<String>, StoreError>;
    /// Takes or extends a lock for a time; false if another owner has it.
    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError>;
    /// Frees a lock if it is still this owner's.
    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError>;
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SealedRecord>, StoreError>;
    /// The names of a namespace's records. Some may just have expired.
    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError>;
    /// Writes a record and lists its name; false if it is not as expected.
    async fn put(&self, namespace: &str, name: &str, new: NewSealedRecord<'_>) -> Result<bool, StoreError>;
    /// Deletes a record and its name; false if there was none.
    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError>;
    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError>;
    /// Whether it answered the last request and could be written.
    fn healthy(&self) -> bool;
    /// Why it cannot be written, once the outage is more than momentary.
    fn outage(&self) -> Option<String>;
    /// Waits briefly until it can be written.
    async fn ready(&self) -> Result<(), StoreError>;
}
