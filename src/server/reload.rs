//! What is read again without a restart: session keys, access rules, certificates.
//!
//! In: the sources of the configuration. Out: a new ring, new rules, a new TLS configuration, each swapped in whole. A
//! configuration that is wrong changes nothing and is told in the log; what cannot change in flight (doors, URLs) is left.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Error, keyring};
use crate::config::{self, Config, Sources};
use crate::policy::Access;
use crate::seal::Ring;
use crate::tls;

/// How often files are looked at. SIGHUP looks at once.
const LOOK: Duration = Duration::from_secs(2);

/// What a reload replaces.
pub(super) struct Watched {
    pub(super) ring: Ring,
    pub(super) access: Arc<ArcSwap<Access>>,
    pub(super) certificates: Option<watch::Sender<Arc<ServerConfig>>>,
}

/// The TLS configuration of the public door, as a value that can be replaced; `None` without certificates.
pub(super) fn certificates(config: &Config) -> Result<Option<watch::Sender<Arc<ServerConfig>>>, Error> {
    if config.server.certificates.is_empty() {
        return Ok(None);
    }
    Ok(Some(watch::Sender::new(load_certificates(config)?)))
}

fn load_certificates(config: &Config) -> Result<Arc<ServerConfig>, tls::Error> {
    let certificates = tls::Certificates::load(&config.server.certificates)?;
    Ok(Arc::new(tls::server(Arc::new(certificates))?))
}

/// Looks at the files now and then, and at once on SIGHUP, until `ended`.
pub(super) async fn watch(sources: Sources, mut config: Config, watched: Watched, ended: CancellationToken) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be heard; files are looked at all the same");
        return;
    };
    let mut seen = fingerprint(&sources, &config);
    loop {
        let asked = tokio::select! {
            () = ended.cancelled() => return,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = fingerprint(&sources, &config);
        if now == seen && !asked {
            continue;
        }
        match apply(&sources, &watched) {
            Ok(fresh) => {
                config = fresh;
                tracing::info!("reloaded session keys, access rules and certificates");
            }
            Err(why) => tracing::error!("not reloaded, what was in force stays: {why}"),
        }
        // Taken before the reading, so that a change in between is not missed.
        seen = now;
    }
}

fn apply(sources: &Sources, watched: &Watched) -> Result<Config, String> {
    let config = config::load(sources).map_err(|problems| problems.to_string())?;
    let keys = config::session_keys(&config.keys, &config.key_files).map_err(|error| error.to_string())?;
    let keys = keyring(&keys).map_err(|error| error.to_string())?;
    let certificates = match &watched.certificates {
        Some(_) => Some(load_certificates(&config).map_err(|error| format!("{error:?}"))?),
        None => None,
    };
    // Everything was read; only now does anything change.
    watched.ring.replace(keys);
    watched.access.store(Arc::new(config.access.clone()));
    if let (Some(sender), Some(fresh)) = (&watched.certificates, certificates) {
        sender.send_replace(fresh);
    }
    Ok(config)
}

type Print = Vec<Option<(SystemTime, u64)>>;

/// When each file was last changed, and how long it is. Kubernetes swaps a link, and the time of what it leads to changes.
fn fingerprint(sources: &Sources, config: &Config) -> Print {
    let certificates = config.server.certificates.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]);
    let files: Vec<&PathBuf> = sources.file.iter().chain(&config.key_files).chain(certificates).collect();
    files
        .into_iter()
        .map(|path| std::fs::metadata(path).and_then(|about| Ok((about.modified()?, about.len()))).ok())
        .collect()
}
