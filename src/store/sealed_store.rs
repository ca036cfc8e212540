//! Records sealed under the key ring, over a backend.
//!
//! Takes and returns bytes under a namespace and a name, with a version for compare-and-set. Namespace, name and expiry
//! are sealed with a record, so that one record cannot be passed off as another. Namespaces and names are stored in
//! plain text, so a user's id in one of them must be a digest.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::StoreError;
use super::backend::{Backend, Expect, NewSealedRecord, SealedRecord, Version};
use super::measured::MeasuredBackend;
use crate::clock::{SharedClock, Timestamp};
use crate::seal::{Purpose, SharedKeyring};

/// Sealed sessions and records over a backend. Clones share it.
#[derive(Clone, Debug)]
pub struct SealedStore {
    pub(super) backend: MeasuredBackend,
    pub(super) ring: SharedKeyring,
    pub(super) clock: SharedClock,
    pub(super) control: Handle,
}

#[derive(Clone)]
pub struct Record {
    pub bytes: Zeroizing<Vec<u8>>,
    pub version: Version,
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

#[derive(Clone, Copy)]
pub struct NewRecord<'a> {
    pub bytes: &'a [u8],
    pub expires_at: Option<Timestamp>,
}

impl SealedStore {
    /// Writes a record if it is as expected; returns its new version, or `None` if it is not.
    pub(super) async fn put(
        &self,
        namespace: &str,
        name: &str,
        new: NewRecord<'_>,
        expect: &Expect,
    ) -> Result<Option<Version>, StoreError> {
        let text = self.ring.load().seal(Purpose::Grant, &write(namespace, name, new))?;
        let version = Version::fresh()?;
        let record = SealedRecord { version: version.clone(), text };
        let new = NewSealedRecord { record, expires_at: new.expires_at, expect };
        Ok(self.backend.put(namespace, name, new).await?.then_some(version))
    }

    /// A record that has not expired and can be opened. One that an older key sealed is sealed again.
    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Option<Record>, StoreError> {
        let Some(sealed) = self.backend.get(namespace, name).await? else { return Ok(None) };
        let Some(opened) = self.ring.load().open(Purpose::Grant, &sealed.text) else { return Ok(None) };
        let Some((expires_at, bytes)) = read(namespace, name, &opened.bytes) else { return Ok(None) };
        // The store deletes it. Deleting it here could delete a record that has replaced it in the meantime.
        if expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Ok(None);
        }
        let mut record = Record { bytes, version: sealed.version, expires_at };
        if opened.reseal {
            let again = NewRecord { bytes: &record.bytes, expires_at };
            let expect = Expect::Version(record.version.clone());
            // If another replica was faster or the store has failed by now, the record that was read is still valid.
            if let Ok(Some(version)) = self.put(namespace, name, again, &expect).await {
                record.version = version;
            }
        }
        Ok(Some(record))
    }
}

/// The name under which a user's sessions, grant and tokens are stored. It is not keyed, since it must outlive every
/// key. User ids are public, so this hides them from casual view, not from guessing.
pub(super) fn owner(user_id: &str) -> String {
    let text = format!("upwarden owner {user_id}");
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// `expiry(8, milliseconds, big-endian; the maximum for none) ‖ length(8) ‖ place ‖ bytes`.
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
    fn a_record_can_only_be_read_under_its_own_name() {
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

    #[test]
    fn an_owner_is_not_the_user_id() {
        assert!(!owner("1181921839933591552").contains("118192"));
        assert_ne!(owner("1"), owner("2"));
    }
}
