//! Asks Sentinels which server is the primary, and which replicas could replace it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::timeout;

use super::address::Endpoint;
use super::dial::Dialer;
use super::refusal::reason;
use super::slots::Group;
use crate::recent::lock;

/// The time limit, including TLS and login.
const WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sentinel {
    sentinels: Vec<Endpoint>,
    name: String,
    dialer: Dialer,
    /// The connection to the Sentinel that answered last.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Sentinel {
    pub(super) fn new(sentinels: Vec<Endpoint>, name: String, dialer: Dialer) -> Self {
        Self { sentinels, name, dialer, connection: Mutex::default() }
    }

    pub(super) async fn locate(&self) -> Result<Group, String> {
        let known = lock(&self.connection).take();
        if let Some(connection) = known
            && let Ok(Ok(group)) = timeout(WITHIN, self.ask(connection)).await
        {
            return Ok(group);
        }
        let asked = self.sentinels.iter().map(|sentinel| {
            Box::pin(async move {
                let answer = async { self.ask(self.dialer.dial(sentinel).await?).await };
                timeout(WITHIN, answer).await.unwrap_or_else(|_| Err("no answer".to_owned()))
            })
        });
        let (group, _) = select_ok(asked).await.map_err(|why| refusal(&why))?;
        Ok(group)
    }

    async fn ask(&self, mut connection: MultiplexedConnection) -> Result<Group, String> {
        let mut primary = cmd("SENTINEL");
        primary.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let primary: Option<(String, u16)> =
            primary.query_async(&mut connection).await.map_err(|error| reason(&error))?;
        let (host, port) = primary.ok_or_else(|| format!("Sentinel watches no primary of the name {:?}", self.name))?;
        let mut replicas = cmd("SENTINEL");
        replicas.arg("REPLICAS").arg(&self.name);
        let replicas: Vec<HashMap<String, String>> =
            replicas.query_async(&mut connection).await.map_err(|error| reason(&error))?;
        lock(&self.connection).replace(connection);
        let replicas = replicas.iter().filter_map(replica).collect();
        Ok(Group { primary: Endpoint::Tcp { host, port }, replicas })
    }
}

fn refusal(why: &str) -> String {
    let remedy = if why.contains("password") { "; a Sentinel's own is ?sentinel_password= in store.url" } else { "" };
    format!("no Sentinel says where the primary is: {why}{remedy}")
}

impl std::fmt::Display for Sentinel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of Sentinel", self.name)
    }
}

/// A replica's address; `None` if Sentinel cannot reach it or it must never become the primary.
fn replica(facts: &HashMap<String, String>) -> Option<Endpoint> {
    let down = facts.get("flags")?.split(',').any(|flag| ["s_down", "o_down", "disconnected"].contains(&flag));
    if down || facts.get("slave-priority").is_some_and(|priority| priority == "0") {
        return None;
    }
    Some(Endpoint::Tcp { host: facts.get("ip")?.clone(), port: facts.get("port")?.parse().ok()? })
}
