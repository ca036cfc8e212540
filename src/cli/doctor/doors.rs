//! Who can reach which door, and who is believed and let in.
//!
//! In: the configuration. Out: findings.

use super::Finding;
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

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix { path, mode, .. } => format!("unix:{} (mode {mode:04o})", path.display()),
    }
}

fn public(config: &Config) -> Finding {
    const WHAT: &str = "public door";
    let (door, trusted) = (&config.server.public, &config.gateway.public.trusted_proxies);
    let plain = config.server.certificates.is_empty();
    let list = trusted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let believed = if list.is_empty() { "nobody".to_owned() } else { list };
    let text =
        format!("{}, {}; {believed} is believed about X-Forwarded-*", shown(door), if plain { "plain" } else { "TLS" });
    let remedy = if !trusted.is_empty() || !plain {
        if trusted.iter().any(|network| network.prefix_len() == 0) {
            "public.trusted_proxies names everybody: name the proxy's own addresses"
        } else {
            ""
        }
    } else if !is_loopback(door) {
        "it is open to other machines without TLS: set public.tls.certificates, or public.trusted_proxies where a proxy is \
         in front"
    } else if config.session.secure {
        "public_url is https, so a proxy is in front: name its address in public.trusted_proxies, or every client will \
         seem to be that proxy"
    } else {
        ""
    };
    if remedy.is_empty() { Finding::ok(WHAT, text) } else { Finding::warn(WHAT, text, remedy) }
}

fn neighbour(address: &Address, config: &Config) -> Finding {
    const WHAT: &str = "neighbour door";
    if is_loopback(address) {
        let who = match config.service {
            Some(_) => "whoever reaches it calls as the service identity",
            None => "there is no service identity, so it needs a ticket",
        };
        return Finding::ok(WHAT, format!("{}; {who}", shown(address)));
    }
    Finding::warn(
        WHAT,
        format!("{} can be reached from other machines, with the secret only", shown(address)),
        "the secret goes over the wire in plain: let a network policy say who may connect",
    )
}

fn admin(address: &Address) -> Finding {
    const WHAT: &str = "admin door";
    if is_loopback(address) {
        return Finding::ok(WHAT, format!("{}, on this machine only", shown(address)));
    }
    Finding::ok(
        WHAT,
        format!("{} can be reached from other machines: health and metrics, nothing secret", shown(address)),
    )
}

fn access(config: &Config) -> Finding {
    const WHAT: &str = "access";
    if config.access.anyone {
        let remedy = "set access.users or access.organizations, unless that is meant";
        return Finding::warn(WHAT, "anyone who has an Upwork account may enter", remedy);
    }
    let (users, organizations) = (config.access.users.len(), config.access.organizations.len());
    Finding::ok(WHAT, format!("{users} user(s) and the people of {organizations} organization(s) may enter"))
}
