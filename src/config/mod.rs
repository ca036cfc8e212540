//! Configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::listener::{Address, Limits};
use crate::secret::Secret;
use crate::tls::CertificateFiles;
use crate::{broker, gateway, oauth, policy, proxy, router, session, store, telemetry};

/// The checked configuration: every room's own part, and the server's.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's own part.
    pub server: Server,
    /// Session keys, still as text: 32 bytes, base64url; the first seals.
    pub keys: Vec<Secret>,
    /// Files that hold session keys, one a line; read after `keys`, and again on reload.
    pub key_files: Vec<PathBuf>,
    /// The router's part.
    pub router: router::Config,
    /// The session's part.
    pub session: session::Config,
    /// The store's part.
    pub store: store::Config,
    /// Who may enter.
    pub access: policy::Access,
    /// Our client at Upwork.
    pub oauth: oauth::Config,
    /// The service identity, where one is configured.
    pub service: Option<oauth::ServiceConfig>,
    /// The API.
    pub broker: broker::Config,
    /// The app.
    pub app: proxy::AppConfig,
    /// The gate's part.
    pub gateway: gateway::Config,
    /// Logs.
    pub telemetry: telemetry::Config,
}

/// What the server itself needs.
#[derive(Clone, Debug)]
pub struct Server {
    /// The public door.
    pub public: Address,
    /// Certificates of the public door; empty for plain HTTP.
    pub certificates: Vec<CertificateFiles>,
    /// HTTP/2 by prior knowledge on the plain public door.
    pub h2c: bool,
    /// The neighbour door.
    pub neighbour: Option<Address>,
    /// The admin door.
    pub admin: Address,
    /// Worker threads.
    pub workers: usize,
    /// Limits and time-outs of the public door.
    pub limits: Limits,
    /// After SIGTERM the doors go on serving this long.
    pub drain_delay: Duration,
    /// Then what is in flight has this long.
    pub drain_timeout: Duration,
}
