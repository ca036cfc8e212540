//! `store.url`: where the server is, and who we are there.
//!
//! In: `redis://`, `rediss://`, `valkey://`, `valkeys://` with host, or `unix://`, `redis+unix://`, `valkey+unix://` with a
//! path. Out: an [`Address`]. Its errors never quote the URL, which may hold a password.

use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::secret::Secret;

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) place: Place,
    /// User, password, database.
    pub(super) login: RedisConnectionInfo,
}

/// How it is reached.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    pub(super) fn parse(url: &Secret) -> Result<Self, String> {
        let text = url.expose().trim();
        let (scheme, rest) =
            text.split_once("://").ok_or("store.url is no URL: it begins with redis:// or rediss://")?;
        let tls = match scheme {
            "rediss" | "valkeys" => true,
            "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => false,
            _ => return Err("store.url begins with redis://, rediss://, valkey:// or valkeys://".to_owned()),
        };
        if rest.contains('#') {
            return Err(
                "store.url ends in a #fragment, which means nothing here; to trust a certificate of your own, \
                        set store.ca_file"
                    .to_owned(),
            );
        }
        // TLS is ours (tls.rs), so the crate that reads the URL only sees the plain scheme.
        let plain = if tls { format!("redis://{rest}") } else { text.to_owned() };
        let read = redis::parse_redis_url(&plain).and_then(|url| url.into_connection_info().ok()).ok_or(
            "store.url cannot be read: it is rediss://user:password@host:port/0, with %-escapes for special \
                    characters of the password",
        )?;
        let place = match read.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp { host: host.clone(), port: *port, tls },
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err("store.url names no host".to_owned()),
        };
        // One protocol and no client names, so that an ACL needs to allow nothing for them.
        let login = read.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        Ok(Self { place, login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> String {
        let address = Address::parse(&Secret::new(url)).unwrap();
        match address.place {
            Place::Tcp { tls: true, .. } => format!("tls {}", address.place),
            other => other.to_string(),
        }
    }

    #[test]
    fn each_way_to_write_an_address_is_read() {
        assert_eq!(place("redis://127.0.0.1"), "127.0.0.1:6379");
        assert_eq!(place("valkey://cache.internal:7000/2"), "cache.internal:7000");
        assert_eq!(place("rediss://user:p%40ss@cache.internal"), "tls cache.internal:6379");
        assert_eq!(place("valkeys://:secret@cache.internal:1"), "tls cache.internal:1");
        assert_eq!(place("unix:///run/valkey.sock"), "/run/valkey.sock");
        let address = Address::parse(&Secret::new("rediss://user:p%40ss@cache.internal/3")).unwrap();
        assert_eq!(
            (address.login.username(), address.login.password(), address.login.db()),
            (Some("user"), Some("p@ss"), 3)
        );
    }

    #[test]
    fn a_url_that_is_none_is_told_without_its_password() {
        for url in [
            "",
            "s3cr3t",
            "http://u:s3cr3t@h",
            "redis://u:s3cr3t@h:port",
            "rediss://u:s3cr3t@h#insecure",
            "redis://u:s3cr3t@h/x",
        ] {
            let told = Address::parse(&Secret::new(url)).unwrap_err();
            assert!(!told.contains("s3cr3t"), "{url}: {told}");
        }
        let shown = format!("{:?}", Address::parse(&Secret::new("redis://u:s3cr3t@h")).unwrap());
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
