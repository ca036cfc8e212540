//! The embedded store: one crash-safe file of this process. `keys` describes its layout.
//!
//! A write is answered once its commit is on disk; concurrent writes share a commit. While the file is open, no other
//! process can open it. Expired values are deleted once a minute.

mod file;
mod keys;
mod overlay;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::StoreError;
use super::backend::{Backend, NewSealedRecord, SealedRecord, SessionRecord};
use crate::clock::{SharedClock, Timestamp};
use crate::recent::lock;
use file::{DatabaseFile, Snapshot};
use keys::{NEVER, namespace_prefix, owner_prefix, record_key, session_key, unescape};
use writer::{Change, Writer};

const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// The store. Clones share the file, which closes with the last of them.
#[derive(Clone)]
pub(super) struct File {
    database: Arc<DatabaseFile>,
    writer: Arc<Writer>,
    /// The owner and the end of each lock. Only one process has the file, so locks need not be in it.
    locks: Arc<Mutex<HashMap<String, (String, Instant)>>>,
    clock: SharedClock,
    control: Handle,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

impl File {
    /// Opens the file or creates it, and repairs it after a crash.
    pub(super) fn open(path: &Path, clock: SharedClock, control: Handle) -> Result<Self, StoreError> {
        let database = Arc::new(DatabaseFile::open(path)?);
        let writer = Arc::new(Writer::start(database.clone())?);
        control.spawn(sweep(Arc::downgrade(&writer), clock.clone()));
        Ok(Self { database, writer, locks: Arc::default(), clock, control })
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        F: Fn(&Snapshot, Timestamp) -> Result<T, redb::Error> + Send + 'static,
        T: Send + 'static,
    {
        let (database, now) = (self.database.clone(), self.clock.now());
        let task = self.control.spawn_blocking(move || database.read(|snapshot| read(snapshot, now)));
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    async fn text(&self, key: String) -> Result<Option<String>, StoreError> {
        let found = self.read(move |snapshot, now| snapshot.value(&key, now)).await?;
        Ok(found.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

/// Deletes expired values until the store is gone.
async fn sweep(writer: Weak<Writer>, clock: SharedClock) {
    loop {
        let now = clock.now();
        match writer.upgrade() {
            None => return,
            // The next write reports a failure.
            Some(writer) => drop(writer.send(Change::Sweep { now })),
        }
        clock.sleep_until(now.plus(SWEEP_EVERY)).await;
    }
}

impl Backend for File {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.text(session_key(id)).await
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        let SessionRecord { id, owner, text, ends_at, replaces } = record;
        let (session, listed) = (session_key(&id), owner_prefix(&owner) + &id);
        let change = Change::Session { session, listed, text, ends_at, replaces, now: self.clock.now() };
        self.writer.change(change).await.map(|done| done > 0)
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        let keys = vec![session_key(id), owner_prefix(owner) + id];
        self.writer.change(Change::Remove { keys }).await.map(drop)
    }

    async fn end_owned(&self, owner: &str, _own: Option<&str>) -> Result<u64, StoreError> {
        // One commit ends either all of them or none.
        self.writer.change(Change::EndOwned { prefix: owner_prefix(owner), now: self.clock.now() }).await
    }

    async fn surplus(&self, owner: &str, most: usize) -> Result<Vec<String>, StoreError> {
        let prefix = owner_prefix(owner);
        let mut found = self.read(move |snapshot, now| snapshot.names_by_end(&prefix, now)).await?;
        found.truncate(found.len().saturating_sub(most));
        Ok(found)
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut locks = lock(&self.locks);
        locks.retain(|_, (_, until)| *until > now);
        let (holder, until) = locks.entry(id.to_owned()).or_insert_with(|| (owner.to_owned(), now));
        let ours = holder == owner;
        if ours {
            *until = now + lease;
        }
        Ok(ours)
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        lock(&self.locks).retain(|locked, (holder, _)| locked != id || holder != owner);
        Ok(())
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SealedRecord>, StoreError> {
        Ok(self.text(record_key(namespace, name)).await?.and_then(|value| SealedRecord::parse(&value)))
    }

    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        let prefix = namespace_prefix(namespace);
        let found = self.read(move |snapshot, now| snapshot.names(&prefix, now)).await?;
        Ok(found.iter().map(|name| unescape(name)).collect())
    }

    async fn put(&self, namespace: &str, name: &str, new: NewSealedRecord<'_>) -> Result<bool, StoreError> {
        let (key, value) = (record_key(namespace, name), new.record.to_text().into_bytes());
        let (expect, expires_at) = (new.expect.clone(), new.expires_at.unwrap_or(NEVER));
        let change = Change::Put { key, value, expires_at, expect, now: self.clock.now() };
        self.writer.change(change).await.map(|done| done > 0)
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let keys = vec![record_key(namespace, name)];
        self.writer.change(Change::Remove { keys }).await.map(|done| done > 0)
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        self.writer.change(Change::Add { key: format!("c/{name}"), by, expires_at, now: self.clock.now() }).await
    }

    fn healthy(&self) -> bool {
        self.database.is_writable()
    }

    fn outage(&self) -> Option<String> {
        self.database.outage()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.outage().map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }
}
