//! Valkey or Redis as a store: one server, a primary with Sentinel, or a cluster.
//!
//! A request has one key, so it runs on one node of a cluster, and keys are spread by session, user and record. An
//! operation on two keys writes the listing first, because a listing without its session or record is harmless. The
//! server's ACL must allow the commands in docs/sessions.md; `probe` tries all of them.
//!
//! ```text
//! upwarden:{ID}:s      a session's sealed record; expires when the session ends
//! upwarden:{ID}:l      the owner of its lock; expires with the lease
//! upwarden:{u:OWNER}   a user's sessions by their end: a sorted set
//! upwarden:{r:NAMESPACE:NAME}   a record: version ‖ sealed text
//! upwarden:{r:NAMESPACE}:n   the names of its records by their expiry: a sorted set; not of grants
//! upwarden:{c:NAME}    a counter
//! upwarden:{pace}:…     calls to Upwork of all replicas: see `rate_limit`
//! ```
//! `route` chooses the server for a request: over one `link`, or over the links of a `cluster`. `upkeep` keeps a link
//! connected to the server that its `source` names, which may ask `sentinel`.

mod address;
mod cluster;
mod confirm;
mod dial;
mod link;
mod probe;
mod rate_limit;
mod refusal;
mod request;
mod route;
mod scripts;
mod sentinel;
mod slots;
mod source;
mod upkeep;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::FromRedisValue;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::StoreError;
use super::backend::{Backend, Expect, GRANTS, NewSealedRecord, SealedRecord, SessionRecord, Version};
use crate::clock::{SharedClock, Timestamp};
use crate::recent::lock;
use crate::secret::Secret;
use crate::tls::CertificateFiles;
use dial::TlsFiles;
pub(crate) use rate_limit::RateLimits;
pub use rate_limit::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply, RateRequest};
use request::{Kind, Request};
use route::Route;
pub(crate) use route::Survey;

/// What is wrong with `store.url`, without quoting it.
pub fn check_url(url: &Secret) -> Result<(), String> {
    address::Address::parse(url).map(drop)
}

/// The servers' addresses, and the client's certificate.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Checked by [`check_url`].
    pub url: Secret,
    /// Trusted besides the system's certificates.
    pub ca_file: Option<PathBuf>,
    pub certificate: Option<CertificateFiles>,
}

impl ServerConfig {
    pub fn new(url: Secret) -> Self {
        Self { url, ca_file: None, certificate: None }
    }

    /// Describes the servers for people. Contains only addresses.
    pub(crate) fn layout(&self) -> String {
        address::Address::parse(&self.url).map_or_else(|why| why, |address| address.layout.to_string())
    }

    fn is(&self, other: &Self) -> bool {
        self.url.expose() == other.url.expose()
            && (&self.ca_file, &self.certificate) == (&other.ca_file, &other.certificate)
    }

    fn connect(&self, control: &Handle) -> Result<Route, StoreError> {
        let address = address::Address::parse(&self.url).map_err(StoreError::Setup)?;
        let files = TlsFiles { ca: self.ca_file.clone(), certificate: self.certificate.clone() };
        Route::connect(address, files, control)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    route: Arc<ArcSwap<Route>>,
    latest: Arc<Mutex<Latest>>,
    clock: SharedClock,
    control: Handle,
}

#[derive(Debug)]
struct Latest {
    config: ServerConfig,
    /// The task that waits for the first answer of the new servers.
    arriving: Option<AbortHandle>,
}

impl Server {
    /// Starts connecting, and keeps trying for as long as it lives.
    pub(super) fn connect(config: &ServerConfig, clock: SharedClock, control: Handle) -> Result<Self, StoreError> {
        let route = Arc::new(ArcSwap::from_pointee(config.connect(&control)?));
        let latest = Arc::new(Mutex::new(Latest { config: config.clone(), arriving: None }));
        Ok(Self { route, latest, clock, control })
    }

    /// Switches to a new configuration as soon as one of its servers has answered.
    pub(super) fn reconfigure(&self, config: &ServerConfig) -> Result<(), StoreError> {
        let mut latest = lock(&self.latest);
        if latest.config.is(config) {
            return Ok(());
        }
        let (next, route) = (config.connect(&self.control)?, self.route.clone());
        let task = self.control.spawn(async move {
            next.answered().await;
            route.store(Arc::new(next));
            tracing::info!("the session store is reached as store.url now says");
        });
        let arriving = Some(task.abort_handle());
        if let Some(earlier) = std::mem::replace(&mut *latest, Latest { config: config.clone(), arriving }).arriving {
            earlier.abort();
        }
        Ok(())
    }

    async fn send<T: FromRedisValue + Send + 'static>(&self, request: Request) -> Result<T, StoreError> {
        let route = self.route.load_full();
        let task = self.control.spawn(async move { route.send(&request).await });
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    pub(super) async fn survey(&self) -> Result<Survey, StoreError> {
        let route = self.route.load_full();
        let task = self.control.spawn(async move { route.survey().await });
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    async fn list(&self, list: String, name: &str, end: Option<Timestamp>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let end = end.map(|end| now.plus(Duration::from_millis(self.until(end))).millis().to_string());
        let list = Request::script(Kind::Durable, &scripts::LIST, &[&list]);
        self.send(list.arg(name).arg(end.as_deref().unwrap_or("inf")).arg(now.millis())).await
    }

    async fn unlist(&self, list: String, name: &str) -> Result<(), StoreError> {
        self.send(Request::new(Kind::Durable, "ZREM", list).arg(name)).await
    }

    async fn members(&self, key: String) -> Result<Vec<String>, StoreError> {
        self.send(Request::new(Kind::Read, "ZRANGE", key).arg(0).arg(-1)).await
    }

    /// The milliseconds until `moment`; at least 1, since the server does not accept a time to live of zero.
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
    format!("upwarden:{{r:{namespace}:{name}}}")
}

fn names_key(namespace: &str) -> String {
    format!("upwarden:{{r:{namespace}}}:n")
}

/// Whether a namespace's names are listed. Those of grants are never needed, and would all be on one node.
fn is_listed(namespace: &str) -> bool {
    namespace != GRANTS
}

fn counter_key(name: &str) -> String {
    format!("upwarden:{{c:{name}}}")
}

impl Backend for Server {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.send(Request::new(Kind::Read, "GET", session_key(id))).await
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        let list = || self.list(owner_key(&record.owner), &record.id, Some(record.ends_at));
        // A session that is not listed would survive a sign-out everywhere. A new session is written first: if its
        // owner signs out everywhere in the meantime, it is still listed; if we crash, its cookie was never sent. The
        // listing of an old session is extended first, because a listing without its session is harmless.
        if record.replaces.is_some() {
            list().await?;
        }
        let save = Request::script(Kind::Durable, &scripts::SAVE, &[&session_key(&record.id)]).arg(&record.text);
        let save = save.arg(self.until(record.ends_at)).arg(record.replaces.as_deref().unwrap_or_default());
        let done: bool = self.send(save).await?;
        if record.replaces.is_none() {
            list().await?;
        }
        Ok(done)
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        self.send::<()>(Request::new(Kind::Durable, "DEL", session_key(id))).await?;
        self.unlist(owner_key(owner), id).await
    }

    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError> {
        let mut ids = self.members(owner_key(owner)).await?;
        ids.sort_by_key(|id| Some(id.as_str()) == own);
        let mut ended = 0;
        for id in ids {
            ended += self.send::<u64>(Request::new(Kind::Durable, "DEL", session_key(&id))).await?;
            self.unlist(owner_key(owner), &id).await?;
        }
        Ok(ended)
    }

    async fn surplus(&self, owner: &str, most: usize) -> Result<Vec<String>, StoreError> {
        // By their end, soonest first.
        let last = -i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        self.send(Request::new(Kind::Read, "ZRANGE", owner_key(owner)).arg(0).arg(last)).await
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        self.send(Request::script(Kind::Write, &scripts::LOCK, &[&lock_key(id)]).arg(owner).arg(lease)).await
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        self.send(Request::script(Kind::Write, &scripts::UNLOCK, &[&lock_key(id)]).arg(owner)).await
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SealedRecord>, StoreError> {
        let found: Option<String> = self.send(Request::new(Kind::Read, "GET", record_key(namespace, name))).await?;
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
        if is_listed(namespace) {
            self.list(names_key(namespace), name, expires_at).await?;
        }
        let lives = expires_at.map_or_else(String::new, |end| self.until(end).to_string());
        let put = Request::script(Kind::Durable, &scripts::PUT, &[&record_key(namespace, name)]);
        self.send(put.arg(record.to_text()).arg(expected).arg(Version::LENGTH).arg(lives)).await
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let done = self.send(Request::new(Kind::Durable, "DEL", record_key(namespace, name))).await?;
        if is_listed(namespace) {
            self.unlist(names_key(namespace), name).await?;
        }
        Ok(done)
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        let lives = self.until(expires_at);
        self.send(Request::script(Kind::Write, &scripts::ADD, &[&counter_key(name)]).arg(by).arg(lives)).await
    }

    fn healthy(&self) -> bool {
        self.route.load().is_up()
    }

    fn outage(&self) -> Option<String> {
        self.route.load().outage()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let route = self.route.load_full();
        let task = self.control.spawn(async move { route.ready().await });
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }
}
