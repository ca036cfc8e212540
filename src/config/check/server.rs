//! The public, neighbour and admin doors, the workers behind them, and the drain.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::time::Duration;

use super::app::{self, Site};
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::listener::{Address, Limits, Owner};
use crate::proxy::Upstream;
use crate::telemetry::causes;
use crate::tls::{self, CertificateFiles};

const MAX_CONNECTIONS: u64 = 10_000_000;
const USUAL_CONNECTIONS: u64 = 10_000;
/// The minimum, however little memory there is.
const LEAST_CONNECTIONS: u64 = 64;
/// The most memory that an answer holds if its client does not read it; a test measures it.
const UNREAD_ANSWER: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) public: Address,
    /// Certificates of the public door; empty for plain HTTP.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// HTTP/2 with prior knowledge on the plain public door.
    pub(crate) h2c: bool,
    /// Connections to the public door begin with a trusted proxy's header.
    pub(crate) proxy_protocol: bool,
    /// Where the public door answers health checks of load balancers.
    pub(crate) health_path: Option<String>,
    pub(crate) neighbour: Option<Address>,
    pub(crate) admin: Address,
    pub(crate) workers: usize,
    pub(crate) limits: Limits,
    /// Bytes of memory that the process may use.
    pub(crate) memory: Option<u64>,
    /// After SIGTERM the doors serve this much longer.
    pub(crate) drain_delay: Duration,
    /// Then requests in flight have this long to finish.
    pub(crate) drain_timeout: Duration,
}

impl Server {
    /// The bytes that answers hold if every connection has one that its client does not read.
    pub(crate) fn unread_answers(&self) -> u64 {
        (self.limits.connections as u64).saturating_mul(UNREAD_ANSWER)
    }
}

pub(super) fn server(reader: &mut Reader, site: Option<&Site>, memory: Option<u64>) -> Option<Server> {
    let public = door(reader, "public.listen", "public.mode", "public.owner");
    let certificates = certificates(reader, site);
    if matches!(public, Some(Address::Unix { .. })) && certificates.as_ref().is_some_and(|pairs| !pairs.is_empty()) {
        let why = "public.listen is a Unix socket, which is private; the proxy in front has the certificates";
        reader.problem("public.tls.certificates", why, "remove it, or let public.listen be an address");
    }
    let h2c = reader.switch("public.h2c");
    if h2c && certificates.as_ref().is_some_and(|pairs| !pairs.is_empty()) {
        let remedy = "remove public.h2c: with certificates, TLS negotiates HTTP/2";
        reader.problem("public.h2c", "it applies to a plain door, and this one has certificates", remedy);
    }
    let proxy_protocol = reader.switch("public.proxy_protocol");
    let health_path = app::health_path(reader, site);
    let neighbour = neighbour(reader);
    let admin = admin(reader);
    let (limits, workers) = (limits(reader, memory), workers(reader));
    let drain_delay = reader.defaulted("drain.delay", drain_delay);
    let drain_timeout = reader.defaulted("drain.timeout", parse::duration);

    let (public, admin) = (public?, admin?);
    let admin = Address::Tcp(admin);
    apart(reader, &public, neighbour.as_ref(), &admin);
    let certificates = certificates?;
    Some(Server {
        public,
        certificates,
        h2c,
        proxy_protocol,
        health_path,
        neighbour,
        admin,
        workers,
        limits,
        memory,
        drain_delay,
        drain_timeout,
    })
}

/// The admin door's address, also for commands that need nothing else.
pub(in crate::config) fn admin(reader: &mut Reader) -> Option<SocketAddr> {
    reader.parsed("admin.listen", parse::socket)
}

/// A door that may be a Unix socket, with the keys of its mode and its owner.
fn door(reader: &mut Reader, listen: &str, mode: &str, owner: &'static str) -> Option<Address> {
    let mode = reader.defaulted(mode, file_mode);
    let owner = reader.parsed(owner, |text| file_owner(text, owner));
    reader.parsed(listen, |text| match parse::unix(text) {
        Some(path) => Ok(Address::Unix { path: path?, mode, owner }),
        None => parse::socket(text).map(Address::Tcp),
    })
}

fn apart(reader: &mut Reader, public: &Address, neighbour: Option<&Address>, admin: &Address) {
    let meet = |one: &Address, other: &Address| match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.port() != 0 && (everywhere || one.ip() == other.ip())
        }
        (Address::Unix { path: one, .. }, Address::Unix { path: other, .. }) => one == other,
        (Address::Tcp(_), Address::Unix { .. }) | (Address::Unix { .. }, Address::Tcp(_)) => false,
    };
    let mut differ = |key: &str, door: &Address, other: &Address, other_door: &str| {
        if meet(door, other) {
            let why = format!("this is also the address of the {other_door} door");
            reader.problem(key, why, "give each door its own port or path");
        }
    };
    differ("admin.listen", admin, public, "public");
    if let Some(neighbour) = neighbour {
        differ("neighbour.listen", neighbour, public, "public");
        differ("neighbour.listen", neighbour, admin, "admin");
    }
}

/// If the app were one of our own doors, requests would loop. A loop through a DNS name or another proxy is detected at run
/// time (`gateway`).
pub(super) fn apart_from_app(reader: &mut Reader, key: &str, app: &Upstream, server: &Server) {
    let all =
        [("public", Some(&server.public)), ("neighbour", server.neighbour.as_ref()), ("admin", Some(&server.admin))];
    for (name, door) in all {
        if door.is_some_and(|door| is_door(app, door)) {
            let why = format!("{app} is upwarden's own {name} door, so every request would loop");
            reader.problem(
                key,
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

/// One for each 128 KiB, so that unread answers take at most half of the memory.
fn usual_connections(memory: Option<u64>) -> u64 {
    let fits = memory.map_or(USUAL_CONNECTIONS, |bytes| bytes / 2 / UNREAD_ANSWER);
    fits.clamp(LEAST_CONNECTIONS, USUAL_CONNECTIONS)
}

fn connections(reader: &mut Reader, memory: Option<u64>) -> usize {
    const KEY: &str = "public.limits.connections";
    let given = reader.parsed(KEY, |text| parse::count(text, 1, MAX_CONNECTIONS));
    let connections = given.unwrap_or_else(|| usual_connections(memory));
    let unread = connections.saturating_mul(UNREAD_ANSWER);
    if let Some(memory) = memory.filter(|memory| unread > *memory) {
        let why = format!(
            "answers that clients do not read could hold {} MiB, and the cgroup allows {} MiB: the process would be killed",
            unread >> 20,
            memory >> 20
        );
        reader.warn(KEY, why, format!("write {} or less, or allow more memory", usual_connections(Some(memory))));
    }
    usize::try_from(connections).unwrap_or(usize::MAX)
}

fn limits(reader: &mut Reader, memory: Option<u64>) -> Limits {
    let limits = Limits {
        // hyper accepts no smaller buffer, and no legitimate head is larger.
        head_bytes: reader.defaulted("public.limits.head_bytes", |text| parse::bytes(text, 8 << 10, 1 << 20)),
        head_fields: reader.count("public.limits.head_fields", 10_000),
        body_bytes: reader.parsed("public.limits.body_bytes", parse::size),
        connections: connections(reader, memory),
        connections_per_address: reader
            .parsed("public.limits.connections_per_address", |text| parse::count(text, 1, MAX_CONNECTIONS)),
        head_timeout: reader.duration("public.timeouts.head"),
        idle_timeout: reader.duration("public.timeouts.idle"),
        body_idle_timeout: reader.duration("public.timeouts.body_idle"),
        upgrade_idle_timeout: reader.duration("public.timeouts.upgrade_idle"),
    };
    if limits.connections_per_address.is_some_and(|most| most > limits.connections) {
        let why =
            format!("it is above public.limits.connections ({}), so one address may take them all", limits.connections);
        reader.warn("public.limits.connections_per_address", why, "lower it, or raise public.limits.connections");
    }
    limits
}

fn workers(reader: &mut Reader) -> usize {
    // What the cgroup's quota and the CPU mask allow.
    let cpus = || std::thread::available_parallelism().map_or(1, NonZero::get).min(4);
    reader.parsed("workers", |text| parse::count(text, 1, 256)).unwrap_or_else(cpus)
}

/// At most an hour, because `upwarden drain` waits for the end of the delay.
fn drain_delay(text: &str) -> Result<Duration, ValueError> {
    let delay = parse::duration(text)?;
    if delay > Duration::from_hours(1) {
        return Err(ValueError::new("is longer than an hour", "write 1h or less; a few seconds are usual"));
    }
    Ok(delay)
}

fn neighbour(reader: &mut Reader) -> Option<Address> {
    let address = door(reader, "neighbour.listen", "neighbour.mode", "neighbour.owner")?;
    if let Address::Tcp(tcp) = &address
        && !tcp.ip().is_loopback()
        && reader.given_secret("neighbour.secret").is_none()
    {
        let why = "everyone who can reach this address could call the API as you, so beyond loopback callers must send a secret";
        reader.problem("neighbour.listen", why, "listen on 127.0.0.1:4181, or set neighbour.secret_file");
    }
    Some(address)
}

fn file_mode(text: &str) -> Result<u32, ValueError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.starts_with('+'));
    octal.ok_or_else(|| ValueError::new("is not a file mode", "write it in octal: \"0660\""))
}

/// `1000`, `1000:1000`, or `:1000` for the group alone.
fn file_owner(text: &str, key: &'static str) -> Result<Owner, ValueError> {
    let id = |text: &str| parse::count(text, 0, u64::from(u32::MAX) - 1).map(Some);
    let read = match text.split_once(':') {
        Some(("", group)) => id(group).map(|group| Owner { key, user: None, group }),
        Some((user, group)) => id(user).and_then(|user| Ok(Owner { key, user, group: id(group)? })),
        None => id(text).map(|user| Owner { key, user, group: None }),
    };
    let remedy = "write \"1000\", \"1000:1000\" or \":1000\"; names are not looked up";
    read.map_err(|_| ValueError::new("is not a numeric user and group", remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_memory() {
        let usual = [None, Some(64 << 30), Some(256 << 20), Some(16 << 20), Some(1 << 20)].map(usual_connections);
        assert_eq!(usual, [10_000, 10_000, 2048, 128, 64]);
    }

    #[test]
    fn modes_and_owners_have_one_form_each() {
        let (mode, key) = (file_mode, "neighbour.owner");
        let owner = |text| file_owner(text, key);
        assert_eq!((mode("0660"), mode("0o600"), mode("777")), (Ok(0o660), Ok(0o600), Ok(0o777)));
        assert!(mode("0880").is_err() && mode("1777").is_err() && mode("rw-").is_err() && mode("").is_err());
        let (both, user, group) = ("10:20", "10", ":20");
        for (text, user, group) in [(both, Some(10), Some(20)), (user, Some(10), None), (group, None, Some(20))] {
            assert_eq!(owner(text), Ok(Owner { key, user, group }));
        }
        assert!(owner("root").is_err() && owner(":").is_err() && owner("1:").is_err() && owner(":staff").is_err());
    }
}
