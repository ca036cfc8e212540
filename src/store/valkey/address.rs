//! Reads `store.url`: `redis://`, `rediss://`, `valkey://`, `valkeys://` with a host, or `unix://`, `redis+unix://`,
//! `valkey+unix://` with a path. Its errors never quote the URL, which may hold a password.

use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::secret::Secret;

#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) endpoint: Endpoint,
    /// User, password, database.
    pub(super) login: RedisConnectionInfo,
}

#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
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
            text.split_once("://").ok_or("store.url must be a URL that begins with redis:// or rediss://")?;
        let tls = match scheme {
            "rediss" | "valkeys" => true,
            "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => false,
            _ => return Err("store.url must begin with redis://, rediss://, valkey:// or valkeys://".to_owned()),
        };
        if rest.contains('#') {
            return Err(
                "store.url must not have a #fragment; to trust a certificate of your own, set store.ca_file".to_owned()
            );
        }
        // TLS is ours (tls.rs), so the crate that parses the URL only sees the plain scheme.
        let plain = if tls { format!("redis://{rest}") } else { text.to_owned() };
        let read = redis::parse_redis_url(&plain).and_then(|url| url.into_connection_info().ok()).ok_or(
            "store.url cannot be parsed: write rediss://user:password@host:port/0, with %-escapes for special \
                    characters of the password",
        )?;
        let endpoint = if let ConnectionAddr::Unix(path) = read.addr() {
            Endpoint::Unix(path.clone())
        } else if let ConnectionAddr::Tcp(host, port) = read.addr() {
            Endpoint::Tcp { host: host.clone(), port: *port, tls }
        } else {
            return Err("store.url has no host".to_owned());
        };
        // The ACL then need not allow what another protocol or client names would take.
        let login = read.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        Ok(Self { endpoint, login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> String {
        let endpoint = Address::parse(&Secret::new(url)).unwrap().endpoint;
        let tls = matches!(endpoint, Endpoint::Tcp { tls: true, .. });
        format!("{}{endpoint}", if tls { "tls " } else { "" })
    }

    #[test]
    fn every_form_of_url_is_parsed() {
        assert_eq!(endpoint("redis://127.0.0.1"), "127.0.0.1:6379");
        assert_eq!(endpoint("valkey://cache.internal:7000/2"), "cache.internal:7000");
        assert_eq!(endpoint("rediss://user:p%40ss@cache.internal"), "tls cache.internal:6379");
        assert_eq!(endpoint("valkeys://:secret@cache.internal:1"), "tls cache.internal:1");
        assert_eq!(endpoint("unix:///run/valkey.sock"), "/run/valkey.sock");
        let address = Address::parse(&Secret::new("rediss://user:p%40ss@cache.internal/3")).unwrap();
        assert_eq!(
            (address.login.username(), address.login.password(), address.login.db()),
            (Some("user"), Some("p@ss"), 3)
        );
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
        ] {
            let error = Address::parse(&Secret::new(url)).unwrap_err();
            assert!(!error.contains("s3cr3t"), "{url}: {error}");
        }
        let shown = format!("{:?}", Address::parse(&Secret::new("redis://u:s3cr3t@h")).unwrap());
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
