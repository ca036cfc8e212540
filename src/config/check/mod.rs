//! Turns the configuration as written into the checked one: each module's own part, with all rules applied.
//!
//! Each part reads all of its keys before it gives up, so that no problem hides another.

mod access;
mod app;
mod app_headers;
mod gateway;
mod pages;
mod routes;
mod server;
mod store;
mod upwork;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;
use url::Url;

use self::server::Server;
pub(super) use self::server::admin;
use super::parse;
use super::problem::Problem;
use super::raw::Fingerprints;
use super::reader::Reader;
use super::session_keys::{KeyError, SessionKeys};
use super::sources::Sources;
use crate::seal::Keyring;
use crate::telemetry::AccessShare;
use crate::{broker, oauth, policy, proxy, router, session, telemetry, tls};

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
    pub(crate) routes: policy::Routes,
    /// The upstreams of routes that have their own, counted from 1.
    pub(crate) upstreams: Vec<proxy::AppConfig>,
    pub(crate) gateway: crate::gateway::Config,
    pub(crate) telemetry: telemetry::Config,
    pub(crate) otlp_url: Option<Url>,
    /// Values that are valid but probably not intended.
    pub(crate) warnings: Vec<Problem>,
    /// The files of secrets, keys, certificates and CAs that were read. A change of one is a change of the
    /// configuration.
    pub(crate) files: Vec<PathBuf>,
    fingerprints: Fingerprints,
}

impl Config {
    /// Reads the session keys, for this deployment.
    pub(crate) fn keyring(&self) -> Result<Keyring, KeyError> {
        Ok(self.keys.read()?.named(&self.gateway.public.url))
    }

    pub(crate) fn upstream(&self, route: &policy::AppRoute) -> &proxy::AppConfig {
        let own = route.upstream.checked_sub(1).and_then(|place| self.upstreams.get(place));
        own.unwrap_or(&self.app)
    }

    /// The keys whose value differs from `running` and that a reload does not replace.
    pub(crate) fn needs_restart<'a>(&'a self, running: &'a Self) -> Vec<&'a str> {
        let (now, then) = (&self.fingerprints, &running.fingerprints);
        let changed = now.keys().chain(then.keys().filter(|key| !now.contains_key(*key)));
        changed.filter(|key| now.get(*key) != then.get(*key)).filter(|key| !is_live(key)).map(String::as_str).collect()
    }

    /// Replaces the live secrets with those of `fresh`. The secret of a different client, or of a door that has none
    /// yet, needs a restart.
    pub(crate) fn take_secrets(&self, fresh: &Self) {
        if self.oauth.client_id == fresh.oauth.client_id {
            self.oauth.client_secret.replace(&fresh.oauth.client_secret);
        }
        if let (Some(service), Some(fresh)) = (&self.service, &fresh.service)
            && service.client_id == fresh.client_id
        {
            service.client_secret.replace(&fresh.client_secret);
        }
        if let (Some(secret), Some(fresh)) = (&self.gateway.neighbour.secret, &fresh.gateway.neighbour.secret) {
            secret.replace(fresh);
        }
    }
}

/// Whether a reload replaces this key (`server::reload`). The service identity itself reads the refresh token's file.
fn is_live(key: &str) -> bool {
    const KEYS: [&str; 7] = [
        "session.keys",
        "session.key_files",
        "public.tls.certificates",
        "service.refresh_token_file",
        "store.ca_file",
        "store.cert_file",
        "store.key_file",
    ];
    const SECRETS: [&str; 4] = ["upwork.client_secret", "service.client_secret", "neighbour.secret", "store.url"];
    let secret = SECRETS.iter().any(|secret| key.strip_prefix(secret).is_some_and(|rest| matches!(rest, "" | "_file")));
    key.starts_with("access.") || KEYS.contains(&key) || secret
}

pub(super) fn config(reader: &mut Reader, sources: &Sources) -> Option<Config> {
    let site = app::site(reader);
    let app = app::app(reader);
    let routes = routes::routes(reader, site.as_ref(), app.as_ref());
    let server = server::server(reader, site.as_ref(), sources.memory);
    let gateway = gateway::gateway(reader, site.as_ref(), server.as_ref());
    let access = access::access(reader);
    let oauth = upwork::oauth(reader, site.as_ref(), access.as_ref(), &sources.env);
    let broker = upwork::broker(reader, oauth.as_ref());
    let keys = access::keys(reader);
    let session = access::session(reader, site.as_ref());
    let store = store::store(reader);
    let service = upwork::service(reader, oauth.as_ref(), store.as_ref());
    let telemetry = telemetry(reader, sources.terminal);
    let otlp_url = reader.parsed("telemetry.otlp_url", parse::web_url);

    if let (Some(app), Some(server)) = (&app, &server) {
        server::apart_from_app(reader, "app.url", &app.upstream, server);
    }
    if let (Some((_, upstreams)), Some(server)) = (&routes, &server) {
        for own in upstreams.iter().filter(|own| app.as_ref().is_none_or(|app| app.upstream != own.upstream)) {
            server::apart_from_app(reader, "routes", &own.upstream, server);
        }
    }
    if let (Some(server), Some(gateway)) = (&server, &gateway) {
        idle(reader, server, service.is_some(), gateway.tickets);
    }
    app_tokens(reader, gateway.as_ref(), store.as_ref());
    let (routes, upstreams) = routes?;
    let (keys, site) = (keys?, site?);
    let mut files = std::mem::take(&mut reader.files);
    files.extend(keys.files().iter().cloned());
    files.extend(server.iter().flat_map(|server| &server.certificates).flat_map(tls::CertificateFiles::both).cloned());
    let secret_files = secret_files(reader, &keys, service.as_ref(), server.as_ref());
    exposed(reader, secret_files);
    Some(Config {
        warnings: std::mem::take(&mut reader.warnings),
        files,
        fingerprints: reader.fingerprints(),
        server: server?,
        keys,
        router: router::Config {
            prefix: site.prefix,
            jwks: gateway.as_ref().is_some_and(|gateway| gateway.assertion.is_some()),
        },
        routes,
        upstreams,
        session: session?,
        store: store?,
        access: access?,
        oauth: oauth?,
        service,
        broker: broker?,
        app: app?,
        gateway: gateway?,
        telemetry: telemetry?,
        otlp_url,
    })
}

fn app_tokens(reader: &mut Reader, gateway: Option<&crate::gateway::Config>, store: Option<&crate::store::Config>) {
    let app_tokens = gateway.is_some_and(|gateway| gateway.public.app.tokens);
    if app_tokens && matches!(store, Some(crate::store::Config::Cookie)) {
        let why = "sessions live in cookies, so there are no personal access tokens";
        reader.warn("app.tokens", why, "set store.kind to \"embedded\" or \"valkey\", or remove app.tokens");
    }
}

/// Every file with a secret, with the key that names it.
fn secret_files(
    reader: &mut Reader,
    keys: &SessionKeys,
    service: Option<&oauth::ServiceConfig>,
    server: Option<&Server>,
) -> Vec<(String, PathBuf)> {
    let refresh_token = service.and_then(|service| match &service.grant {
        oauth::ServiceGrant::RefreshToken { file } => file.clone(),
        oauth::ServiceGrant::ClientCredentials => None,
    });
    let certificates = server.into_iter().flat_map(|server| &server.certificates).map(|pair| pair.key_file.clone());
    let with_key = |key: &'static str| move |path: PathBuf| (key.to_owned(), path);
    std::mem::take(&mut reader.secret_files)
        .into_iter()
        .chain(keys.files().iter().cloned().map(with_key("session.key_files")))
        .chain(refresh_token.map(with_key("service.refresh_token_file")))
        .chain(certificates.map(with_key("public.tls.certificates")))
        .collect()
}

/// Warns of files with a secret that every user of this machine can read.
fn exposed(reader: &mut Reader, files: Vec<(String, PathBuf)>) {
    for (key, path) in files {
        let mode = std::fs::metadata(&path).map_or(0, |found| found.permissions().mode());
        if mode & 0o007 != 0 {
            let path = path.display();
            let why = format!("every user of this machine can read {path}");
            reader.warn(&key, why, format!("run: chmod 600 {path}"));
        }
    }
}

/// Warns of doors and credentials that have no use without each other.
fn idle(reader: &mut Reader, server: &Server, service: bool, tickets: bool) {
    let open = "set neighbour.listen = \"127.0.0.1:4181\"";
    if server.neighbour.is_some() && !service && !tickets {
        let why = "callers have neither a service identity nor tickets, so this door answers every call with 401";
        let remedy = "set service.grant or app.tickets = true, or remove neighbour.listen";
        reader.warn("neighbour.listen", why, remedy);
    }
    if server.neighbour.is_none() && service {
        let why = "the service identity serves callers at the neighbour door, which is off";
        reader.warn("service.grant", why, format!("{open}, or remove service.grant"));
    }
    if server.neighbour.is_none() && tickets {
        let why = "tickets are accepted at the neighbour door only, which is off";
        reader.warn("app.tickets", why, format!("{open}, or remove app.tickets"));
    }
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
    let access = reader.parsed("log.access", access_share);
    Some(telemetry::Config { format: format.unwrap_or(default), level: level?, access: access? })
}

fn access_share(text: &str) -> Result<AccessShare, parse::ValueError> {
    match text {
        "true" => Ok(AccessShare::ALL),
        "false" => Ok(AccessShare::NONE),
        _ => text.parse().ok().and_then(AccessShare::of).ok_or_else(|| {
            parse::ValueError::new(
                "is neither true, nor false, nor a fraction of 1",
                "write true, false, or a number such as 0.01, which logs 1 % of requests and all that fail",
            )
        }),
    }
}

#[cfg(test)]
mod tests;
