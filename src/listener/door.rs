//! A door: its socket, its limits, and what its handler learns about a connection.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Bound;
use crate::descriptors::Descriptors;
use crate::framing::{self, Rejection};
use crate::http1::BoundPool;
use crate::http1::server::Config;
use crate::telemetry::Door;
use crate::telemetry::access::PeerIds;
use crate::telemetry::metrics::{Metrics, Refusal};

/// A door's limits: docs/configuration.md "public.limits" and "public.timeouts".
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Fields of a request head.
    pub head_fields: usize,
    /// Bytes of a request body; `None` for no limit.
    pub body_bytes: Option<u64>,
    /// Live connections in all.
    pub connections: usize,
    /// Live connections of one client address; `None` for no limit.
    pub connections_per_address: Option<usize>,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// For a connection without a request.
    pub idle_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// For an idle upgraded connection.
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

/// A door that is ready to open.
#[derive(Debug)]
pub struct DoorSpec {
    /// Which door it is.
    pub door: Door,
    /// Its socket.
    pub bound: Bound,
    /// TLS, with the configuration for the next handshake; `None` for plain text.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    /// HTTP/2 by prior knowledge on plain text.
    pub h2c: bool,
    /// Each connection comes from one of `exempt` and begins with a header that names its client.
    pub proxy_protocol: bool,
    /// Its limits.
    pub limits: Limits,
    /// Addresses without a limit: the trusted proxies.
    pub exempt: Vec<IpNet>,
    /// Shared by the connections of all doors and to all upstreams.
    pub descriptors: Arc<Descriptors>,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The door it connected to.
    pub door: Door,
    /// Its address; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// Its process, on a Unix socket.
    pub unix: Option<PeerIds>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Cancelled when the door drains: an upgraded connection then closes.
    pub drain: CancellationToken,
    /// The drain waits for tasks spawned here, such as the copying of an upgraded connection.
    pub tracker: TaskTracker,
    /// Upstream connections that authenticate this client.
    pub(crate) bound: Arc<BoundPool>,
    /// Data that its handler remembers for the connection.
    pub memory: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// How doors are closed: the public door first, because the app may need the neighbour door to answer requests in flight.
///
/// A door that closes accepts no more connections, its responses say `Connection: close`, HTTP/2 connections get GOAWAY, and
/// connections end with their requests.
#[derive(Clone, Debug)]
pub struct Drain {
    /// When cancelled, the public door closes.
    pub token: CancellationToken,
    /// When cancelled, the neighbour door closes once the public door's connections are gone.
    pub neighbour: CancellationToken,
    /// After this time the neighbour door closes in any case, and the public door's remaining connections are cut.
    pub timeout: Duration,
}

/// The tokens that tell the connections of each door that it closes.
#[derive(Clone, Debug)]
pub(super) struct DoorTokens {
    public: CancellationToken,
    neighbour: CancellationToken,
}

impl DoorTokens {
    pub(super) fn of(&self, door: Door) -> &CancellationToken {
        match door {
            Door::Public => &self.public,
            Door::Neighbour => &self.neighbour,
        }
    }

    /// Child tokens, so that waiting on them shares no state with other workers.
    pub(super) fn child(&self) -> Self {
        Self { public: self.public.child_token(), neighbour: self.neighbour.child_token() }
    }
}

/// The minimum time for a neighbour's request, even if it arrived when `timeout` was nearly over.
const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(5);

impl Drain {
    pub(super) fn closing(&self) -> DoorTokens {
        DoorTokens { public: self.token.clone(), neighbour: CancellationToken::new() }
    }

    /// Closes the doors whose connections these trackers count; each tracker is closed once its door accepts no more.
    pub(super) async fn complete(&self, closing: &DoorTokens, doors: &[(Door, TaskTracker)]) {
        self.token.cancelled().await;
        let cut_at = Instant::now() + self.timeout;
        let (neighbour, public): (Vec<_>, Vec<_>) = doors.iter().partition(|(door, _)| *door == Door::Neighbour);
        let gone = async |doors: &[&(Door, TaskTracker)]| {
            for (_, tracker) in doors {
                tracker.wait().await;
            }
        };
        let public_gone = async {
            gone(&public).await;
            if !neighbour.is_empty() {
                self.neighbour.cancelled().await;
            }
        };
        // In either case, close the neighbour door next.
        let _ = timeout_at(cut_at, public_gone).await;
        closing.neighbour.cancel();
        let _ = timeout_at(cut_at.max(Instant::now() + NEIGHBOUR_TIMEOUT), gone(&neighbour)).await;
        let left: usize = doors.iter().map(|(_, tracker)| tracker.len()).sum();
        if left > 0 {
            tracing::warn!(left, "drain.timeout is over; connections are cut");
        }
    }
}

/// Counts and logs a message that was not accepted.
pub(super) fn report(rejection: Rejection, door: Door, metrics: &Metrics) {
    metrics.refused(door, label(rejection));
    tracing::info!(door = door.as_str(), reason = rejection.reason, rule = rejection.section, "refused");
}

/// The label that a rejection is counted under.
fn label(rejection: Rejection) -> Refusal {
    match rejection.status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => Refusal::HeadTooLarge,
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::BodyTooLarge,
        StatusCode::REQUEST_TIMEOUT if rejection == Rejection::HEAD_TIMEOUT => Refusal::HeadTimeout,
        StatusCode::REQUEST_TIMEOUT => Refusal::BodyTimeout,
        _ => Refusal::BadMessage,
    }
}

/// The limits for HTTP/1.
pub(super) fn http1_config(limits: &Limits) -> Arc<Config> {
    Arc::new(Config {
        framing: framing::Limits {
            head_bytes: limits.head_bytes,
            head_fields: limits.head_fields,
            ..framing::Limits::default()
        },
        body_bytes: limits.body_bytes,
        head_timeout: limits.head_timeout,
        idle_timeout: limits.idle_timeout,
        body_idle_timeout: limits.body_idle_timeout,
    })
}
