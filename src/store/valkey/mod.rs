//! Valkey or Redis as a store: one address, or a managed endpoint.
//!
//! Names are laid out for a cluster: what one script touches shares a hash tag. The server's ACL must allow what
//! docs/sessions.md lists; `probe` tries all of it.
//!
//! ```text
//! upwarden:{ID}:s      a session's sealed record; expires when the session ends
//! upwarden:{ID}:l      the owner of its lock; expires with the lease
//! upwarden:{u:OWNER}   a user's sessions by their end: a sorted set
//! upwarden:{r:NAMESPACE}:r:NAME   a record: version ‖ sealed text
//! upwarden:{r:NAMESPACE}:n   the names of its records by their expiry: a sorted set
//! upwarden:{c:NAME}    a counter
//! upwarden:{pace}:…     calls to Upwork of all replicas: see `rate_limit`
//! ```

mod address;
mod link;
mod probe;
mod rate_limit;
mod refusal;
mod scripts;

use std::path::Path;
use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::runtime::Handle;

use super::StoreError;
use super::backend::{Backend, Expect, NewSealedRecord, SealedRecord, SessionRecord, Version};
use crate::clock::{SharedClock, Timestamp};
use crate::secret::Secret;
use link::Link;
pub(crate) use rate_limit::RateLimits;
pub use rate_limit::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply, RateRequest};

/// What is wrong with `store.url`, without quoting it.
pub fn check_url(url: &Secret) -> Result<(), String> {
    address::Address::parse(url).map(drop)
}

/// A Valkey or Redis server.
#[derive(Clone, Debug)]
pub struct Server {
    link: Link,
    clock: SharedClock,
}

impl Server {
    /// Starts to connect, and keeps trying for as long as it lives.
    pub(super) fn connect(
        url: &Secret,
        ca_file: Option<&Path>,
        clock: SharedClock,
        control: Handle,
    ) -> Result<Self, StoreError> {
        let address = address::Address::parse(url).map_err(StoreError::Setup)?;
        Ok(Self { link: Link::new(address, ca_file, control)?, clock })
    }

    /// Lists a session under its owner.
    async fn index(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let mut index = scripts::INDEX.key(owner_key(&record.owner));
        index.arg(&record.id).arg(record.ends_at.millis()).arg(self.clock.now().millis());
        index.arg(self.until(record.ends_at));
        self.link.send(index).await
    }

    /// The members of a sorted set.
    async fn members(&self, key: String) -> Result<Vec<String>, StoreError> {
        let mut range = on("ZRANGE", key);
        range.arg(0).arg(-1);
        self.link.send(range).await
    }

    /// The milliseconds until `moment`; at least one, since the server accepts no time to live of zero.
    fn until(&self, moment: Timestamp) -> u64 {
        u64::try_from(moment.since(self.clock.now()).as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
    }
}

fn session_key(id: &str) -> String {
    format!("upwarden:{{{id}}}:s")
}

fn lock_key(id: &str) -> String {
    format!("upwarden:{{{id}}}:l")
}

fn owner_key(owner: &str) -> String {
    format!("upwarden:{{u:{owner}}}")
}

fn record_key(namespace: &str, name: &str) -> String {
    format!("upwarden:{{r:{namespace}}}:r:{name}")
}

fn names_key(namespace: &str) -> String {
    format!("upwarden:{{r:{namespace}}}:n")
}

fn counter_key(name: &str) -> String {
    format!("upwarden:{{c:{name}}}")
}

/// `name key`, the beginning of a command.
fn on(name: &str, key: String) -> Cmd {
    let mut command = cmd(name);
    command.arg(key);
    command
}

impl Backend for Server {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.link.send(on("GET", session_key(id))).await
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        // A session that is not listed would survive a sign-out everywhere. A new session is written first: if its owner
        // signs out everywhere in the meantime, it is listed all the same; if we die, no one has its cookie. The listing
        // of an old session is extended first: a listing without its session does no harm.
        if record.replaces.is_some() {
            self.index(&record).await?;
        }
        let mut save = scripts::SAVE.key(session_key(&record.id));
        save.arg(&record.text).arg(self.until(record.ends_at)).arg(record.replaces.as_deref().unwrap_or_default());
        let done: bool = self.link.send(save).await?;
        if record.replaces.is_none() {
            self.index(&record).await?;
        }
        Ok(done)
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        self.link.send::<()>(on("DEL", session_key(id))).await?;
        let mut remove = on("ZREM", owner_key(owner));
        remove.arg(id);
        self.link.send(remove).await
    }

    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError> {
        let mut ids = self.members(owner_key(owner)).await?;
        ids.sort_by_key(|id| Some(id.as_str()) == own);
        let mut ended = 0;
        for id in ids {
            ended += self.link.send::<u64>(on("DEL", session_key(&id))).await?;
            let mut remove = on("ZREM", owner_key(owner));
            remove.arg(&id);
            self.link.send::<()>(remove).await?;
        }
        Ok(ended)
    }

    async fn surplus(&self, owner: &str, most: usize) -> Result<Vec<String>, StoreError> {
        // By their end, soonest first.
        let mut range = on("ZRANGE", owner_key(owner));
        range.arg(0).arg(-i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1));
        self.link.send(range).await
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let mut take = scripts::LOCK.key(lock_key(id));
        take.arg(owner).arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        self.link.send(take).await
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        let mut free = scripts::UNLOCK.key(lock_key(id));
        free.arg(owner);
        self.link.send(free).await
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SealedRecord>, StoreError> {
        let found: Option<String> = self.link.send(on("GET", record_key(namespace, name))).await?;
        Ok(found.and_then(|value| SealedRecord::parse(&value)))
    }

    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        self.members(names_key(namespace)).await
    }

    async fn put(&self, namespace: &str, name: &str, new: NewSealedRecord<'_>) -> Result<bool, StoreError> {
        let NewSealedRecord { record, expires_at, expect } = new;
        let expected = match expect {
            Expect::Anything => "*",
            Expect::Absent => "",
            Expect::Version(version) => &version.0,
        };
        let now = self.clock.now();
        let end = expires_at.map(|end| now.plus(Duration::from_millis(self.until(end))).millis().to_string());
        let mut put = scripts::PUT.key(record_key(namespace, name));
        put.key(names_key(namespace));
        put.arg(name).arg(record.to_text()).arg(expected).arg(Version::LENGTH);
        put.arg(now.millis()).arg(end.as_deref().unwrap_or("inf"));
        self.link.send(put).await
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let mut delete = scripts::DELETE.key(record_key(namespace, name));
        delete.key(names_key(namespace)).arg(name);
        self.link.send(delete).await
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        let mut add = scripts::ADD.key(counter_key(name));
        add.arg(by).arg(self.until(expires_at));
        self.link.send(add).await
    }

    fn healthy(&self) -> bool {
        self.link.is_up()
    }

    fn outage(&self) -> Option<String> {
        self.link.outage()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.link.ready().await
    }
}
