//! From the configuration as written to the one in force: each module's own part, with all rules checked.
//!
//! Each part first reads all of its keys and only then gives up, so that no problem hides another.

mod access;
mod app;
mod gateway;
mod server;
mod store;
mod upwork;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;

use self::server::Server;
pub(super) use self::server::admin;
use super::parse;
use super::reader::Reader;
use super::session_keys::{KeyError, SessionKeys};
use super::sources::Sources;
use crate::seal::Keyring;
use crate::{broker, oauth, policy, proxy, router, session, telemetry};

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) server: Server,
    /// Read again on every reload.
    pub(crate) keys: SessionKeys,
    pub(crate) router: router::Config,
    pub(crate) session: session::Config,
    pub(crate) store: crate::store::Config,
    pub(crate) access: policy::Access,
    pub(crate) oauth: oauth::Config,
    pub(crate) service: Option<oauth::ServiceConfig>,
    pub(crate) broker: broker::Config,
    pub(crate) app: proxy::AppConfig,
    pub(crate) gateway: crate::gateway::Config,
    pub(crate) telemetry: telemetry::Config,
    /// Every file that holds a secret.
    pub(crate) secret_files: Vec<PathBuf>,
}

impl Config {
    /// The session keys, for this deployment.
    pub(crate) fn keyring(&self) -> Result<Keyring, KeyError> {
        Ok(self.keys.read()?.named(&self.gateway.public.url))
    }

    /// The files with a secret that every user of this machine can read.
    pub(crate) fn exposed_secrets(&self) -> Vec<String> {
        let mode = |path: &PathBuf| std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
        let exposed = self.secret_files.iter().filter(|path| mode(path) & 0o007 != 0);
        exposed.map(|path| path.display().to_string()).collect()
    }
}

/// Checks everything.
pub(super) fn config(reader: &mut Reader, sources: &Sources) -> Option<Config> {
    let site = app::site(reader);
    let app = app::app(reader);
    let router = app::router(reader, site.as_ref());
    let server = server::server(reader, site.as_ref());
    let gateway = gateway::gateway(reader, site.as_ref(), server.as_ref());
    let access = access::access(reader);
    let oauth = upwork::oauth(reader, site.as_ref(), access.as_ref(), &sources.env);
    let broker = upwork::broker(reader, oauth.as_ref());
    let keys = access::keys(reader);
    let session = access::session(reader, site.as_ref());
    let store = store::store(reader);
    let service = upwork::service(reader, oauth.as_ref(), store.as_ref());
    let telemetry = telemetry(reader, sources.terminal);

    if let (Some(app), Some(server)) = (&app, &server) {
        server::apart_from_app(reader, &app.upstream, server);
    }
    let keys = keys?;
    let refresh_token = service.as_ref().and_then(|service| match &service.grant {
        oauth::ServiceGrant::RefreshToken { file } => file.clone(),
        oauth::ServiceGrant::ClientCredentials => None,
    });
    let certificates = server.iter().flat_map(|server| &server.certificates).map(|pair| pair.key_file.clone());
    let mut secret_files = std::mem::take(&mut reader.secret_files);
    secret_files.extend(keys.files().iter().cloned().chain(refresh_token).chain(certificates));
    Some(Config {
        secret_files,
        server: server?,
        keys,
        router: router?,
        session: session?,
        store: store?,
        access: access?,
        oauth: oauth?,
        service,
        broker: broker?,
        app: app?,
        gateway: gateway?,
        telemetry: telemetry?,
    })
}

fn telemetry(reader: &mut Reader, terminal: bool) -> Option<telemetry::Config> {
    use telemetry::Format::{Json, Text};
    let format = reader.parsed("log.format", |text| parse::choice(text, &[("text", Text), ("json", Json)]));
    let level = reader.parsed("log.level", |text| {
        let levels = [
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ];
        parse::choice(text, &levels)
    });
    let default = if terminal { Text } else { Json };
    Some(telemetry::Config { format: format.unwrap_or(default), level: level? })
}
