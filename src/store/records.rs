//! What a store keeps beside sessions, under the key ring: shared grants, personal access tokens, a day's count.
//!
//! In: bytes under a namespace and a name. Out: the same, with a version to compare and set by. A record's place is sealed
//! in with it, so that one cannot be passed off as another, and so is its end, at which the store forgets it by itself.
//! Names and namespaces stand in the store as they are: a user's id in one of them is a digest first.
//!
//! These are for the service identity, personal access tokens and the pacer: a grant that several use is one record, and
//! who rotates it writes it with [`Expect::Version`], so that a rotation has one owner.

use zeroize::Zeroizing;

use super::kept::{Kept, Sealed, SessionStore, Writing};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::seal::{NoRandomness, Purpose, random};

/// The namespace of grants.
pub(super) const GRANTS: &str = "grant";

/// One writing of a record; another one each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub(super) String);

impl Version {
    /// Hex digits of a version.
    pub(super) const LENGTH: usize = 16;

    fn fresh() -> Result<Self, NoRandomness> {
        Ok(Self(format!("{:016x}", u64::from_be_bytes(random()?))))
    }
}

/// What must hold for a record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: whatever is there is replaced.
    Anything,
    /// There is none yet.
    Absent,
    /// It is as it was when it was read.
    Version(Version),
}

/// A record as it was read.
#[derive(Clone)]
pub struct Record {
    /// What was put in.
    pub bytes: Zeroizing<Vec<u8>>,
    /// What to compare and set by.
    pub version: Version,
    /// When it ends by itself, if it does.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("version", &self.version)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A record to be written.
#[derive(Clone, Copy)]
pub struct NewRecord<'a> {
    /// What it holds.
    pub bytes: &'a [u8],
    /// When it ends by itself, if it does.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for NewRecord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRecord").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Store {
    /// Writes a shared grant where it is as expected; its new version, or none where it is not.
    pub async fn put_grant(&self, name: &str, bytes: &[u8], expect: &Expect) -> Result<Option<Version>, StoreError> {
        self.put(GRANTS, name, NewRecord { bytes, expires_at: None }, expect).await
    }

    /// A shared grant.
    pub async fn get_grant(&self, name: &str) -> Result<Option<Record>, StoreError> {
        self.get(GRANTS, name).await
    }

    /// Forgets a shared grant; false where there was none.
    pub async fn delete_grant(&self, name: &str) -> Result<bool, StoreError> {
        self.delete(GRANTS, name).await
    }

    /// Writes a record where it is as expected; its new version, or none where it is not.
    pub async fn put(
        &self,
        namespace: &str,
        name: &str,
        record: NewRecord<'_>,
        expect: &Expect,
    ) -> Result<Option<Version>, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.put(namespace, name, record, expect).await,
            Self::Valkey(store) => store.0.put(namespace, name, record, expect).await,
        }
    }

    /// A record that has not ended; none also where it does not open. What an older key sealed is sealed anew on the way.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Record>, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.get(namespace, name).await,
            Self::Valkey(store) => store.0.get(namespace, name).await,
        }
    }

    /// Every record of a namespace that has not ended, by name. What an older key sealed is sealed anew on the way.
    pub async fn list(&self, namespace: &str) -> Result<Vec<(String, Record)>, StoreError> {
        let mut records = Vec::new();
        for name in self.names(namespace).await? {
            if let Some(record) = self.get(namespace, &name).await? {
                records.push((name, record));
            }
        }
        records.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(records)
    }

    /// The names of a namespace's records; some may have ended just now.
    pub(super) async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.store.names(namespace).await,
            Self::Valkey(store) => store.0.store.names(namespace).await,
        }
    }

    /// Forgets a record; false where there was none.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.store.delete(namespace, name).await,
            Self::Valkey(store) => store.0.store.delete(namespace, name).await,
        }
    }

    /// Adds `by` to a counter that all replicas share and that is forgotten at `expires_at`; the sum so far. It may count
    /// twice where a connection broke: it is for limits, not for bills. Each call is a write, so add many at once.
    pub async fn add_to_counter(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Cookie(_) => Err(StoreError::KeepsNothing),
            Self::Embedded(store) => store.0.store.add(name, by, expires_at).await,
            Self::Valkey(store) => store.0.store.add(name, by, expires_at).await,
        }
    }
}

impl<S: SessionStore> Kept<S> {
    pub(super) async fn put(
        &self,
        namespace: &str,
        name: &str,
        record: NewRecord<'_>,
        expect: &Expect,
    ) -> Result<Option<Version>, StoreError> {
        let plain = write(namespace, name, record);
        let text = self.ring.load().seal(Purpose::Grant, &plain)?;
        let version = Version::fresh()?;
        let sealed = Sealed { version: version.clone(), text };
        let writing = Writing { sealed, ends_at: record.expires_at, expect };
        Ok(self.store.put(namespace, name, writing).await?.then_some(version))
    }

    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Option<Record>, StoreError> {
        let Some(sealed) = self.store.get(namespace, name).await? else { return Ok(None) };
        let Some((record, reseal)) = self.read(namespace, name, sealed) else { return Ok(None) };
        // The store forgets it, too. Forgotten here, what somebody wrote in its place meanwhile would go with it.
        if record.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Ok(None);
        }
        if reseal {
            let again = NewRecord { bytes: &record.bytes, expires_at: record.expires_at };
            let expect = Expect::Version(record.version.clone());
            // Where somebody else was faster, or the store is gone by now, what was read is still good.
            if let Ok(Some(version)) = self.put(namespace, name, again, &expect).await {
                return Ok(Some(Record { version, ..record }));
            }
        }
        Ok(Some(record))
    }

    /// A record and whether it should be sealed anew; none where it is not what was put here.
    fn read(&self, namespace: &str, name: &str, sealed: Sealed) -> Option<(Record, bool)> {
        let opened = self.ring.load().open(Purpose::Grant, &sealed.text)?;
        let (expires_at, bytes) = read(namespace, name, &opened.bytes)?;
        Some((Record { bytes, version: sealed.version, expires_at }, opened.reseal))
    }
}

/// `end(8, milliseconds, big-endian; the greatest for none) ‖ length(8) ‖ place ‖ bytes`.
fn write(namespace: &str, name: &str, record: NewRecord<'_>) -> Zeroizing<Vec<u8>> {
    let place = place(namespace, name);
    let end = record.expires_at.map_or(i64::MAX, Timestamp::millis);
    let mut plain = Zeroizing::new(Vec::with_capacity(16 + place.len() + record.bytes.len()));
    plain.extend_from_slice(&end.to_be_bytes());
    plain.extend_from_slice(&(place.len() as u64).to_be_bytes());
    plain.extend_from_slice(place.as_bytes());
    plain.extend_from_slice(record.bytes);
    plain
}

fn read(namespace: &str, name: &str, plain: &[u8]) -> Option<(Option<Timestamp>, Zeroizing<Vec<u8>>)> {
    let (end, rest) = plain.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (found, bytes) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
    if found != place(namespace, name).as_bytes() {
        return None;
    }
    let end = i64::from_be_bytes(*end);
    let expires_at = (end != i64::MAX).then_some(Timestamp::from_millis(end));
    Some((expires_at, Zeroizing::new(bytes.to_vec())))
}

fn place(namespace: &str, name: &str) -> String {
    format!("{}:{namespace}{name}", namespace.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_at_its_own_place_only() {
        let end = Some(Timestamp::from_seconds(7));
        let plain = write("grant", "service", NewRecord { bytes: b"x", expires_at: end });
        assert_eq!(read("grant", "service", &plain).unwrap(), (end, Zeroizing::new(b"x".to_vec())));
        assert!(read("grant", "other", &plain).is_none());
        assert!(read("grants", "ervice", &plain).is_none());
        let forever = write("a", "b", NewRecord { bytes: b"", expires_at: None });
        assert_eq!(read("a", "b", &forever).unwrap().0, None);
    }

    #[test]
    fn debug_shows_no_bytes() {
        let record = Record { bytes: Zeroizing::new(vec![211]), version: Version("0".to_owned()), expires_at: None };
        assert!(!format!("{record:?}").contains("211"));
    }
}
