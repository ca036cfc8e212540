//! Doors: binding, accepting, dealing, serving, draining.
//!
//! In: bound sockets, a handler for each worker, a [`Drain`]. Out: requests that have one reading, in one shape (origin
//! form, one `Host`, one `Cookie`), each with its [`Peer`]; or a [`Refused`] to be answered. A body ends early with an
//! error in which [`Refused::of`] finds the reason. It never passes on a message that another reader could end elsewhere.
//!
//! ```text
//! accept (control runtime) → permit → worker → TLS → HTTP/1 | HTTP/2 → handler
//! ```

mod accept;
mod bind;
mod frames;
mod h1;
mod h2;
mod inbound;
mod listening;
mod permits;
pub(crate) mod plain;
mod streams;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::{Request, Response};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::descriptors::Descriptors;
use crate::telemetry::Door;
use crate::telemetry::access::PeerIds;
use crate::telemetry::metrics::Metrics;

pub use crate::framing::Refused;
pub use bind::{Bound, bind};

/// Where a door listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Where it is made.
        path: PathBuf,
        /// Its permission bits, `0o660` for one.
        mode: u32,
        /// User and group by number; `None` leaves what the process has.
        owner: Option<(u32, Option<u32>)>,
    },
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a door allows: docs/configuration.md "public.limits" and "public.timeouts".
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Fields of a request head.
    pub head_fields: usize,
    /// Bytes of a request body; `None` for any.
    pub body_bytes: Option<u64>,
    /// Live connections in all.
    pub connections: usize,
    /// Live connections of one client address; `None` for any.
    pub connections_per_address: Option<usize>,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// A connection with no request on it.
    pub idle_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// An upgraded connection on which nothing moves.
    pub upgrade_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            head_fields: 200,
            body_bytes: None,
            connections: 10_000,
            connections_per_address: None,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(90),
            body_idle_timeout: Duration::from_mins(1),
            upgrade_idle_timeout: Duration::from_hours(1),
        }
    }
}

/// One door, ready to be opened.
#[derive(Debug)]
pub struct DoorSpec {
    /// Which one.
    pub door: Door,
    /// Its socket.
    pub bound: Bound,
    /// TLS, with the configuration for the next handshake; `None` for plain text.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    /// HTTP/2 by prior knowledge on plain text.
    pub h2c: bool,
    /// What it allows.
    pub limits: Limits,
    /// Addresses without a limit of their own: the trusted proxies.
    pub exempt: Vec<IpNet>,
    /// What connections of all doors and to all upstreams share.
    pub descriptors: Arc<Descriptors>,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Where it came in.
    pub door: Door,
    /// Its address; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// Its process, on a Unix socket.
    pub unix: Option<PeerIds>,
    /// True under TLS.
    pub tls: bool,
    /// Cancelled when the door drains: an upgraded connection then says goodbye.
    pub drain: CancellationToken,
    /// What is spawned here is waited for by the drain: an upgraded connection's copying belongs here.
    pub tracker: TaskTracker,
}

/// How doors are closed.
#[derive(Clone, Debug)]
pub struct Drain {
    /// When cancelled, the sockets are closed, answers say `Connection: close`, HTTP/2 connections get GOAWAY, and
    /// connections end when their requests do.
    pub token: CancellationToken,
    /// After that long, what is left is cut.
    pub timeout: Duration,
}

/// Opens the doors and serves until `drain` has run its course.
///
/// `make` is called once on each of `workers` threads, inside its runtime, so that what it makes (upstream pools) belongs
/// to that thread. A handler's future is dropped when its client goes away. Acceptors run on the caller's runtime.
///
/// # Errors
/// A thread or socket that the system refuses, or a worker that ended early: then all is cut.
pub async fn run<M, H, F>(
    doors: Vec<DoorSpec>,
    workers: usize,
    make: M,
    metrics: Arc<Metrics>,
    drain: Drain,
) -> std::io::Result<()>
where
    M: Fn() -> H + Send + Sync + 'static,
    H: Fn(Request<Body>, Arc<Peer>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (cut, tracker) = (CancellationToken::new(), TaskTracker::new());
    // However this ends, the workers end with it.
    let cut_at_the_end = cut.clone().drop_guard();
    let (mut desks, mut ended) = (Vec::new(), JoinSet::new());
    let make = Arc::new(make);
    for number in 0..workers.max(1) {
        let (sender, arrivals) = mpsc::unbounded_channel();
        desks.push(accept::Desk { arrivals: sender, load: Arc::new(AtomicUsize::new(0)) });
        let bench = worker::Bench { arrivals, drain: drain.token.clone(), cut: cut.clone(), tracker: tracker.clone() };
        let (make, runtime) = (make.clone(), tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        let (alive, end) = oneshot::channel::<()>();
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _alive = alive;
            worker::run(runtime, bench, &*make);
        })?;
        ended.spawn(end);
    }
    let mut acceptors = JoinSet::new();
    for spec in doors {
        acceptors.spawn(
            accept::Acceptor::new(spec, desks.clone(), tracker.clone(), metrics.clone())?.run(drain.token.clone()),
        );
    }
    drop(desks);
    let accepted = async {
        while let Some(acceptor) = acceptors.join_next().await {
            acceptor.map_err(std::io::Error::other)?;
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::select! {
        accepted = accepted => accepted?,
        _ = ended.join_next() => return Err(std::io::Error::other("a worker ended early")),
    }
    drain.token.cancelled().await;
    tracker.close();
    if tokio::time::timeout(drain.timeout, tracker.wait()).await.is_err() {
        tracing::warn!(left = tracker.len(), "drain.timeout is over; connections are cut");
    }
    drop(cut_at_the_end);
    while ended.join_next().await.is_some() {}
    Ok(())
}
