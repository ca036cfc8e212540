//! New connections to an upstream: with TLS if it has TLS, through an HTTP proxy if one is configured.
//!
//! Never falls back: an upstream that should use TLS is not tried without.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::http1::{Socket, Stream};
use crate::tls;

/// HTTP/2 in ALPN (RFC 9113 section 3.1).
const H2: &[u8] = b"h2";
/// How long an address is tried before the next is tried beside it (RFC 8305 section 8).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Limit for a proxy's response to CONNECT.
const PROXY_HEAD: usize = 8 << 10;

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Tcp {
        /// Host name or address, IPv6 in brackets.
        host: String,
        port: u16,
        tls: bool,
    },
    /// A Unix socket, plain HTTP.
    Unix(PathBuf),
}

impl Upstream {
    /// The host of an http or https URL; `None` if it has no host or port.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let (host, port) = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        Some(Self::Tcp { host, port, tls: url.scheme() == "https" })
    }

    /// `Host` for a request to it (RFC 9110 section 7.2): the port only if it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port: 443, tls: true } | Self::Tcp { host, port: 80, tls: false } => host.clone(),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { tls, .. } => write!(f, "{}://{}", if *tls { "https" } else { "http" }, self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Makes connections to one upstream.
#[derive(Clone)]
pub(crate) struct Connector {
    target: Target,
    proxy: Option<Url>,
    /// The name that the certificate must have, instead of the target's host; also sent as SNI.
    tls_name: Option<String>,
}

impl std::fmt::Debug for Connector {
    /// Without the proxy's password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proxy = self.proxy.as_ref().and_then(Url::host_str);
        f.debug_struct("Connector").field("target", &self.target).field("proxy", &proxy).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Target {
    Tcp { host: String, port: u16, tls: Option<Arc<ClientConfig>> },
    Unix(PathBuf),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port, tls } => write!(f, "{host}:{port} (tls: {})", tls.is_some()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Connector {
    /// With TLS it trusts `ca_file` beside the system's roots. A `proxy` (http) is sent CONNECT (RFC 9110 section 9.3.6).
    pub(crate) fn new(upstream: &Upstream, ca_file: Option<&Path>, proxy: Option<Url>) -> Result<Self, tls::Error> {
        let target = match upstream {
            Upstream::Tcp { host, port, tls } => {
                let tls = if *tls { Some(Arc::new(tls::client(ca_file, None)?)) } else { None };
                Target::Tcp { host: host.clone(), port: *port, tls }
            }
            Upstream::Unix(path) => Target::Unix(path.clone()),
        };
        Ok(Self { target, proxy, tls_name: None })
    }

    /// For a server whose certificate has a different name than its address.
    pub(super) fn named(self, tls_name: Option<String>) -> Self {
        Self { tls_name, ..self }
    }

    /// Asks a TLS server for HTTP/2, and accepts nothing else (RFC 9113 section 3.2).
    pub(super) fn over_http2(mut self) -> Self {
        if let Target::Tcp { tls: Some(config), .. } = &mut self.target {
            Arc::make_mut(config).alpn_protocols = vec![H2.to_vec()];
        }
        self
    }

    pub(super) async fn connect(&self) -> io::Result<Socket> {
        let stream = match &self.target {
            Target::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            Target::Tcp { host, port, tls } => {
                let stream = self.tcp(host, *port).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Stream::Tcp(stream),
                    Some(config) => {
                        let name = self.tls_name.as_deref().unwrap_or(host);
                        let name = tls::server_name(name).ok_or_else(|| {
                            io::Error::new(io::ErrorKind::InvalidInput, "the host is not a valid certificate name")
                        })?;
                        let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
                        if !config.alpn_protocols.is_empty() && stream.get_ref().1.alpn_protocol() != Some(H2) {
                            let why = "the server does not agree to HTTP/2 (ALPN)";
                            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                        }
                        Stream::Tls(Box::new(stream.into()))
                    }
                }
            }
        };
        Ok(stream.into())
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let resolve = |host: &str, port| {
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            tokio::net::lookup_host((bare, port))
        };
        let Some(proxy) = &self.proxy else { return to_any(resolve(host, port).await?).await };
        let (proxy_host, proxy_port) = (proxy.host_str().unwrap_or_default(), proxy.port_or_known_default());
        let mut stream = to_any(resolve(proxy_host, proxy_port.unwrap_or(80)).await?).await?;
        tunnel(&mut stream, proxy, host, port).await?;
        Ok(stream)
    }
}

/// Connects to the first of the addresses that answers. Each is tried some time after the one before it, or as soon as
/// that refused (RFC 8305 section 5).
async fn to_any(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut addresses = addresses.peekable();
    while let Some(address) = addresses.next() {
        attempts.spawn(TcpStream::connect(address));
        let patience = if addresses.peek().is_some() { NEXT_ADDRESS } else { Duration::MAX };
        while let Ok(Some(attempt)) = timeout(patience, attempts.join_next()).await {
            match attempt.map_err(io::Error::other).flatten() {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = error,
            }
        }
    }
    Err(refused)
}

/// Opens a tunnel through `proxy`; the stream then belongs to the target.
async fn tunnel(stream: &mut TcpStream, proxy: &Url, host: &str, port: u16) -> io::Result<()> {
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if !proxy.username().is_empty() {
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
        let pair = format!("{}:{}", decoded(proxy.username()), decoded(proxy.password().unwrap_or_default()));
        head = format!("{head}Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        if response.len() >= PROXY_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's response to CONNECT is too long"));
        }
        // Read byte by byte: the bytes after the head are the target's.
        response.push(stream.read_u8().await?);
    }
    let accepted = response.starts_with(b"HTTP/1.1 2") || response.starts_with(b"HTTP/1.0 2");
    if accepted {
        return Ok(());
    }
    let line = response.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("the proxy answered CONNECT with: {line}")))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_or_stays_silent_does_not_hide_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // It has a port, and does not listen.
        let unused = TcpSocket::new_v4().unwrap();
        unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = unused.local_addr().unwrap();
        // Its queue has one place, which is taken: Linux leaves further clients without an answer.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let _first = TcpStream::connect(silent).await.unwrap();
        let mut ways = vec![vec![open], vec![closed, open]];
        if cfg!(target_os = "linux") {
            ways.extend([vec![silent, open], vec![silent, closed, open]]);
        }
        for addresses in ways {
            assert_eq!(to_any(addresses.into_iter()).await.unwrap().peer_addr().unwrap(), open);
        }
        assert_eq!(to_any([closed].into_iter()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(to_any(std::iter::empty()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
