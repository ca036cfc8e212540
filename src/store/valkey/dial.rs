//! Opens connections: TCP or a Unix socket, TLS, login, and a check of the server's mode.
//!
//! Takes an endpoint and returns a connection to a server of the expected mode, or the reason as text for a log line.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, cmd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Endpoint;
use super::refusal::{RESPONSE_TIMEOUT, reason};
use crate::tls;

#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Mode {
    Standalone,
    Sentinel,
    Cluster,
}

/// How the servers of a store are connected to.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) login: RedisConnectionInfo,
    pub(super) tls: Option<TlsFiles>,
    pub(super) mode: Mode,
}

/// The files are read for each connection, so that the next one uses a renewed certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<tls::CertificateFiles>,
}

impl TlsFiles {
    pub(super) fn connector(&self) -> Result<TlsConnector, tls::Error> {
        Ok(TlsConnector::from(Arc::new(tls::client(self.ca.as_deref(), self.certificate.as_ref())?)))
    }
}

impl Dialer {
    pub(super) async fn dial(&self, endpoint: &Endpoint) -> Result<MultiplexedConnection, String> {
        match endpoint {
            Endpoint::Unix(path) => {
                self.log_in(UnixStream::connect(path).await.map_err(|error| error.to_string())?).await
            }
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
                // Commands are small and should be sent at once. A socket that refuses the option works too.
                let _ = stream.set_nodelay(true);
                let Some(files) = &self.tls else { return self.log_in(stream).await };
                let tls = files.connector().map_err(|error| format!("TLS: {error}"))?;
                let name = tls::server_name(host).ok_or("its host is not a name that a certificate can have")?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                self.log_in(stream).await
            }
        }
    }

    async fn log_in<C>(&self, stream: C) -> Result<MultiplexedConnection, String>
    where
        C: Unpin + AsyncRead + AsyncWrite + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let new = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (mut connection, driver) = new.map_err(|error| reason(&error))?;
        // It ends with the last handle of its connection.
        tokio::spawn(driver);
        cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| reason(&error))?;
        match (self.mode, mode_of(&mut connection).await) {
            (Mode::Standalone, Some(Mode::Cluster)) => {
                Err("it is a node of a cluster: write redis+cluster:// instead of redis:// in store.url".to_owned())
            }
            (Mode::Standalone, Some(Mode::Sentinel)) => {
                Err("it is a Sentinel: write redis+sentinel://HOST:PORT/NAME in store.url".to_owned())
            }
            (Mode::Cluster, Some(Mode::Standalone | Mode::Sentinel)) => {
                Err("it is not a node of a cluster: write redis:// or redis+sentinel:// in store.url".to_owned())
            }
            (Mode::Sentinel, Some(Mode::Standalone | Mode::Cluster)) => {
                Err("it is not a Sentinel: redis+sentinel:// in store.url needs the addresses of Sentinels".to_owned())
            }
            (_, _) => Ok(connection),
        }
    }
}

/// Sends `HELLO`, which no ACL forbids. The mode of a server that does not know the command or the field is unknown.
async fn mode_of(connection: &mut MultiplexedConnection) -> Option<Mode> {
    let facts: HashMap<String, Value> = cmd("HELLO").query_async(connection).await.ok()?;
    let mode: String = redis::from_redis_value(facts.get("mode")?.clone()).ok()?;
    mode.parse().ok()
}
