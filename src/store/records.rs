//! What a store keeps besides sessions: shared grants, personal access tokens, and the day's count of calls.

use super::backend::{Backend as _, Expect, GRANTS, Version};
use super::sealed_store::{NewRecord, Record};
use super::{Store, StoreError};
use crate::clock::Timestamp;

impl Store {
    /// Writes a grant if it is as expected; returns its new version, or `None` if it is not.
    pub async fn put_grant(&self, name: &str, bytes: &[u8], expect: &Expect) -> Result<Option<Version>, StoreError> {
        self.put(GRANTS, name, NewRecord { bytes, expires_at: None }, expect).await
    }

    pub async fn get_grant(&self, name: &str) -> Result<Option<Record>, StoreError> {
        self.get(GRANTS, name).await
    }

    /// False if there was none.
    pub async fn delete_grant(&self, name: &str) -> Result<bool, StoreError> {
        self.delete(GRANTS, name).await
    }

    /// Writes a record if it is as expected; returns its new version, or `None` if it is not.
    pub async fn put(
        &self,
        namespace: &str,
        name: &str,
        record: NewRecord<'_>,
        expect: &Expect,
    ) -> Result<Option<Version>, StoreError> {
        self.records()?.put(namespace, name, record, expect).await
    }

    /// A record that has not expired and can be opened. One that an older key sealed is sealed again.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Record>, StoreError> {
        self.records()?.get(namespace, name).await
    }

    /// Every record of a namespace that has not expired, by name.
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

    /// The names of a namespace's records. Some may just have expired.
    pub(super) async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        self.records()?.backend.names(namespace).await
    }

    /// False if there was none.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        self.records()?.backend.delete(namespace, name).await
    }

    /// Adds `by` to a counter that all replicas share and that is deleted at `expires_at`; returns the sum. If a
    /// connection breaks, it may count twice: use it for limits, not for billing. Each call is a write, so add many at
    /// once.
    pub async fn add_to_counter(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        self.records()?.backend.add(name, by, expires_at).await
    }
}
