//! Chooses the server for a request: the only one, or the node of a cluster that has its key.

use futures_util::future::try_join_all;
use redis::FromRedisValue;
use tokio::runtime::Handle;

use super::address::{Address, Layout};
use super::cluster::Cluster;
use super::dial::{Dialer, Mode, TlsFiles};
use super::link::Link;
use super::probe::touch;
use super::request::Request;
use super::sentinel::Sentinel;
use super::slots::Group;
use super::source::Source;
use crate::store::StoreError;

pub(crate) struct Survey {
    pub(crate) text: String,
    /// Primaries without a replica.
    pub(crate) alone: Vec<String>,
}

impl Survey {
    fn new(text: String, groups: &[Group]) -> Self {
        let alone = groups.iter().filter(|group| group.replicas.is_empty());
        Self { text, alone: alone.map(|group| group.primary.to_string()).collect() }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Route {
    Link(Link),
    Cluster(Cluster),
}

impl Route {
    /// Starts connecting, on `control`, and keeps trying for as long as it lives.
    pub(super) fn connect(address: Address, files: TlsFiles, control: &Handle) -> Result<Self, StoreError> {
        let Address { layout, login, tls } = address;
        let tls = tls.then_some(files);
        if let Some(files) = &tls {
            files.connector().map_err(|error| StoreError::Setup(format!("TLS for the store: {error}")))?;
        }
        let dialer = |mode| Dialer { login: login.clone(), tls: tls.clone(), mode };
        let link = |source| Self::Link(Link::new(source, dialer(Mode::Standalone), control));
        Ok(match layout {
            Layout::Server(endpoint) => link(Source::Server(endpoint)),
            Layout::Sentinel { sentinels, name, login } => {
                let dialer = Dialer { login, ..dialer(Mode::Sentinel) };
                link(Source::Sentinel(Sentinel::new(sentinels, name, dialer)))
            }
            Layout::Cluster(nodes) => Self::Cluster(Cluster::new(nodes, dialer(Mode::Cluster), control)),
        })
    }

    /// Runs on the control runtime.
    pub(super) async fn send<T: FromRedisValue>(&self, request: &Request) -> Result<T, StoreError> {
        match self {
            Self::Link(link) => Ok(link.send(request).await?),
            Self::Cluster(cluster) => cluster.send(request).await,
        }
    }

    /// Waits briefly until every server accepts writes.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        let keys = match self {
            Self::Link(link) => vec![link.probe_key()],
            Self::Cluster(cluster) => cluster.probe_keys(),
        };
        let touched = keys.into_iter().map(|key| async { self.send::<()>(&touch(key)).await });
        try_join_all(touched).await?;
        self.outage().map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }

    /// Describes the servers, and lists the primaries that no replica could replace.
    pub(super) async fn survey(&self) -> Result<Survey, StoreError> {
        self.ready().await?;
        Ok(match self {
            Self::Link(link) if !link.has_replicas() => Survey::new("it answers".to_owned(), &[]),
            Self::Link(link) => {
                let group = link.group().await?;
                let count = group.replicas.len();
                Survey::new(format!("the primary is {}, with {count} replica(s)", group.primary), &[group])
            }
            Self::Cluster(cluster) => {
                let groups = cluster.groups();
                let (primaries, replicas) =
                    (groups.len(), groups.iter().map(|group| group.replicas.len()).sum::<usize>());
                Survey::new(format!("{primaries} nodes serve all slots, with {replicas} replica(s)"), &groups)
            }
        })
    }

    pub(super) async fn answered(&self) {
        match self {
            Self::Link(link) => link.answered().await,
            Self::Cluster(cluster) => cluster.answered().await,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::Link(link) => link.is_up(),
            Self::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Why some server cannot be written, once the outage is more than momentary.
    pub(super) fn outage(&self) -> Option<String> {
        match self {
            Self::Link(link) => link.outage(),
            Self::Cluster(cluster) => cluster.outage(),
        }
    }
}
