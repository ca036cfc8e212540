//! What `upwarden check` says of a configuration in which nothing is wrong.
//!
//! In: the checked configuration. Out: a few lines for a person. It shows names, addresses and counts, never a secret.

use std::fmt::Write;

use crate::config::{Config, SessionKeys};
use crate::listener::Address;
use crate::oauth::{Grant, ServiceGrant};
use crate::proxy::Upstream;
use crate::store;

/// The summary, without a final line break.
pub(super) fn summary(config: &Config) -> String {
    let mut text = String::from("configuration is fine\n");
    let lines = [
        ("people open", config.gateway.public.url.clone()),
        ("app", app(&config.app.upstream)),
        ("public door", public(config)),
        ("neighbour", neighbour(config)),
        ("admin door", address(&config.server.admin)),
        ("who may enter", who(config)),
        ("grant", grant(config)),
        ("callback", format!("{} (set exactly this on the key at Upwork)", config.oauth.redirect_uri)),
        ("service", service(config)),
        ("store", store(config)),
        ("session keys", keys(config)),
    ];
    for (label, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<15}{value}");
    }
    text.truncate(text.trim_end().len());
    text
}

fn address(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix { path, mode, .. } => format!("unix:{} (mode {mode:04o})", path.display()),
    }
}

fn app(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Tcp { host, port, tls } => format!("{}://{host}:{port}", if *tls { "https" } else { "http" }),
        Upstream::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn public(config: &Config) -> String {
    let how = match config.server.certificates.len() {
        0 => "plain HTTP",
        1 => "TLS, 1 certificate",
        _ => "TLS, several certificates",
    };
    format!("{} ({how})", address(&config.server.public))
}

fn neighbour(config: &Config) -> String {
    match &config.server.neighbour {
        None => "off".to_owned(),
        Some(at) if config.gateway.neighbour.secret.is_some() => format!("{} (callers show a secret)", address(at)),
        Some(at) => address(at),
    }
}

fn who(config: &Config) -> String {
    if config.access.anyone {
        return "anyone who has an Upwork account".to_owned();
    }
    format!("{} by user id, {} by organization", config.access.users.len(), config.access.organizations.len())
}

fn grant(config: &Config) -> String {
    match (config.oauth.grant, config.oauth.implicit_identity) {
        (Grant::Code, _) => "code, with PKCE".to_owned(),
        (Grant::Implicit, true) => "implicit, its identity accepted although it proves little".to_owned(),
        (Grant::Implicit, false) => "implicit, no identity is passed on".to_owned(),
    }
}

fn service(config: &Config) -> String {
    match config.service.as_ref().map(|service| &service.grant) {
        None => "none".to_owned(),
        Some(ServiceGrant::ClientCredentials) => "client_credentials".to_owned(),
        Some(ServiceGrant::RefreshToken { .. }) => "refresh_token".to_owned(),
    }
}

fn store(config: &Config) -> String {
    match &config.store {
        store::Config::Cookie => "cookie: sessions live in the browser, sealed".to_owned(),
        store::Config::Embedded { path } => format!("embedded: {}", path.display()),
        store::Config::Valkey { .. } => "valkey".to_owned(),
    }
}

fn keys(config: &Config) -> String {
    match &config.keys {
        SessionKeys::Inline(keys) => format!("{} given; the first seals", keys.len()),
        SessionKeys::Files(files) => format!("from {} file(s); the first key seals", files.len()),
    }
}
