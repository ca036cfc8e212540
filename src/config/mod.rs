//! Configuration: file ← environment ← `--set`, checked as a whole.
//!
//! In: [`Sources`]. Out: [`Config`], each room's own part in it, or [`Problems`], all of them. It opens no socket and
//! writes nothing; it reads the configuration file, and the files of secrets, certificates and keys that it names.
//! The value of a secret is in no problem, no log and no `Debug`.

mod check;
mod file;
mod keys;
mod layers;
mod problem;
mod raw;
mod reader;
#[cfg(test)]
mod tests;
mod values;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use keys::KeyError;
pub(crate) use keys::SessionKeys;
pub use layers::split_setting;
pub use problem::{Problem, Problems, Source};

use crate::listener::{Address, Limits};
use crate::tls::CertificateFiles;
use crate::{broker, gateway, oauth, policy, proxy, router, session, store, telemetry};

/// The checked configuration: every room's own part, and the server's.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's own part.
    pub server: Server,
    /// Session keys, read again on every reload.
    pub(crate) keys: SessionKeys,
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

/// Where the configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, the lowest layer.
    pub file: Option<PathBuf>,
    /// The environment: `UPWARDEN_A__B` is `a.b`; `HTTPS_PROXY` is looked at where `upwork.proxy` is not set.
    pub env: Vec<(String, String)>,
    /// `--set`: texts `a.b=value`, the highest layer.
    pub sets: Vec<String>,
    /// Logs go to a terminal, so that text is their default format.
    pub terminal: bool,
}

impl Sources {
    /// This process's own environment and stderr. A variable that is not UTF-8 is told as a problem by [`load`].
    pub fn of_process(file: Option<PathBuf>, sets: Vec<String>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, env, sets, terminal: std::io::stderr().is_terminal() }
    }
}

/// Reads and checks the configuration.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let merged = layers::Merged::new(sources, &mut problems);
    let mut reader = reader::Reader::new(merged, problems);
    let config = check::all(&mut reader, sources);
    if reader.problems.iter().any(|problem| problem.key == file::WHOLE) {
        // What is missing may well stand in the file that could not be read.
        reader.problems.retain(|problem| !matches!(problem.source, Source::Nowhere { .. } | Source::Default));
    }
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(Problems::never_empty(reader.problems)),
    }
}

/// [`load`] with the environment of this process.
pub fn load_from_process(file: Option<PathBuf>, sets: Vec<String>) -> Result<Config, Problems> {
    load(&Sources::of_process(file, sets))
}

/// `admin.listen` alone, whatever else may be wrong or missing: for commands that only ask a running upwarden.
pub fn admin_address(sources: &Sources) -> Result<SocketAddr, Problems> {
    let mut problems = Vec::new();
    let merged = layers::Merged::new(sources, &mut problems);
    let mut reader = reader::Reader::new(merged, Vec::new());
    let address = check::admin(&mut reader);
    // A file that cannot be read at all might have said otherwise.
    let unreadable = problems.into_iter().filter(|problem| problem.key == file::WHOLE);
    reader.problems.extend(unreadable);
    address.filter(|_| reader.problems.is_empty()).ok_or_else(|| Problems::never_empty(reader.problems))
}
