//! Who can reach each door, which proxies are trusted, and who may sign in.

use super::finding::Finding;
use crate::cli::check::{address, clients};
use crate::config::Config;
use crate::listener::Address;

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let mut findings = vec![public(config)];
    findings.extend(config.server.neighbour.as_ref().map(|address| neighbour(address, config)));
    findings.push(admin(&config.server.admin));
    findings.push(access(config));
    findings
}

fn is_loopback(address: &Address) -> bool {
    match address {
        Address::Tcp(address) => address.ip().is_loopback(),
        Address::Unix { .. } => true,
    }
}

fn public(config: &Config) -> Finding {
    const WHAT: &str = "public door";
    let (door, trust) = (&config.server.public, &config.gateway.public.trust);
    let trusted = match door {
        Address::Tcp(_) => !trust.proxies.is_empty(),
        Address::Unix { .. } => trust.unix || config.server.proxy_protocol,
    };
    let plain = config.server.certificates.is_empty();
    let text = format!("{}, {}; {}", address(door), if plain { "plain HTTP" } else { "TLS" }, clients(config));
    if trusted || !plain {
        return Finding::ok(WHAT, text);
    }
    if !is_loopback(door) {
        let remedy = "other machines can reach it without TLS: set public.tls.certificates, or public.trusted_proxies if a \
                      proxy is in front";
        return Finding::warn(WHAT, text, remedy);
    }
    if config.session.secure {
        let remedy = match door {
            Address::Tcp(_) => {
                "public_url is https, so a proxy is in front: list its address in public.trusted_proxies, or every client \
                 appears to be that proxy"
            }
            Address::Unix { .. } => {
                "a proxy is in front: add \"unix\" to public.trusted_proxies, or no client has an address"
            }
        };
        return Finding::warn(WHAT, text, remedy);
    }
    Finding::ok(WHAT, text)
}

fn neighbour(door: &Address, config: &Config) -> Finding {
    const WHAT: &str = "neighbour door";
    if config.service.is_none() && !config.gateway.tickets {
        let text =
            format!("{}; every call gets 401, because there is neither a service identity nor tickets", address(door));
        return Finding::fail(WHAT, text, "set service.grant or app.tickets = true, or remove neighbour.listen");
    }
    if is_loopback(door) {
        let callers = match config.service {
            Some(_) => "everyone who reaches it calls as the service identity",
            None => "without a service identity, callers need a ticket",
        };
        return Finding::ok(WHAT, format!("{}; {callers}", address(door)));
    }
    Finding::warn(
        WHAT,
        format!("other machines can reach {}, but need the secret", address(door)),
        "the secret is sent in plain text: restrict who can connect with a network policy",
    )
}

fn admin(door: &Address) -> Finding {
    let reach = if is_loopback(door) {
        "on this machine only"
    } else {
        "open to other machines: health and metrics, nothing secret"
    };
    Finding::ok("admin door", format!("{}, {reach}", address(door)))
}

fn access(config: &Config) -> Finding {
    const WHAT: &str = "access";
    if config.access.anyone {
        let remedy = "set access.users or access.organizations, unless this is intended";
        return Finding::warn(WHAT, "anyone with an Upwork account may sign in", remedy);
    }
    let (users, organizations) = (config.access.users.len(), config.access.organizations.len());
    Finding::ok(WHAT, format!("{users} user(s) and the members of {organizations} organization(s) may sign in"))
}
