//! The gateway's configuration: its two doors.

use std::net::Ipv6Addr;

use http::HeaderName;
use ipnet::IpNet;

use super::app::Site;
use super::app_headers::app_headers;
use super::pages;
use super::server::Server;
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::gateway::{AppConfig, ClientLimits, Config, NeighbourConfig, PagesConfig, PublicConfig};
use crate::listener::Address;
use crate::proxy::forwarded::Trust;
use crate::secret::Secret;

pub(super) fn gateway(reader: &mut Reader, site: Option<&Site>, server: Option<&Server>) -> Option<Config> {
    let preflight_pass =
        reader.defaulted("app.preflight", |text| parse::choice(text, &[("gate", false), ("pass", true)]));
    let tickets = reader.switch("app.tickets");
    let app_tokens = reader.switch("app.tokens");
    let app_headers = app_headers(reader);
    let assertion = reader.parsed("app.assertion", audience);
    let trusted = trusted_proxies(reader, server);
    let trusted_headers = reader.parsed_list("public.trusted_headers", forwarded_header);
    if trusted_headers.as_ref().is_some_and(|headers| !headers.is_empty())
        && trusted.as_ref().is_some_and(|trusted| trusted.networks.is_empty() && !trusted.unix)
    {
        let remedy = "set public.trusted_proxies too, or remove it";
        reader.problem("public.trusted_headers", "it has no effect without a trusted proxy", remedy);
    }
    for name in trusted_headers.iter().flatten() {
        if app_headers.iter().flatten().any(|added| added.is_read_from(name)) {
            let why = format!("{name} is in public.trusted_headers too, so a proxy may set it");
            reader.problem("app.headers", why, "keep it in one of the two");
        }
    }
    let public_read_only = reader.switch("public.read_only");
    let neighbour_read_only = reader.switch("neighbour.read_only");
    let sign_ins_per_address = reader.count("public.limits.sign_ins_per_address", 1_000_000);
    let hosts = reader.parsed_list("neighbour.hosts", host);
    let secret = secret(reader);
    let branding = pages::branding(reader);
    let sign_out_to = pages::sign_out_to(reader);
    let server = server?;
    let (site, trusted) = (site?, trusted?);
    let public = PublicConfig {
        url: site.public_url.clone(),
        // A proxy that only forwards TCP passes on its clients' headers.
        trust: Trust::new(&site.public_url, trusted.networks).with_unix(trusted.unix && !server.proxy_protocol),
        trusted_headers: trusted_headers?,
        app: AppConfig { preflight_pass, tokens: app_tokens },
        read_only: public_read_only,
        limits: ClientLimits { sign_ins: sign_ins_per_address, requests: server.limits.connections_per_address },
        pages: PagesConfig { branding: branding.into(), sign_out_to },
    };
    let neighbour = NeighbourConfig {
        read_only: neighbour_read_only,
        hosts: hosts?,
        secret: secret.map(Into::into),
        address: server.neighbour.as_ref().map(ToString::to_string),
    };
    Some(Config { public, neighbour, tickets, app_headers: app_headers?, assertion })
}

struct TrustedProxies {
    networks: Vec<IpNet>,
    /// What may connect to the Unix socket.
    unix: bool,
}

fn trusted_proxies(reader: &mut Reader, server: Option<&Server>) -> Option<TrustedProxies> {
    const KEY: &str = "public.trusted_proxies";
    // None for "unix".
    let given =
        reader.parsed_list(KEY, |text| if text == "unix" { Ok(None) } else { parse::network(text).map(Some) })?;
    let unix = given.contains(&None);
    let networks: Vec<_> = given.into_iter().flatten().collect();
    if networks.iter().any(|network| network.prefix_len() == 0) {
        let why = "every address is trusted, so any client can claim any address, host and scheme in X-Forwarded-*";
        reader.warn(KEY, why, "list only the addresses of the proxy in front");
    }
    if let Some(server) = server {
        let at_socket = matches!(server.public, Address::Unix { .. });
        if unix && !at_socket {
            let why = "\"unix\" has no effect, because public.listen is not a Unix socket";
            reader.problem(KEY, why, "remove it, or write the proxy's address");
        }
        let can_connect = if at_socket { unix } else { !networks.is_empty() };
        if server.proxy_protocol && !can_connect {
            let why = "without a trusted proxy, every connection would be refused";
            let remedy = if at_socket {
                "add \"unix\" to public.trusted_proxies, or remove it"
            } else {
                "list the load balancer's addresses in public.trusted_proxies, or remove it"
            };
            reader.problem("public.proxy_protocol", why, remedy);
        } else if at_socket && !unix {
            let why = "a Unix socket's peer has no address, and X-Forwarded-* from the proxy are dropped, so the client's \
                       address is unknown and limits by address do not apply";
            reader.warn(
                "public.listen",
                why,
                "add \"unix\" to public.trusted_proxies, and let only the proxy open the socket",
            );
        }
    }
    Some(TrustedProxies { networks, unix })
}

/// The name that tells the app that an assertion is meant for it.
fn audience(text: &str) -> Result<String, ValueError> {
    if parse::switch(text).is_ok() {
        let why = "is not an audience, which the app compares so that it rejects assertions for other apps";
        return Err(ValueError::new(why, "write a name for the app, such as \"my-app\", or remove the key"));
    }
    parse::field_value(text)
}

fn secret(reader: &mut Reader) -> Option<Secret> {
    let secret = reader.secret("neighbour.secret")?;
    if let Some(key) = reader.given_secret("neighbour.secret")
        && parse::field_value(secret.expose()).is_err()
    {
        let why = "callers send it in a header, which cannot contain line breaks, outer blanks or non-ASCII characters";
        reader.problem(&key, why, "use one line of ASCII letters, digits and punctuation");
    }
    Some(secret)
}

/// A header with which proxies describe a client, and which upwarden does not set itself.
fn forwarded_header(text: &str) -> Result<HeaderName, ValueError> {
    let name = text.to_ascii_lowercase();
    let own = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-user"];
    if own.contains(&name.as_str()) {
        return Err(ValueError::new("is a header that upwarden sets itself", "remove it from the list"));
    }
    let header = HeaderName::try_from(&name).ok().filter(|_| name.starts_with("x-forwarded-"));
    header.ok_or_else(|| {
        ValueError::new(
            "is not an X-Forwarded-* header",
            "list only headers of that family; others are always passed on",
        )
    })
}

/// A host name or address without a port, in lower case, IPv6 in brackets.
fn host(text: &str) -> Result<String, ValueError> {
    let bare = text.parse::<Ipv6Addr>().map(|address| format!("[{address}]"));
    let text = bare.unwrap_or_else(|_| text.to_ascii_lowercase());
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(format!("[{address}]"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    parse::only(&text, plain, "is not a host name", "write a name or an address without scheme, port and path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_that_we_do_not_set_can_be_trusted() {
        assert_eq!(forwarded_header("X-Forwarded-Prefix").unwrap(), "x-forwarded-prefix");
        for bad in ["X-Forwarded-For", "x-forwarded-user", "X-Real-IP", "Forwarded", "X-Custom", "x-forwarded- a", ""] {
            assert!(forwarded_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_one_form() {
        assert_eq!(host("LocalHost"), Ok("localhost".to_owned()));
        assert_eq!((host("::1"), host("[0:0::1]")), (Ok("[::1]".to_owned()), Ok("[::1]".to_owned())));
        assert!(host("a:80").is_err() && host("http://a").is_err());
    }
}
