//! The public, neighbour and admin doors.

use std::net::{IpAddr, SocketAddr};

use crate::config::reader::Reader;
use crate::config::values::{self, Bad};
use crate::listener::{Address, Limits};
use crate::proxy::Upstream;
use crate::telemetry::causes;
use crate::tls::{self, CertificateFiles};
use crate::{config::check::app::Site, gateway};

/// What is known of the doors.
pub(super) struct Doors {
    pub(super) public: Address,
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) h2c: bool,
    pub(super) neighbour: Option<Address>,
    pub(super) admin: Address,
    pub(super) limits: Limits,
    /// What of the gate's part is about doors; the rest is filled in by the caller.
    pub(super) gateway: gateway::Config,
}

pub(super) fn doors(reader: &mut Reader, site: Option<&Site>) -> Option<Doors> {
    let public = reader.parsed("public.listen", tcp_only);
    let certificates = certificates(reader, site);
    let h2c = reader.switch("public.h2c");
    if h2c == Some(true) && certificates.as_ref().is_some_and(|pairs| !pairs.is_empty()) {
        let remedy = "remove public.h2c: with certificates HTTP/2 is agreed on by TLS itself";
        reader.problem("public.h2c", "it is for a plain door, and this one has certificates", remedy);
    }
    let limits = limits(reader);
    let neighbour = neighbour(reader);
    let admin = super::admin(reader);
    let trusted_proxies = reader.parsed_list("public.trusted_proxies", values::network);
    let public_read_only = reader.switch("public.read_only");
    let sign_ins_per_address = reader.count("public.limits.sign_ins_per_address", 1_000_000);

    let (public, neighbour, admin, limits) = (public?, neighbour?, admin?, limits?);
    apart(reader, public, neighbour.address.as_ref(), admin);
    Some(Doors {
        public: Address::Tcp(public),
        certificates: certificates?,
        h2c: h2c?,
        admin: Address::Tcp(admin),
        gateway: gateway::Config {
            public_url: String::new(),
            preflight_pass: false,
            tickets: false,
            trusted_proxies: trusted_proxies?,
            public_read_only: public_read_only?,
            neighbour_read_only: neighbour.read_only,
            neighbour_hosts: neighbour.hosts,
            neighbour_secret: neighbour.secret,
            neighbour_address: neighbour.address.as_ref().map(ToString::to_string),
            sign_ins_per_address: sign_ins_per_address?,
            requests_per_address: limits.connections_per_address,
        },
        limits,
        neighbour: neighbour.address,
    })
}

/// The public door needs to know its client's address, and the admin door is asked from other machines.
fn tcp_only(text: &str) -> Result<SocketAddr, Bad> {
    if text.starts_with("unix:") {
        return Err(Bad::new("is a Unix socket, which only the neighbour door can be", "write 127.0.0.1:4180"));
    }
    values::socket(text)
}

fn apart(reader: &mut Reader, public: SocketAddr, neighbour: Option<&Address>, admin: SocketAddr) {
    let meet = |one: SocketAddr, other: SocketAddr| {
        let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
        one.port() == other.port() && one.port() != 0 && (everywhere || one.ip() == other.ip())
    };
    let remedy = "give each door a port of its own";
    if meet(public, admin) {
        reader.problem("admin.listen", "this is the public door's address too", remedy);
    }
    if let Some(Address::Tcp(neighbour)) = neighbour {
        for (other, whose) in [(public, "public"), (admin, "admin")] {
            if meet(*neighbour, other) {
                reader.problem("neighbour.listen", format!("this is the {whose} door's address too"), remedy);
            }
        }
    }
}

/// An app that is one of our own doors would be asked by itself, again and again. What leads back to us by a name or
/// through another proxy is seen when it comes round (`gateway`).
pub(super) fn apart_from_app(reader: &mut Reader, app: &Upstream, doors: &Doors) {
    let all = [("public", Some(&doors.public)), ("neighbour", doors.neighbour.as_ref()), ("admin", Some(&doors.admin))];
    for (name, door) in all {
        if door.is_some_and(|door| leads_to(app, door)) {
            let why = format!("this is upwarden's own {name} door, so that every request would come back to it");
            reader.problem("app.url", why, "write where the app itself listens, or give the door another port");
        }
    }
}

fn leads_to(app: &Upstream, door: &Address) -> bool {
    match (app, door) {
        (Upstream::Unix(app), Address::Unix { path, .. }) => app == path,
        (Upstream::Tcp { host, port, .. }, Address::Tcp(door)) => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let here = match bare.parse::<IpAddr>() {
                Ok(ip) if ip == door.ip() => true,
                // Every interface's loopback is among them.
                Ok(ip) => {
                    (door.ip().is_unspecified() && ip.is_loopback()) || (ip.is_unspecified() && door.ip().is_loopback())
                }
                Err(_) => {
                    bare.eq_ignore_ascii_case("localhost") && (door.ip().is_loopback() || door.ip().is_unspecified())
                }
            };
            here && *port == door.port()
        }
        (Upstream::Unix(_), Address::Tcp(_)) | (Upstream::Tcp { .. }, Address::Unix { .. }) => false,
    }
}

fn certificates(reader: &mut Reader, site: Option<&Site>) -> Option<Vec<CertificateFiles>> {
    const KEY: &str = "public.tls.certificates";
    let mut pairs = Vec::new();
    for mut table in reader.tables(KEY)? {
        let (cert_file, key_file) = (table.remove("cert_file"), table.remove("key_file"));
        let (Some(cert_file), Some(key_file), true) = (cert_file, key_file, table.is_empty()) else {
            let remedy = "write [{ cert_file = \"…\", key_file = \"…\" }]";
            reader.problem(KEY, "each certificate has a cert_file and a key_file, and nothing else", remedy);
            return None;
        };
        pairs.push(CertificateFiles { cert_file: cert_file.into(), key_file: key_file.into() });
    }
    for pair in &pairs {
        if let Err(error) = tls::Certificates::load(std::slice::from_ref(pair)) {
            let remedy =
                "name a PEM file with the chain, leaf first, and one with its private key, which this user may read";
            reader.problem(KEY, causes(&error), remedy);
        }
    }
    if !pairs.is_empty() && site.is_some_and(|site| !site.secure) {
        reader.problem(KEY, "the public door speaks TLS, but public_url is http", "write public_url with https");
    }
    Some(pairs)
}

fn limits(reader: &mut Reader) -> Option<Limits> {
    // hyper takes no smaller buffer, and more is nobody's head.
    let head_bytes = reader.parsed("public.limits.head_bytes", |text| bytes(text, 8 << 10, 1 << 20));
    let head_fields = reader.count("public.limits.head_fields", 10_000);
    let body_bytes = reader.parsed("public.limits.body_bytes", values::size);
    let connections = reader.count("public.limits.connections", 10_000_000);
    let connections_per_address = reader.count("public.limits.connections_per_address", 10_000_000);
    let head_timeout = reader.duration("public.timeouts.head");
    let idle_timeout = reader.duration("public.timeouts.idle");
    let body_idle_timeout = reader.duration("public.timeouts.body_idle");
    let upgrade_idle_timeout = reader.duration("public.timeouts.upgrade_idle");
    Some(Limits {
        head_bytes: head_bytes?,
        head_fields: head_fields?,
        body_bytes,
        connections: connections?,
        connections_per_address,
        head_timeout: head_timeout?,
        idle_timeout: idle_timeout?,
        body_idle_timeout: body_idle_timeout?,
        upgrade_idle_timeout: upgrade_idle_timeout?,
    })
}

/// A size between two bounds.
pub(super) fn bytes(text: &str, least: usize, most: usize) -> Result<usize, Bad> {
    let size = usize::try_from(values::size(text)?).unwrap_or(usize::MAX);
    if size >= least && size <= most {
        return Ok(size);
    }
    Err(Bad::new(format!("is not between {least} and {most} bytes"), "write a size between them"))
}

struct Neighbour {
    address: Option<Address>,
    hosts: Vec<String>,
    secret: Option<crate::secret::Secret>,
    read_only: bool,
}

fn neighbour(reader: &mut Reader) -> Option<Neighbour> {
    let mode = reader.parsed("neighbour.mode", mode);
    let owner = reader.parsed("neighbour.owner", owner);
    let hosts = reader.parsed_list("neighbour.hosts", host);
    let secret = reader.secret("neighbour.secret");
    if secret.as_ref().is_some_and(|secret| values::field_value(secret.expose()).is_err()) {
        let key = if reader.given("neighbour.secret") { "neighbour.secret" } else { "neighbour.secret_file" };
        let why = "callers show it in a header, which cannot hold line breaks, outer blanks or letters beyond ASCII";
        reader.problem(key, why, "use one line of ASCII letters, digits and signs");
    }
    let read_only = reader.switch("neighbour.read_only");
    let mode = mode?;
    let address = reader.parsed("neighbour.listen", |text| match values::unix(text) {
        Some(path) => Ok(Address::Unix { path: path?, mode, owner }),
        None => values::socket(text).map(Address::Tcp),
    });
    if let Some(Address::Tcp(tcp)) = &address
        && !tcp.ip().is_loopback()
        && !reader.given("neighbour.secret")
        && !reader.given("neighbour.secret_file")
    {
        let why = "whoever reaches this address would call the API as you; beyond loopback callers must show a secret";
        reader.problem("neighbour.listen", why, "listen on 127.0.0.1:4181, or set neighbour.secret_file");
    }
    Some(Neighbour { address, hosts: hosts?, secret, read_only: read_only? })
}

fn mode(text: &str) -> Result<u32, Bad> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.starts_with('+'));
    octal.ok_or_else(|| Bad::new("is not a file mode", "write it in octal: \"0660\""))
}

/// `1000`, or `1000:1000`.
fn owner(text: &str) -> Result<(u32, Option<u32>), Bad> {
    let id = |text: &str| values::count(text, 0, u64::from(u32::MAX) - 1);
    let read = match text.split_once(':') {
        Some((user, group)) => id(user).and_then(|user| Ok((user, Some(id(group)?)))),
        None => id(text).map(|user| (user, None)),
    };
    read.map_err(|_| {
        Bad::new("is not a user and group by number", "write \"1000\" or \"1000:1000\"; names are not looked up")
    })
}

/// A host name or address without a port, in lower case, IPv6 in brackets.
fn host(text: &str) -> Result<String, Bad> {
    let bare = text.parse::<std::net::Ipv6Addr>().map(|address| format!("[{address}]"));
    let text = bare.unwrap_or_else(|_| text.to_ascii_lowercase());
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<std::net::Ipv6Addr>()
    {
        return Ok(format!("[{address}]"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    super::only(&text, plain, "is not a host name", "write a name or address without scheme, port and path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_owners_and_hosts_have_one_form_each() {
        assert_eq!((mode("0660"), mode("0o600"), mode("777")), (Ok(0o660), Ok(0o600), Ok(0o777)));
        assert!(mode("0880").is_err() && mode("1777").is_err() && mode("rw-").is_err() && mode("").is_err());
        assert_eq!((owner("10"), owner("10:20")), (Ok((10, None)), Ok((10, Some(20)))));
        assert!(owner("root").is_err() && owner(":1").is_err() && owner("1:").is_err());
        assert_eq!(host("LocalHost"), Ok("localhost".to_owned()));
        assert_eq!((host("::1"), host("[0:0::1]")), (Ok("[::1]".to_owned()), Ok("[::1]".to_owned())));
        assert!(host("a:80").is_err() && host("http://a").is_err());
    }
}
