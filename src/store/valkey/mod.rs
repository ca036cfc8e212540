//! Valkey or Redis as a store: one address, or a managed endpoint.
//!
//! In: sealed records. Out: the same, as the server has them. Names are laid out for a cluster: what one script touches
//! shares a hash tag.
//!
//! ```text
//! upwarden:{ID}:s      a session's sealed record; the server forgets it at its end
//! upwarden:{ID}:l      who refreshes it now; forgotten after its lease
//! upwarden:{u:OWNER}   a user's sessions by their end: a sorted set
//! upwarden:{r:NAMESPACE}:r:NAME   a record: version ‖ sealed text; forgotten at its end
//! upwarden:{r:NAMESPACE}:n   the names of its records by their end: a sorted set
//! upwarden:{c:NAME}    a counter; forgotten at its end
//! upwarden:{pace}:…     calls to Upwork of all replicas: see `rate_limit`
//! ```
//! The server's ACL must allow what docs/sessions.md says (and `+select` with a database number). `probe` asks for all of it.

mod address;
mod link;
mod probe;
mod rate_limit;
mod scripts;

use std::path::Path;
use std::time::Duration;

use redis::cmd;
use tokio::runtime::Handle;

use super::StoreError;
use super::kept::{Sealed, SessionRecord, SessionStore, Writing};
use super::records::{Expect, Version};
use crate::clock::{SharedClock, Timestamp};
use crate::secret::Secret;
use link::Link;
pub(crate) use rate_limit::RateLimits;
pub use rate_limit::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply, RateRequest};

/// Says what is wrong with `store.url`, without showing it.
pub fn check_url(url: &Secret) -> Result<(), String> {
    address::Address::parse(url).map(|_| ())
}

/// A Valkey or Redis server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    link: Link,
    clock: SharedClock,
}

impl Server {
    /// Begins to connect, and goes on trying for as long as it lives.
    pub(super) fn connect(
        url: &Secret,
        ca_file: Option<&Path>,
        clock: SharedClock,
        control: Handle,
    ) -> Result<Self, StoreError> {
        let address = address::Address::parse(url).map_err(StoreError::Setup)?;
        Ok(Self { link: Link::new(address, ca_file, control)?, clock })
    }

    /// Lists a session under its owner until its end.
    async fn index(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let mut index = scripts::INDEX.key(owner_key(&record.owner));
        index.arg(&record.id).arg(record.ends_at.millis()).arg(self.clock.now().millis());
        index.arg(self.left(record.ends_at));
        self.link.run(index).await
    }

    /// What is left until `moment`, in milliseconds; at least one, since the server knows no life of zero.
    fn left(&self, moment: Timestamp) -> u64 {
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

impl SessionStore for Server {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        let mut get = cmd("GET");
        get.arg(session_key(id));
        self.link.ask(get).await
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        // A session that its owner's list lacks could not be signed out everywhere. A new one is written first: if its
        // owner signs out everywhere meanwhile, it is listed all the same; if we die, nobody has its cookie. An old one is
        // listed for longer first: a listing without a session does no harm.
        if !record.new {
            self.index(&record).await?;
        }
        let mut set = cmd("SET");
        set.arg(session_key(&record.id)).arg(&record.text).arg("PX").arg(self.left(record.ends_at));
        if !record.new {
            set.arg("XX");
        }
        let done: Option<String> = self.link.ask(set).await?;
        if record.new {
            self.index(&record).await?;
        }
        Ok(done.is_some())
    }

    async fn exists(&self, id: &str) -> Result<bool, StoreError> {
        let mut exists = cmd("EXISTS");
        exists.arg(session_key(id));
        self.link.ask(exists).await
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        let mut delete = cmd("DEL");
        delete.arg(session_key(id));
        self.link.ask::<()>(delete).await?;
        let mut remove = cmd("ZREM");
        remove.arg(owner_key(owner)).arg(id);
        self.link.ask(remove).await
    }

    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError> {
        let mut list = cmd("ZRANGE");
        list.arg(owner_key(owner)).arg(0).arg(-1);
        let mut ids: Vec<String> = self.link.ask(list).await?;
        ids.sort_by_key(|id| Some(id.as_str()) == own);
        let mut ended = 0;
        for id in ids {
            let mut delete = cmd("DEL");
            delete.arg(session_key(&id));
            ended += self.link.ask::<u64>(delete).await?;
            let mut remove = cmd("ZREM");
            remove.arg(owner_key(owner)).arg(&id);
            self.link.ask::<()>(remove).await?;
        }
        Ok(ended)
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let mut take = scripts::LOCK.key(lock_key(id));
        take.arg(owner).arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        self.link.run(take).await
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        let mut give_back = scripts::UNLOCK.key(lock_key(id));
        give_back.arg(owner);
        self.link.run(give_back).await
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<Sealed>, StoreError> {
        let mut get = cmd("GET");
        get.arg(record_key(namespace, name));
        let found: Option<String> = self.link.ask(get).await?;
        Ok(found.as_deref().and_then(sealed))
    }

    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        let mut all = cmd("ZRANGE");
        all.arg(names_key(namespace)).arg(0).arg(-1);
        self.link.ask(all).await
    }

    async fn put(&self, namespace: &str, name: &str, writing: Writing<'_>) -> Result<bool, StoreError> {
        let Writing { sealed, ends_at, expect } = writing;
        let expected = match expect {
            Expect::Anything => "*",
            Expect::Absent => "",
            Expect::Version(version) => &version.0,
        };
        let now = self.clock.now();
        let end = ends_at.map(|end| now.plus(Duration::from_millis(self.left(end))).millis().to_string());
        let mut put = scripts::PUT.key(record_key(namespace, name));
        put.key(names_key(namespace));
        put.arg(name).arg(format!("{}{}", sealed.version.0, sealed.text)).arg(expected).arg(Version::LENGTH);
        put.arg(now.millis()).arg(end.as_deref().unwrap_or("inf"));
        self.link.run(put).await
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let mut delete = scripts::DELETE.key(record_key(namespace, name));
        delete.key(names_key(namespace)).arg(name);
        self.link.run(delete).await
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        let mut add = scripts::ADD.key(counter_key(name));
        add.arg(by).arg(self.left(expires_at));
        self.link.run(add).await
    }

    fn healthy(&self) -> bool {
        self.link.is_up()
    }

    fn trouble(&self) -> Option<String> {
        self.link.trouble()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.link.ready().await
    }
}

/// `version ‖ text`.
fn sealed(value: &str) -> Option<Sealed> {
    let (version, text) = value.split_at_checked(Version::LENGTH)?;
    Some(Sealed { version: Version(version.to_owned()), text: text.to_owned() })
}
