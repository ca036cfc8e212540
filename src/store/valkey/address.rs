//! Parses `store.url`. Errors never quote the URL, which may contain a password.
//!
//! ```text
//! redis://user:password@host:6379/0                             one server; unix:///path for its socket
//! redis+sentinel://user:password@host,host:26379/primary/0      the server that Sentinel names
//! redis+cluster://user:password@host,host                       the cluster of these nodes; so has redis:// with several
//! ```
//! `valkey` means the same as `redis`; `rediss` and `valkeys` use TLS.

use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use url::form_urlencoded;

use crate::secret::Secret;

#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) layout: Layout,
    /// User, password, database.
    pub(super) login: RedisConnectionInfo,
    pub(super) tls: bool,
}

/// The kind of deployment, and the servers to ask about it.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    Server(Endpoint),
    /// The primary with this name, as known to these Sentinels, which have their own login.
    Sentinel {
        sentinels: Vec<Endpoint>,
        name: String,
        login: RedisConnectionInfo,
    },
    /// Some of the cluster's nodes.
    Cluster(Vec<Endpoint>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |endpoints: &[Endpoint]| endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Server(endpoint) => write!(f, "the server {endpoint}"),
            Self::Sentinel { sentinels, name, .. } => {
                write!(f, "the primary {name} of Sentinel at {}", list(sentinels))
            }
            Self::Cluster(nodes) => write!(f, "the cluster of {}", list(nodes)),
        }
    }
}

enum Kind {
    Server,
    Sentinel,
    Cluster,
}

impl Address {
    pub(super) fn parse(url: &Secret) -> Result<Self, String> {
        let text = url.expose().trim();
        let (scheme, rest) =
            text.split_once("://").ok_or("store.url must be a URL that begins with redis:// or rediss://")?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let (tls, kind) = match (base, kind) {
            ("unix", "") | ("redis" | "valkey", "" | "unix") => (false, Kind::Server),
            ("rediss" | "valkeys", "") => (true, Kind::Server),
            ("redis" | "valkey", "sentinel") => (false, Kind::Sentinel),
            ("rediss" | "valkeys", "sentinel") => (true, Kind::Sentinel),
            ("redis" | "valkey", "cluster") => (false, Kind::Cluster),
            ("rediss" | "valkeys", "cluster") => (true, Kind::Cluster),
            _ => {
                return Err(
                    "store.url must begin with redis://, rediss://, valkey:// or valkeys://, or have +sentinel \
                            or +cluster before the ://"
                        .to_owned(),
                );
            }
        };
        if rest.contains('#') {
            return Err(
                "store.url must not have a #fragment; to trust a certificate of your own, set store.ca_file".to_owned()
            );
        }
        if !rest.starts_with('/') {
            let parts = Parts::of(rest);
            match kind {
                Kind::Sentinel => return sentinel(&parts, tls),
                Kind::Cluster => return cluster(&parts, tls),
                Kind::Server if parts.hosts.contains(',') => return cluster(&parts, tls),
                Kind::Server => {}
            }
        }
        // We handle TLS (tls.rs), so the crate that parses the URL sees only the plain scheme.
        let plain = if tls { format!("redis://{rest}") } else { text.to_owned() };
        let (endpoint, login) = one(&plain)?;
        Ok(Self { layout: Layout::Server(endpoint), login, tls })
    }
}

/// The part after the scheme of a URL with several hosts.
struct Parts<'a> {
    user: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self { user, hosts, path, query }
    }

    /// Every host, and the login; `port` is the default port.
    fn read(&self, port: u16, database: &str) -> Result<(Vec<Endpoint>, RedisConnectionInfo), String> {
        let mut endpoints = Vec::new();
        let mut login = None;
        for host in self.hosts.split(',') {
            let has_port = host.rsplit_once(']').map_or(host, |(_, rest)| rest).contains(':');
            let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
            let (endpoint, read) = one(&format!("redis://{}{host}/{database}", self.user))?;
            endpoints.push(endpoint);
            login = Some(read);
        }
        Ok((endpoints, login.ok_or("store.url has no host")?))
    }
}

fn sentinel(parts: &Parts<'_>, tls: bool) -> Result<Address, String> {
    let (name, database) = parts.path.split_once('/').unwrap_or((parts.path, "0"));
    if name.is_empty() {
        return Err(
            "store.url must name the primary that Sentinel watches: redis+sentinel://host:26379/NAME".to_owned()
        );
    }
    let (sentinels, login) = parts.read(26379, database)?;
    let mut own = settings(&RedisConnectionInfo::default());
    for (key, value) in form_urlencoded::parse(parts.query.as_bytes()) {
        own = match key.as_ref() {
            "sentinel_user" => own.set_username(value),
            "sentinel_password" => own.set_password(value),
            _ => {
                return Err("the parameters of a Sentinel store.url are sentinel_user and sentinel_password".to_owned());
            }
        };
    }
    Ok(Address { layout: Layout::Sentinel { sentinels, name: name.to_owned(), login: own }, login, tls })
}

fn cluster(parts: &Parts<'_>, tls: bool) -> Result<Address, String> {
    if !["", "0"].contains(&parts.path) || !parts.query.is_empty() {
        return Err("store.url must end after the hosts: a cluster has no numbered databases".to_owned());
    }
    let (nodes, login) = parts.read(6379, "")?;
    Ok(Address { layout: Layout::Cluster(nodes), login, tls })
}

fn one(url: &str) -> Result<(Endpoint, RedisConnectionInfo), String> {
    let read = redis::parse_redis_url(url).and_then(|url| url.into_connection_info().ok()).ok_or(
        "store.url cannot be parsed: write rediss://user:password@host:port/0, with %-escapes for special characters of \
         the password",
    )?;
    let endpoint = if let ConnectionAddr::Unix(path) = read.addr() {
        Endpoint::Unix(path.clone())
    } else if let ConnectionAddr::Tcp(host, port) = read.addr() {
        Endpoint::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port: *port }
    } else {
        return Err("store.url has no host".to_owned());
    };
    Ok((endpoint, settings(read.redis_settings())))
}

/// These settings need no further permissions in the ACL, unlike another protocol or client names.
fn settings(login: &RedisConnectionInfo) -> RedisConnectionInfo {
    login.clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        Address::parse(&Secret::new(url)).unwrap()
    }

    fn layout(url: &str) -> String {
        let Address { layout, tls, .. } = parse(url);
        format!("{}{layout}", if tls { "TLS to " } else { "" })
    }

    #[test]
    fn every_form_of_url_is_parsed() {
        for (url, expected) in [
            ("redis://127.0.0.1", "the server 127.0.0.1:6379"),
            ("valkey://cache.internal:7000/2", "the server cache.internal:7000"),
            ("rediss://user:p%40ss@cache.internal", "TLS to the server cache.internal:6379"),
            ("valkeys://:secret@cache.internal:1", "TLS to the server cache.internal:1"),
            ("redis://[::1]:7000", "the server [::1]:7000"),
            ("unix:///run/valkey.sock", "the server /run/valkey.sock"),
            ("redis+unix:///run/valkey.sock", "the server /run/valkey.sock"),
            ("redis+sentinel://u:p@a,b:7,[::1]/main", "the primary main of Sentinel at a:26379, b:7, [::1]:26379"),
            ("valkeys+sentinel://a/main/3?sentinel_password=x", "TLS to the primary main of Sentinel at a:26379"),
            ("redis+cluster://u:p@a:1", "the cluster of a:1"),
            ("valkeys+cluster://u:p@a,b:7/0", "TLS to the cluster of a:6379, b:7"),
            ("redis://u:p@a,b:7", "the cluster of a:6379, b:7"),
        ] {
            assert_eq!(layout(url), expected);
        }
    }

    #[test]
    fn servers_and_sentinels_have_their_own_logins() {
        let of = |login: &RedisConnectionInfo| {
            (login.username().map(str::to_owned), login.password().map(str::to_owned), login.db())
        };
        let text = |text: &str| Some(text.to_owned());
        let Address { login, .. } = parse("rediss://user:p%40ss@cache.internal/3");
        assert_eq!(of(&login), (text("user"), text("p@ss"), 3));
        let Address { login, layout, .. } =
            parse("redis+sentinel://user:p%40ss@a,b/main/3?sentinel_user=watch&sentinel_password=s%26t");
        assert_eq!(of(&login), (text("user"), text("p@ss"), 3));
        let Layout::Sentinel { login, .. } = layout else { panic!("{layout:?}") };
        assert_eq!(of(&login), (text("watch"), text("s&t"), 0));
        assert_eq!(of(&parse("redis+cluster://user:p%40ss@a,b").login), (text("user"), text("p@ss"), 0));
    }

    #[test]
    fn an_error_never_quotes_the_password() {
        for url in [
            "",
            "s3cr3t",
            "http://u:s3cr3t@h",
            "redis://u:s3cr3t@h:port",
            "rediss://u:s3cr3t@h#insecure",
            "redis://u:s3cr3t@h/x",
            "redis+sentinel://u:s3cr3t@h",
            "redis+sentinel://u:s3cr3t@h/main/x",
            "redis+sentinel://u:s3cr3t@h/main?password=s3cr3t",
            "redis+cluster://u:s3cr3t@h/1",
            "redis+cluster://u:s3cr3t@a,,b",
            "redis+sentinel:///s3cr3t",
            "redis+ring://u:s3cr3t@h",
            "unix+cluster://s3cr3t",
        ] {
            let error = Address::parse(&Secret::new(url)).unwrap_err();
            assert!(!error.contains("s3cr3t"), "{url}: {error}");
        }
        let shown = format!("{:?}", parse("redis+sentinel://u:s3cr3t@h/main?sentinel_password=s3cr3t"));
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
