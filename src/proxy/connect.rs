//! A fresh connection to an upstream.
//!
//! In: where the upstream is. Out: a socket, with TLS where asked, through an HTTP proxy where configured. It never falls
//! back: an upstream that should speak TLS is not tried without.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use url::Url;

use super::Upstream;
use crate::tls;

/// Bytes of a proxy's answer to CONNECT that are read.
const PROXY_HEAD: usize = 8 << 10;

/// Makes connections to one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    target: Target,
    proxy: Option<Url>,
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

/// What takes a fresh socket over, whatever its kind; the handshake of HTTP. After `reset` closing it is a reset.
pub(super) trait Handshake {
    type Output;
    fn over<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        io: I,
        reset: fn(&I),
    ) -> impl Future<Output = io::Result<Self::Output>> + Send;
}

impl Connector {
    /// For `upstream`; with TLS it trusts `roots`. A `proxy` (http) is asked to CONNECT (RFC 9110 section 9.3.6).
    pub(crate) fn new(upstream: &Upstream, roots: &Arc<ClientConfig>, proxy: Option<Url>) -> Self {
        let target = match upstream {
            Upstream::Tcp { host, port, tls } => {
                Target::Tcp { host: host.clone(), port: *port, tls: tls.then(|| roots.clone()) }
            }
            Upstream::Unix(path) => Target::Unix(path.clone()),
        };
        Self { target, proxy }
    }

    pub(super) async fn connect<H: Handshake>(&self, handshake: H) -> io::Result<H::Output> {
        match &self.target {
            Target::Unix(path) => handshake.over(UnixStream::connect(path).await?, |_| {}).await,
            Target::Tcp { host, port, tls } => {
                let stream = self.tcp(host, *port).await?;
                stream.set_nodelay(true)?;
                let Some(config) = tls else { return handshake.over(stream, reset).await };
                let name = tls::server_name(host).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidInput, "the host is no name for a certificate")
                })?;
                let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
                handshake.over(stream, |stream| reset(stream.get_ref().0)).await
            }
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let Some(proxy) = &self.proxy else { return TcpStream::connect((bare(host), port)).await };
        let proxy_host = proxy.host_str().unwrap_or_default();
        let mut stream = TcpStream::connect((bare(proxy_host), proxy.port_or_known_default().unwrap_or(80))).await?;
        tunnel(&mut stream, proxy, host, port).await?;
        Ok(stream)
    }
}

fn reset(stream: &TcpStream) {
    // A socket that refuses the option is gone already.
    let _ = stream.set_zero_linger();
}

/// Asks `proxy` to connect on; the stream then belongs to the target.
async fn tunnel(stream: &mut TcpStream, proxy: &Url, host: &str, port: u16) -> io::Result<()> {
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if !proxy.username().is_empty() {
        let decode = |text: &str| {
            url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let pair = format!("{}:{}", decode(proxy.username()), decode(proxy.password().unwrap_or_default()));
        head = format!("{head}Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer to CONNECT is too long"));
        }
        // A byte at a time, since what follows the head is the target's.
        answer.push(stream.read_u8().await?);
    }
    let accepted = answer.starts_with(b"HTTP/1.1 2") || answer.starts_with(b"HTTP/1.0 2");
    if accepted {
        return Ok(());
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("the proxy answered CONNECT with: {line}")))
}
