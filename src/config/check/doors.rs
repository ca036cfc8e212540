//! The public, neighbour and admin doors.

use std::net::{IpAddr, SocketAddr};

use super::app::Site;
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::listener::{Address, Limits};
use crate::proxy::Upstream;
use crate::secret::Secret;
use crate::telemetry::causes;
use crate::tls::{self, CertificateFiles};

pub(super) struct Doors {
    pub(super) public: Address,
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) h2c: bool,
    pub(super) neighbour: Neighbour,
    pub(super) admin: Address,
    pub(super) limits: Limits,
}

pub(super) struct Neighbour {
    pub(super) address: Option<Address>,
    pub(super) hosts: Vec<String>,
    pub(super) secret: Option<Secret>,
}

pub(super) fn doors(reader: &mut Reader, site: Option<&Site>) -> Option<Doors> {
    let public = reader.parsed("public.listen", tcp_only);
    let certificates = certificates(reader, site);
    let h2c = reader.switch("public.h2c");
    if h2c == Some(true) && certificates.as_ref().is_some_and(|pairs| !pairs.is_empty()) {
        let remedy = "remove public.h2c: with certificates, TLS negotiates HTTP/2";
        reader.problem("public.h2c", "it applies to a plain door, and this one has certificates", remedy);
    }
    let limits = limits(reader);
    let neighbour = neighbour(reader);
    let admin = admin(reader);

    let (public, neighbour, admin) = (public?, neighbour?, admin?);
    apart(reader, public, neighbour.address.as_ref(), admin);
    Some(Doors {
        public: Address::Tcp(public),
        certificates: certificates?,
        h2c: h2c?,
        neighbour,
        admin: Address::Tcp(admin),
        limits: limits?,
    })
}

/// The admin door's address, also for commands that need nothing else.
pub(in crate::config) fn admin(reader: &mut Reader) -> Option<SocketAddr> {
    reader.parsed("admin.listen", parse::socket)
}

/// The public door needs the address of its client.
fn tcp_only(text: &str) -> Result<SocketAddr, ValueError> {
    if text.starts_with("unix:") {
        return Err(ValueError::new("is a Unix socket; only the neighbour door can be one", "write 127.0.0.1:4180"));
    }
    parse::socket(text)
}

fn apart(reader: &mut Reader, public: SocketAddr, neighbour: Option<&Address>, admin: SocketAddr) {
    let meet = |one: SocketAddr, other: SocketAddr| {
        let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
        one.port() == other.port() && one.port() != 0 && (everywhere || one.ip() == other.ip())
    };
    let remedy = "give each door its own port";
    if meet(public, admin) {
        reader.problem("admin.listen", "this is also the address of the public door", remedy);
    }
    if let Some(Address::Tcp(neighbour)) = neighbour {
        for (other, other_door) in [(public, "public"), (admin, "admin")] {
            if meet(*neighbour, other) {
                reader.problem(
                    "neighbour.listen",
                    format!("this is also the address of the {other_door} door"),
                    remedy,
                );
            }
        }
    }
}

/// If the app were one of our own doors, requests would loop. A loop through a DNS name or another proxy is detected at run
/// time (`gateway`).
pub(super) fn apart_from_app(reader: &mut Reader, app: &Upstream, doors: &Doors) {
    let all = [
        ("public", Some(&doors.public)),
        ("neighbour", doors.neighbour.address.as_ref()),
        ("admin", Some(&doors.admin)),
    ];
    for (name, door) in all {
        if door.is_some_and(|door| is_door(app, door)) {
            let why = format!("this is upwarden's own {name} door, so every request would loop");
            reader.problem(
                "app.url",
                why,
                "write the address where the app itself listens, or move the door to another port",
            );
        }
    }
}

fn is_door(app: &Upstream, door: &Address) -> bool {
    match (app, door) {
        (Upstream::Unix(app), Address::Unix { path, .. }) => app == path,
        (Upstream::Tcp { host, port, .. }, Address::Tcp(door)) => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let here = match bare.parse::<IpAddr>() {
                Ok(ip) if ip == door.ip() => true,
                // An unspecified address includes loopback.
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
            reader.problem(KEY, "each certificate needs a cert_file and a key_file, and nothing else", remedy);
            return None;
        };
        pairs.push(CertificateFiles { cert_file: cert_file.into(), key_file: key_file.into() });
    }
    for pair in &pairs {
        if let Err(error) = tls::Certificates::load(std::slice::from_ref(pair)) {
            let remedy = "name a PEM file with the chain, leaf first, and one with its private key; this user must be able to \
                          read both";
            reader.problem(KEY, causes(&error), remedy);
        }
    }
    if !pairs.is_empty() && site.is_some_and(|site| !site.secure) {
        reader.problem(KEY, "the public door uses TLS, but public_url is http", "use https in public_url");
    }
    Some(pairs)
}

fn limits(reader: &mut Reader) -> Option<Limits> {
    // hyper accepts no smaller buffer, and no legitimate head is larger.
    let head_bytes = reader.parsed("public.limits.head_bytes", |text| parse::bytes(text, 8 << 10, 1 << 20));
    let head_fields = reader.count("public.limits.head_fields", 10_000);
    let body_bytes = reader.parsed("public.limits.body_bytes", parse::size);
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

fn neighbour(reader: &mut Reader) -> Option<Neighbour> {
    let mode = reader.parsed("neighbour.mode", mode);
    let owner = reader.parsed("neighbour.owner", owner);
    let hosts = reader.parsed_list("neighbour.hosts", host);
    let secret = reader.secret("neighbour.secret");
    let secret_key = reader.given_secret("neighbour.secret");
    if let (Some(key), Some(secret)) = (&secret_key, &secret)
        && parse::field_value(secret.expose()).is_err()
    {
        let why = "callers send it in a header, which cannot contain line breaks, outer blanks or non-ASCII characters";
        reader.problem(key, why, "use one line of ASCII letters, digits and punctuation");
    }
    let mode = mode?;
    let address = reader.parsed("neighbour.listen", |text| match parse::unix(text) {
        Some(path) => Ok(Address::Unix { path: path?, mode, owner }),
        None => parse::socket(text).map(Address::Tcp),
    });
    if let Some(Address::Tcp(tcp)) = &address
        && !tcp.ip().is_loopback()
        && secret_key.is_none()
    {
        let why = "everyone who can reach this address could call the API as you, so beyond loopback callers must send a secret";
        reader.problem("neighbour.listen", why, "listen on 127.0.0.1:4181, or set neighbour.secret_file");
    }
    Some(Neighbour { address, hosts: hosts?, secret })
}

fn mode(text: &str) -> Result<u32, ValueError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.starts_with('+'));
    octal.ok_or_else(|| ValueError::new("is not a file mode", "write it in octal: \"0660\""))
}

/// `1000`, or `1000:1000`.
fn owner(text: &str) -> Result<(u32, Option<u32>), ValueError> {
    let id = |text: &str| parse::count(text, 0, u64::from(u32::MAX) - 1);
    let read = match text.split_once(':') {
        Some((user, group)) => id(user).and_then(|user| Ok((user, Some(id(group)?)))),
        None => id(text).map(|user| (user, None)),
    };
    read.map_err(|_| {
        ValueError::new("is not a numeric user and group", "write \"1000\" or \"1000:1000\"; names are not looked up")
    })
}

/// A host name or address without a port, in lower case, IPv6 in brackets.
fn host(text: &str) -> Result<String, ValueError> {
    let bare = text.parse::<std::net::Ipv6Addr>().map(|address| format!("[{address}]"));
    let text = bare.unwrap_or_else(|_| text.to_ascii_lowercase());
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<std::net::Ipv6Addr>()
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
