//! One file of this process as a store: an embedded database, crash-safe.
//!
//! In: sealed records. Out: the same, as the file has them. What was acknowledged is on the disk: a write is answered after
//! its commit, which concurrent writes share. The file is this process' alone while it runs; a second one is told so. What
//! has ended is swept out by the clock, once a minute.
//!
//! One table of text to bytes; each value begins with when it ends (milliseconds, big-endian):
//! ```text
//! s/ID               a session: sealed text
//! u/OWNER/ID         a user's sessions: nothing more
//! r/NAMESPACE/NAME   a record: version ‖ sealed text; / and % of the names are %-escaped
//! c/NAME             a counter: a big-endian u64
//! ```

#[cfg(test)]
mod cuts;
mod file;
#[cfg(test)]
mod full;
mod overlay;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::StoreError;
use super::kept::{Sealed, SessionRecord, SessionStore, Writing};
use super::records::Version;
use crate::clock::{SharedClock, Timestamp};
use file::{Items, Opened};
use writer::{Change, Writer};

use crate::recent::lock;

/// Time between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// What never ends.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// The file. Clones are the same file, which is closed with the last of them.
#[derive(Clone)]
pub(super) struct File {
    opened: Arc<Opened>,
    writer: Arc<Writer>,
    /// One process: its locks need no file. The owner of a session's lock, and until when.
    locks: Arc<Mutex<HashMap<String, (String, Instant)>>>,
    clock: SharedClock,
    control: Handle,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.opened.path()).finish_non_exhaustive()
    }
}

impl File {
    /// Opens the file, or makes it; repairs it after a crash; sweeps it.
    pub(super) fn open(path: &Path, clock: SharedClock, control: Handle) -> Result<Self, StoreError> {
        let opened = Arc::new(Opened::open(path)?);
        let writer = Arc::new(Writer::start(opened.clone())?);
        control.spawn(sweep(Arc::downgrade(&writer), clock.clone()));
        Ok(Self { opened, writer, locks: Arc::default(), clock, control })
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        F: Fn(&Items) -> Result<T, redb::Error> + Send + 'static,
        T: Send + 'static,
    {
        let opened = self.opened.clone();
        let task = self.control.spawn_blocking(move || opened.read(read));
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    /// What has not ended of a value.
    async fn value(&self, key: String) -> Result<Option<Vec<u8>>, StoreError> {
        let now = self.clock.now();
        self.read(move |items| items.value(&key, now)).await
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, Instant)>> {
        lock(&self.locks)
    }
}

/// Sweeps until the store is gone.
async fn sweep(writer: std::sync::Weak<Writer>, clock: SharedClock) {
    loop {
        let now = clock.now();
        match writer.upgrade() {
            None => return,
            // A fault is the next write's to tell.
            Some(writer) => drop(writer.send(Change::Sweep { now })),
        }
        clock.sleep_until(now.plus(SWEEP_EVERY)).await;
    }
}

fn session_key(id: &str) -> String {
    format!("s/{id}")
}

fn owner_prefix(owner: &str) -> String {
    format!("u/{owner}/")
}

fn namespace_prefix(namespace: &str) -> String {
    format!("r/{}/", escape(namespace))
}

fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

fn unescape(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

impl SessionStore for File {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        let found = self.value(session_key(id)).await?;
        Ok(found.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        let SessionRecord { id, owner, text, ends_at, new } = record;
        let (session, listed) = (session_key(&id), owner_prefix(&owner) + &id);
        self.writer
            .change(Change::Session { session, listed, text, ends_at, new, now: self.clock.now() })
            .await
            .map(|done| done > 0)
    }

    async fn exists(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.value(session_key(id)).await?.is_some())
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        let keys = vec![session_key(id), owner_prefix(owner) + id];
        self.writer.change(Change::Remove { keys }).await.map(|_| ())
    }

    async fn end_owned(&self, owner: &str, _own: Option<&str>) -> Result<u64, StoreError> {
        // One commit ends them all, or none.
        self.writer.change(Change::EndOwned { prefix: owner_prefix(owner), now: self.clock.now() }).await
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut locks = self.locks();
        locks.retain(|_, (_, until)| *until > now);
        let (holder, until) = locks.entry(id.to_owned()).or_insert_with(|| (owner.to_owned(), now));
        let ours = holder == owner;
        if ours {
            *until = now + lease;
        }
        Ok(ours)
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        let mut locks = self.locks();
        if locks.get(id).is_some_and(|(holder, _)| holder == owner) {
            locks.remove(id);
        }
        Ok(())
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<Sealed>, StoreError> {
        let found = self.value(namespace_prefix(namespace) + &escape(name)).await?;
        Ok(found.and_then(sealed))
    }

    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        let prefix = namespace_prefix(namespace);
        let now = self.clock.now();
        let found = self.read(move |items| items.below(&prefix, now)).await?;
        Ok(found.into_iter().map(|(name, _)| unescape(&name)).collect())
    }

    async fn put(&self, namespace: &str, name: &str, writing: Writing<'_>) -> Result<bool, StoreError> {
        let key = namespace_prefix(namespace) + &escape(name);
        let value = format!("{}{}", writing.sealed.version.0, writing.sealed.text).into_bytes();
        let (expect, ends_at) = (writing.expect.clone(), writing.ends_at.unwrap_or(NEVER));
        self.writer
            .change(Change::Put { key, value, ends_at, expect, now: self.clock.now() })
            .await
            .map(|done| done > 0)
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let keys = vec![namespace_prefix(namespace) + &escape(name)];
        self.writer.change(Change::Remove { keys }).await.map(|done| done > 0)
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        self.writer.change(Change::Add { key: format!("c/{name}"), by, expires_at, now: self.clock.now() }).await
    }

    fn healthy(&self) -> bool {
        self.opened.is_good()
    }

    fn trouble(&self) -> Option<String> {
        self.opened.trouble()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.opened.trouble().map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }
}

/// `version ‖ text`.
fn sealed(value: Vec<u8>) -> Option<Sealed> {
    let value = String::from_utf8(value).ok()?;
    let (version, text) = value.split_at_checked(Version::LENGTH)?;
    Some(Sealed { version: Version(version.to_owned()), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_namespace() {
        assert_eq!(namespace_prefix("a/b"), "r/a%2Fb/");
        for name in ["a/b", "%2F", "%", "100%25/", ""] {
            assert_eq!(unescape(&escape(name)), name);
        }
    }
}
