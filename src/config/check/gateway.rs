//! What the gateway needs to know of its two doors.

use std::net::Ipv6Addr;

use super::app::Site;
use super::server::Server;
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::gateway::{Config, NeighbourConfig, PublicConfig};
use crate::secret::Secret;

pub(super) fn gateway(reader: &mut Reader, site: Option<&Site>, server: Option<&Server>) -> Option<Config> {
    let preflight_pass =
        reader.defaulted("app.preflight", |text| parse::choice(text, &[("gate", false), ("pass", true)]));
    let tickets = reader.switch("app.tickets");
    let trusted_proxies = reader.parsed_list("public.trusted_proxies", parse::network);
    let public_read_only = reader.switch("public.read_only");
    let neighbour_read_only = reader.switch("neighbour.read_only");
    let sign_ins_per_address = reader.count("public.limits.sign_ins_per_address", 1_000_000);
    let hosts = reader.parsed_list("neighbour.hosts", host);
    let secret = secret(reader);
    if trusted_proxies.iter().flatten().any(|network| network.prefix_len() == 0) {
        let why = "every address is trusted, so any client can claim any address, host and scheme in X-Forwarded-*";
        reader.warn("public.trusted_proxies", why, "list only the addresses of the proxy in front");
    }
    let server = server?;
    let public = PublicConfig {
        url: site?.public_url.clone(),
        trusted_proxies: trusted_proxies?,
        preflight_pass,
        read_only: public_read_only,
        sign_ins_per_address,
        requests_per_address: server.limits.connections_per_address,
    };
    let neighbour = NeighbourConfig {
        read_only: neighbour_read_only,
        hosts: hosts?,
        secret,
        address: server.neighbour.as_ref().map(ToString::to_string),
    };
    Some(Config { public, neighbour, tickets })
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
    fn a_host_has_one_form() {
        assert_eq!(host("LocalHost"), Ok("localhost".to_owned()));
        assert_eq!((host("::1"), host("[0:0::1]")), (Ok("[::1]".to_owned()), Ok("[::1]".to_owned())));
        assert!(host("a:80").is_err() && host("http://a").is_err());
    }
}
