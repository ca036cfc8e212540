//! The summary of a valid configuration that `upwarden check` prints: names, addresses, counts and warnings, never a
//! secret.

use std::fmt::Write;

use crate::config::{Config, SessionKeys};
use crate::listener::Address;
use crate::oauth::{Grant, ServiceGrant};
use crate::policy::AppRoute;
use crate::proxy::client::Timeouts;
use crate::router::JWKS;
use crate::store;

pub(super) fn summary(config: &Config) -> String {
    let mut text = String::from("the configuration is valid\n");
    let lines = [
        ("public URL", config.gateway.public.url.clone()),
        ("app", config.app.upstream.to_string()),
        ("routes", routes(config)),
        ("public door", public(config)),
        ("neighbour door", neighbour(config)),
        ("clients", clients(config)),
        ("connections", connections(config)),
        ("admin door", address(&config.server.admin)),
        ("access", access(config)),
        ("grant", grant(config).to_owned()),
        ("callback", format!("{} (register exactly this for the API key at Upwork)", config.oauth.redirect_uri)),
        ("assertions", assertions(config)),
        ("service", service(config).to_owned()),
        ("store", store(config)),
        ("session keys", keys(config)),
    ];
    for (label, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<15}{value}");
    }
    for warning in &config.warnings {
        let _ = write!(text, "\nwarning: {warning}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// The routes in the order in which they are tried; empty if there is only the app's own.
fn routes(config: &Config) -> String {
    let line = |route: &AppRoute| {
        let upstream = config.upstream(route);
        let mut needs = vec![if route.public { "public" } else { "a session" }.to_owned()];
        if let Some(access) = &route.admits {
            needs.extend(access.users.iter().map(|id| format!("user {id}")));
            needs.extend(access.organizations.iter().map(|id| format!("organization {id}")));
        }
        needs.extend(route.read_only.then(|| "read-only".to_owned()));
        needs.extend(upstream.http2.then(|| "HTTP/2".to_owned()));
        if upstream.timeouts != config.app.timeouts {
            let Timeouts { connect, first_byte, idle } = upstream.timeouts;
            needs.push(format!("timeouts {connect:?} {first_byte:?} {idle:?}"));
        }
        let methods = if route.methods.is_empty() { String::new() } else { format!(" {}", route.methods.join(" ")) };
        format!("{}{methods} → {} ({})", route.path, upstream.upstream, needs.join(", "))
    };
    let lines: Vec<_> = config.routes.iter().map(line).collect();
    if lines.len() > 1 { lines.join(&format!("\n{:17}", "")) } else { String::new() }
}

/// An address, with the mode of a Unix socket.
pub(super) fn address(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix { mode, .. } => format!("{address} (mode {mode:04o})"),
    }
}

fn public(config: &Config) -> String {
    let how = match config.server.certificates.len() {
        0 => "plain HTTP".to_owned(),
        count => format!("TLS, {count} certificate(s)"),
    };
    format!("{} ({how})", address(&config.server.public))
}

/// The limit of connections, and the memory that they could take.
fn connections(config: &Config) -> String {
    let server = &config.server;
    let allowed = server
        .memory
        .map_or_else(|| "no cgroup limits it".to_owned(), |bytes| format!("the cgroup allows {} MiB", bytes >> 20));
    let unread = server.unread_answers() >> 20;
    format!(
        "at most {}; answers that clients do not read could hold {unread} MiB of memory ({allowed})",
        server.limits.connections
    )
}

/// What is trusted about the origin of requests.
pub(super) fn clients(config: &Config) -> String {
    let public = &config.gateway.public;
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let unix = public.trust.unix.then(|| "the Unix socket".to_owned());
    let proxies = list(&mut public.trust.proxies.iter().map(ToString::to_string).chain(unix));
    let believed = if proxies.is_empty() {
        "trusts no proxy".to_owned()
    } else {
        format!("trusts X-Forwarded-* or Forwarded from {proxies}")
    };
    let passed = list(&mut public.trusted_headers.iter().map(ToString::to_string));
    let passed = if passed.is_empty() { passed } else { format!("; {passed} goes on to the app") };
    let tls = !config.server.certificates.is_empty();
    let scheme = match (tls, config.session.secure) {
        (false, true) => {
            format!("; unless a proxy says otherwise, requests for the host of {} count as https", public.url)
        }
        (true, _) | (false, false) => String::new(),
    };
    let named = if config.server.proxy_protocol { "the PROXY protocol names clients; " } else { "" };
    format!("{named}{believed}{passed}{scheme}")
}

fn neighbour(config: &Config) -> String {
    match &config.server.neighbour {
        None => "off".to_owned(),
        Some(door) if config.gateway.neighbour.secret.is_some() => {
            format!("{} (callers need the secret)", address(door))
        }
        Some(door) => address(door),
    }
}

fn access(config: &Config) -> String {
    if config.access.anyone {
        return "anyone with an Upwork account".to_owned();
    }
    format!("{} user(s), {} organization(s)", config.access.users.len(), config.access.organizations.len())
}

fn grant(config: &Config) -> &'static str {
    match (config.oauth.grant, config.oauth.implicit_identity) {
        (Grant::Code, _) => "code, with PKCE",
        (Grant::Implicit, true) => "implicit, its identity accepted although it is not proven",
        (Grant::Implicit, false) => "implicit, no identity is passed to the app",
    }
}

/// What an app needs to verify assertions; empty if it gets none.
fn assertions(config: &Config) -> String {
    let url = &config.gateway.public.url;
    let said = |audience: &String| format!("iss {url}, aud {audience}; the public keys are at {url}{JWKS}");
    config.gateway.assertion.as_ref().map(said).unwrap_or_default()
}

fn service(config: &Config) -> &'static str {
    match config.service.as_ref().map(|service| &service.grant) {
        None => "none",
        Some(ServiceGrant::ClientCredentials) => "client_credentials",
        Some(ServiceGrant::RefreshToken { .. }) => "refresh_token",
    }
}

fn store(config: &Config) -> String {
    match &config.store {
        store::Config::Cookie => "cookie: sessions are in the browser, sealed".to_owned(),
        store::Config::Embedded { path } => format!("embedded: {}", path.display()),
        store::Config::Valkey(config) => format!("valkey: {}", config.layout()),
    }
}

fn keys(config: &Config) -> String {
    match &config.keys {
        SessionKeys::Inline(keys) => format!("{}; the first seals", keys.len()),
        SessionKeys::Files(files) => format!("from {} file(s); the first key seals", files.len()),
    }
}
