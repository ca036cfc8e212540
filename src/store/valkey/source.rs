//! Locates a link's primary: at a fixed address, through Sentinel, or as the primary of some slots of a cluster.

use redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};
use tokio::sync::{mpsc, oneshot, watch};

use super::address::Endpoint;
use super::sentinel::Sentinel;
use super::slots::{Group, Slots, redirected_to, tag_in};

/// It has the prefix that the ACL allows (docs/sessions.md).
const PROBE_KEY: &str = "upwarden:{probe}";

#[derive(Debug)]
pub(super) enum Source {
    Server(Endpoint),
    Sentinel(Sentinel),
    Shard(Shard),
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) primary: Endpoint,
    pub(super) slots: watch::Receiver<Slots>,
    pub(super) news: mpsc::Sender<News>,
}

#[derive(Debug)]
pub(super) struct Moved {
    pub(super) slot: u16,
    pub(super) primary: Endpoint,
}

impl Moved {
    /// The redirection in the answer of `asked`, if it is one.
    pub(super) fn of(error: &RedisError, asked: &Endpoint) -> Option<Self> {
        let (address, slot) = error.redirect_node().filter(|_| error.code() == Some("MOVED"))?;
        Some(Self { slot, primary: redirected_to(address, asked)? })
    }
}

/// News for the task that tracks a cluster's slots.
#[derive(Debug)]
pub(super) enum News {
    Moved(Moved),
    /// A node cannot be trusted or reached. The others are asked, and then the sender is dropped.
    Suspect {
        node: Endpoint,
        asked: oneshot::Sender<()>,
    },
}

impl Source {
    pub(super) async fn locate(&self) -> Result<Group, String> {
        match self {
            Self::Server(endpoint) => Ok(Group { primary: endpoint.clone(), replicas: Vec::new() }),
            Self::Sentinel(sentinel) => sentinel.locate().await,
            Self::Shard(shard) => shard.group(),
        }
    }

    /// Locates it without asking `suspect`.
    pub(super) async fn locate_without(&self, suspect: &Endpoint) -> Result<Group, String> {
        if let Self::Shard(shard) = self {
            let (asked, done) = oneshot::channel();
            let _ = shard.news.send(News::Suspect { node: suspect.clone(), asked }).await;
            let _ = done.await;
        }
        self.locate().await
    }

    /// Whether a different server may become the primary, and be found.
    pub(super) fn has_replicas(&self) -> bool {
        match self {
            Self::Server(_) => false,
            Self::Sentinel(_) | Self::Shard(_) => true,
        }
    }

    pub(super) fn probe_key(&self) -> String {
        match self {
            Self::Server(_) | Self::Sentinel(_) => PROBE_KEY.to_owned(),
            Self::Shard(shard) => {
                let slot = shard.slots.borrow().one_of(&shard.primary).unwrap_or_default();
                format!("upwarden:{{{}}}:probe", tag_in(slot))
            }
        }
    }

    /// Whether the error says that the probe's slot has moved. It is reported to the cluster's task, and is not a
    /// refusal.
    pub(super) fn is_moved(&self, error: &RedisError) -> bool {
        let Self::Shard(shard) = self else { return false };
        let Some(moved) = Moved::of(error, &shard.primary) else { return false };
        // If the channel is full, the cluster will be asked anyway.
        let _ = shard.news.try_send(News::Moved(moved));
        true
    }

    /// Makes a replica answer reads.
    pub(super) async fn read_from(&self, replica: &mut MultiplexedConnection) -> bool {
        match self {
            Self::Server(_) | Self::Sentinel(_) => true,
            Self::Shard(_) => cmd("READONLY").query_async::<()>(replica).await.is_ok(),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(endpoint) => endpoint.fmt(f),
            Self::Sentinel(sentinel) => sentinel.fmt(f),
            Self::Shard(shard) => shard.primary.fmt(f),
        }
    }
}

impl Shard {
    fn group(&self) -> Result<Group, String> {
        let group = self.slots.borrow().of(&self.primary).cloned();
        group.ok_or_else(|| format!("{} serves no slots of the cluster any more", self.primary))
    }
}
