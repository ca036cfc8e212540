//! Doors: binding, accepting, dealing, serving, draining.

pub mod plain;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

/// What a door allows: CONTRACT "public.limits" and "public.timeouts".
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
            body_idle_timeout: Duration::from_secs(60),
            upgrade_idle_timeout: Duration::from_secs(3600),
        }
    }
}
