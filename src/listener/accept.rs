//! Accepts the connections of a door and passes each, with its permit, to the least loaded worker.
//!
//! Never waits for a client, and survives running out of file descriptors.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::bind::{Bound, SocketFile};
use super::door::{DoorSpec, Limits, http1_config};
use super::listen::{Accepted, Listener, is_transient};
use super::permits::{Permit, Permits};
use crate::descriptors::Descriptors;
use crate::http1::server::Config;
use crate::telemetry::Door;
use crate::telemetry::metrics::{Metrics, Refusal};

/// The first and the longest pause after a failure to accept.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Connections over a limit that may get a 503 at the same time; more are closed without one.
const MAX_REJECTING: usize = 64;
/// How long a client over a limit has to read its 503.
const REJECT_TIMEOUT: Duration = Duration::from_secs(1);
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 32\r\n\r\nToo many connections; try again\n";

/// Shared by all connections of a door.
#[derive(Debug)]
pub(super) struct DoorState {
    pub(super) door: Door,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) h2c: bool,
    pub(super) proxy_protocol: bool,
    pub(super) limits: Arc<Limits>,
    pub(super) http1: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) descriptors: Arc<Descriptors>,
}

/// A connection on its way to a worker.
pub(super) struct NewConnection {
    pub(super) socket: Accepted,
    pub(super) address: Option<SocketAddr>,
    pub(super) door: Arc<DoorState>,
    pub(super) permit: Permit,
    /// The drain waits for it from now on, not only once a worker serves it.
    pub(super) tracked: TaskTrackerToken,
}

/// A worker as the acceptors see it.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    pub(super) connections: UnboundedSender<NewConnection>,
    pub(super) load: Arc<AtomicUsize>,
}

pub(super) struct Acceptor {
    listener: Listener,
    passed: bool,
    file: Option<SocketFile>,
    dispatcher: Dispatcher,
}

struct Dispatcher {
    door: Arc<DoorState>,
    permits: Arc<Permits>,
    workers: Vec<WorkerHandle>,
    tracker: TaskTracker,
    rejecting: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(
        spec: DoorSpec,
        workers: Vec<WorkerHandle>,
        tracker: TaskTracker,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let DoorSpec { door, bound, tls, h2c, proxy_protocol, limits, exempt, descriptors } = spec;
        let permits = Permits::new(door, &limits, exempt, metrics.clone(), descriptors.clone());
        let http1 = http1_config(&limits);
        let limits = Arc::new(limits);
        let door = Arc::new(DoorState { door, tls, h2c, proxy_protocol, limits, http1, metrics, descriptors });
        let rejecting = Arc::new(Semaphore::new(MAX_REJECTING));
        let dispatcher = Dispatcher { door, permits, workers, tracker, rejecting };
        let Bound { socket, passed, file } = bound;
        Ok(Self { listener: Listener::new(socket)?, passed, file, dispatcher })
    }

    /// Accepts until `stop`; then the socket is closed and its port free. Connections made before are still served, here or,
    /// if a supervisor keeps the socket open, by the next process.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { listener, passed, file, dispatcher } = self;
        let (door, mut pause) = (dispatcher.door.door, None);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    pause = None;
                    dispatcher.permits.make_room().await;
                    dispatcher.dispatch(socket, address);
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    dispatcher.door.metrics.refused(door, Refusal::Accept);
                    let time = pause.map_or(BACK_OFF.0, |time: Duration| (time * 2).min(BACK_OFF.1));
                    if pause.is_none() {
                        tracing::error!(door = door.as_str(), %error, "cannot accept connections; retrying");
                    }
                    pause = Some(time);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(time) => {}
                    }
                }
            }
        }
        // Remove the file of a Unix socket first, so that its queue does not grow.
        drop(file);
        if passed {
            drop(listener);
        } else if let Err(error) = listener.close(|socket, address| dispatcher.dispatch(socket, address)).await {
            tracing::warn!(door = door.as_str(), %error, "the last connections may be lost");
        }
        dispatcher.tracker.close();
    }
}

impl Dispatcher {
    fn dispatch(&self, socket: Accepted, address: Option<SocketAddr>) {
        let peer = address.map(|address| address.ip());
        let mut counted = peer;
        if self.door.proxy_protocol {
            // All programs that may open the Unix socket are trusted proxies here (`config::check`).
            if peer.is_some_and(|peer| !self.permits.is_exempt(peer)) {
                let why = "it does not come from a trusted proxy";
                return report_proxy_protocol(&self.door, address, &why);
            }
            // Its client counts instead, which the worker determines.
            counted = None;
        }
        let permit = match self.permits.take(counted) {
            Ok(permit) => permit,
            Err(refusal) => return self.reject(socket, refusal, peer),
        };
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else { return };
        let permit = permit.on(worker.load.clone());
        // The queue closes only if the worker has ended; then `run` is ending too.
        let _ = worker.connections.send(NewConnection {
            socket,
            address,
            door: self.door.clone(),
            permit,
            tracked: self.tracker.token(),
        });
    }

    /// 503 with Retry-After by HTTP/1.1, under TLS too: a client that speaks only HTTP/2 fails in the handshake.
    fn reject(&self, socket: Accepted, refusal: Refusal, address: Option<IpAddr>) {
        self.door.metrics.refused(self.door.door, refusal);
        tracing::debug!(door = self.door.door.as_str(), ?address, ?refusal, "connection rejected");
        let Ok(slot) = self.rejecting.clone().try_acquire_owned() else { return };
        let tls = self.door.tls.as_ref().map(|tls| tls.borrow().clone());
        tokio::spawn(async move {
            let sent = async {
                match (socket, tls) {
                    (Accepted::Tcp(socket), None) => send_unavailable(TcpStream::from_std(socket)?).await,
                    (Accepted::Tcp(socket), Some(config)) => {
                        let mut config = ServerConfig::clone(&config);
                        config.alpn_protocols = vec![b"http/1.1".to_vec()];
                        send_unavailable(
                            TlsAcceptor::from(Arc::new(config)).accept(TcpStream::from_std(socket)?).await?,
                        )
                        .await
                    }
                    (Accepted::Unix(socket), _) => send_unavailable(UnixStream::from_std(socket)?).await,
                }
            };
            // Sent or not, the connection is closed.
            let _ = tokio::time::timeout(REJECT_TIMEOUT, sent).await;
            drop(slot);
        });
    }
}

/// Counts and logs a connection that is closed because its client is not known.
pub(super) fn report_proxy_protocol(door: &DoorState, address: Option<SocketAddr>, why: &dyn std::fmt::Display) {
    door.metrics.refused(door.door, Refusal::ProxyProtocol);
    tracing::info!(door = door.door.as_str(), ?address, reason = %why, "refused: PROXY protocol");
}

async fn send_unavailable<S>(mut socket: S) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.write_all(UNAVAILABLE).await?;
    socket.shutdown().await?;
    // DoorTokens with unread input would reset the connection before the client has read the response.
    let mut discarded = [0; 1024];
    while socket.read(&mut discarded).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_503_states_its_length() {
        let text = String::from_utf8(UNAVAILABLE.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{text}");
    }
}
