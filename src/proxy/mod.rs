//! Requests to an upstream, answers back.

use std::path::PathBuf;
use std::time::Duration;

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Over TCP.
    Tcp {
        /// Host name or address, IPv6 in brackets.
        host: String,
        /// Port.
        port: u16,
        /// TLS or plain.
        tls: bool,
    },
    /// Over a Unix socket, plain.
    Unix(PathBuf),
}

/// What `Host` the app sees: CONTRACT "app.host".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// The client's (`"keep"`).
    Keep,
    /// The app's own, from `app.url` (`"app"`).
    App,
    /// This one.
    Fixed(String),
}

/// The app behind us: CONTRACT "app".
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Where it is.
    pub upstream: Upstream,
    /// A CA trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What `Host` it sees.
    pub host: HostPolicy,
    /// Drop the client's `Authorization` on the way to the app.
    pub drop_authorization: bool,
    /// Until a connection is made.
    pub connect_timeout: Duration,
    /// From the request's end to the answer's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
}
