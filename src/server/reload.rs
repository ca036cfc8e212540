//! Reloads session keys, secrets, access rules, certificates and the store's address without a restart: when a file changes,
//! and on SIGHUP.
//!
//! Everything is read and checked before anything is replaced; a wrong configuration changes nothing and is logged.
//! Listening addresses and other URLs do not change while the server runs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::config::{self, Config, Sources};
use crate::policy::Access;
use crate::seal::SharedKeyring;
use crate::store::Store;
use crate::telemetry::causes;
use crate::telemetry::metrics::Metrics;
use crate::tls;

const CHECK_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Reloadable {
    pub(super) ring: SharedKeyring,
    pub(super) access: Arc<ArcSwap<Access>>,
    pub(super) certificates: Option<watch::Sender<Arc<ServerConfig>>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) store: Store,
}

/// The TLS configuration of the public door; `None` without certificates.
pub(super) fn certificates(
    config: &Config,
    metrics: &Metrics,
) -> Result<Option<watch::Sender<Arc<ServerConfig>>>, tls::Error> {
    if config.server.certificates.is_empty() {
        return Ok(None);
    }
    Ok(Some(watch::Sender::new(load_certificates(config, metrics)?)))
}

fn load_certificates(config: &Config, metrics: &Metrics) -> Result<Arc<ServerConfig>, tls::Error> {
    let certificates = tls::Certificates::load(&config.server.certificates)?;
    if let Some(expiry) = certificates.expiry() {
        metrics.certificate_expiry(expiry);
    }
    Ok(Arc::new(tls::server(Arc::new(certificates))?))
}

/// Reloads until `ended`.
pub(super) async fn watch(sources: Sources, config: Config, reloadable: Reloadable, ended: CancellationToken) {
    reloadable.metrics.reloaded(reloadable.clock.now().seconds(), true);
    let hangup = signal(SignalKind::hangup());
    if let Err(error) = &hangup {
        tracing::warn!(%error, "cannot listen for SIGHUP; changed files are still reloaded");
    }
    let watch = Box::pin(reload_on_change(&sources, config, &reloadable, hangup.ok(), CHECK_INTERVAL));
    ended.run_until_cancelled(watch).await;
}

async fn reload_on_change(
    sources: &Sources,
    mut config: Config,
    reloadable: &Reloadable,
    mut hangup: Option<Signal>,
    interval: Duration,
) {
    let mut seen = fingerprint(sources, &config);
    let running = config.clone();
    loop {
        let forced = tokio::select! {
            Some(()) = async { hangup.as_mut()?.recv().await } => true,
            () = tokio::time::sleep(interval) => false,
        };
        // Taken before the files are read, so that a change during the read is not missed.
        let now = fingerprint(sources, &config);
        if now == seen && !forced {
            continue;
        }
        let applied = apply(sources, reloadable);
        reloadable.metrics.reloaded(reloadable.clock.now().seconds(), applied.is_ok());
        match applied {
            Ok(fresh) => {
                config = fresh;
                running.take_secrets(&config);
                tracing::info!(
                    "reloaded session keys, secrets, access rules, certificates and the address of the store"
                );
                let keys = config.needs_restart(&running).join(", ");
                if !keys.is_empty() {
                    tracing::warn!(keys, "these keys have changed and take effect only after a restart");
                }
            }
            Err(why) => tracing::error!("reload failed, the previous configuration stays in force: {why}"),
        }
        seen = now;
    }
}

fn apply(sources: &Sources, reloadable: &Reloadable) -> Result<Config, String> {
    let config = config::load(sources).map_err(|problems| problems.to_string())?;
    let keys = config.keyring().map_err(|error| error.to_string())?;
    let certificates = match &reloadable.certificates {
        Some(_) => Some(load_certificates(&config, &reloadable.metrics).map_err(|error| causes(&error))?),
        None => None,
    };
    reloadable.store.reconfigure(&config.store).map_err(|error| error.to_string())?;
    // Nothing is replaced before everything has been read.
    reloadable.ring.replace(keys);
    reloadable.access.store(Arc::new(config.access.clone()));
    if let (Some(sender), Some(fresh)) = (&reloadable.certificates, certificates) {
        sender.send_replace(fresh);
    }
    Ok(config)
}

/// Identifies a file's content without reading it: a replaced file with the same length and modification time has a
/// different inode, and an overwritten one has a different change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// The stamp of each file, or of the target of a symbolic link, which Kubernetes replaces.
fn fingerprint(sources: &Sources, config: &Config) -> Vec<Option<Stamp>> {
    sources.file.iter().chain(&config.files).map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    let (modified, changed) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    Some((about.dev(), about.ino(), about.len(), modified, changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::cookie::CookieStore;

    #[test]
    fn a_file_that_was_replaced_differs_even_with_the_same_length_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("keys"), folder.path().join("next"));
        std::fs::write(&path, "one").unwrap();
        std::fs::write(&next, "two").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::File::options().write(true).open(&next).unwrap().set_modified(time).unwrap();
        let before = stamp(&path);
        assert!(before.is_some() && before == stamp(&path));
        std::fs::rename(&next, &path).unwrap();
        assert_ne!(stamp(&path), before);
        assert_eq!(stamp(&next), None);
    }

    #[tokio::test]
    async fn changed_files_are_reloaded_even_if_sighup_cannot_be_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upwarden.toml");
        std::fs::write(&path, "access.users = ['1']\n").unwrap();
        let sets = [
            "public_url=https://tools.example.com",
            "app.url=http://127.0.0.1:3000",
            "upwork.client_id=0123456789abcdef0123456789abcdef",
            "upwork.client_secret=0123456789abcdef",
            "session.keys=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        ];
        let sets = sets.map(str::to_owned).to_vec();
        let sources = Sources { file: Some(path.clone()), sets, ..Sources::default() };
        let config = config::load(&sources).unwrap();
        let access = Arc::new(ArcSwap::from_pointee(config.access.clone()));
        let ring = SharedKeyring::new(config.keyring().unwrap());
        let (metrics, clock) = (Arc::default(), Arc::new(SystemClock));
        let store = Store::Cookie(CookieStore::new(ring.clone()));
        let reloadable = Reloadable { ring, access: access.clone(), certificates: None, metrics, clock, store };
        let reloading = reload_on_change(&sources, config, &reloadable, None, Duration::from_millis(1));
        let changed = async {
            // The first comparison must not already see the new length.
            tokio::task::yield_now().await;
            std::fs::write(&path, "access.users = ['1', '22']\n").unwrap();
            while !access.load().users.contains("22") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = reloading => unreachable!("it runs until it is cancelled"),
            outcome = tokio::time::timeout(Duration::from_secs(20), changed) => outcome.unwrap(),
        }
    }
}
