//! Accepting: one acceptor a door, which deals each connection to the least loaded worker.
//!
//! In: a listening socket. Out: sockets with their permits, on a worker's queue. It never waits for a client, and it
//! survives running out of descriptors.

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

use super::bind::SocketFile;
use super::listening::{Accepted, Socket, is_the_clients};
use super::permits::{Permit, Permits};
use super::{DoorSpec, Limits, h1};
use crate::http1::server::Config;
use crate::telemetry::Door;
use crate::telemetry::metrics::{Metrics, Refusal};

/// After a failure to accept: so long at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Connections over a limit that are told so at the same time; more are closed without a word.
const POLITE: usize = 64;
/// How long a client over a limit has to take its 503.
const PARTING: Duration = Duration::from_secs(1);
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 32\r\n\r\nToo many connections; try again\n";

/// What all connections of a door share.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) door: Door,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) h2c: bool,
    pub(super) limits: Arc<Limits>,
    pub(super) http1: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
}

/// A connection on its way to a worker.
pub(super) struct Arrival {
    pub(super) socket: Accepted,
    pub(super) address: Option<SocketAddr>,
    pub(super) room: Arc<Room>,
    pub(super) permit: Permit,
    /// The drain waits for it from here on, not only once a worker has taken it up.
    pub(super) counted: TaskTrackerToken,
}

/// A worker as the acceptors see it.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) arrivals: UnboundedSender<Arrival>,
    pub(super) load: Arc<AtomicUsize>,
}

/// One door's acceptor.
pub(super) struct Acceptor {
    socket: Socket,
    file: Option<SocketFile>,
    entrance: Entrance,
}

/// What lies behind a door's socket.
struct Entrance {
    room: Arc<Room>,
    permits: Arc<Permits>,
    desks: Vec<Desk>,
    tracker: TaskTracker,
    polite: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(
        spec: DoorSpec,
        desks: Vec<Desk>,
        tracker: TaskTracker,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let DoorSpec { door, bound, tls, h2c, limits, exempt, descriptors } = spec;
        let permits = Permits::new(door, &limits, exempt, metrics.clone(), descriptors);
        let room = Arc::new(Room { door, tls, h2c, http1: h1::config(&limits), limits: Arc::new(limits), metrics });
        let entrance = Entrance { room, permits, desks, tracker, polite: Arc::new(Semaphore::new(POLITE)) };
        Ok(Self { socket: Socket::new(bound.socket)?, file: bound.file, entrance })
    }

    /// Accepts until `stop`; then the socket is closed and its port free. Who has connected before is taken in.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { socket: listening, file, entrance } = self;
        let (door, mut pause) = (entrance.room.door, None);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listening.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    pause = None;
                    entrance.permits.make_room().await;
                    entrance.take_in(socket, address);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    entrance.room.metrics.refused(door, Refusal::Accept);
                    let time = pause.map_or(BACK_OFF.0, |time: Duration| (time * 2).min(BACK_OFF.1));
                    if pause.is_none() {
                        tracing::error!(door = door.as_str(), %error, "cannot accept connections, trying on");
                    }
                    pause = Some(time);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(time) => {}
                    }
                }
            }
        }
        // The way to a Unix socket goes first, so that its queue grows no more.
        drop(file);
        if let Err(error) = listening.close(|socket, address| entrance.take_in(socket, address)).await {
            tracing::warn!(door = door.as_str(), %error, "the last who connected may be lost");
        }
    }
}

impl Entrance {
    fn take_in(&self, socket: Accepted, address: Option<SocketAddr>) {
        let permit = match self.permits.take(address.map(|address| address.ip())) {
            Ok(permit) => permit,
            Err(refusal) => return self.turn_away(socket, refusal, address.map(|address| address.ip())),
        };
        let Some(desk) = self.desks.iter().min_by_key(|desk| desk.load.load(Ordering::Relaxed)) else { return };
        let permit = permit.on(desk.load.clone());
        // A queue that is closed belongs to a worker that has ended; then `run` is ending too.
        let _ = desk.arrivals.send(Arrival {
            socket,
            address,
            room: self.room.clone(),
            permit,
            counted: self.tracker.token(),
        });
    }

    /// 503 with Retry-After, under TLS too, by HTTP/1.1: who speaks HTTP/2 alone is closed in the handshake.
    fn turn_away(&self, socket: Accepted, refusal: Refusal, address: Option<IpAddr>) {
        self.room.metrics.refused(self.room.door, refusal);
        tracing::debug!(door = self.room.door.as_str(), ?address, ?refusal, "connection turned away");
        let Ok(place) = self.polite.clone().try_acquire_owned() else { return };
        let tls = self.room.tls.as_ref().map(|tls| tls.borrow().clone());
        tokio::spawn(async move {
            let told = async {
                match (socket, tls) {
                    (Accepted::Tcp(socket), None) => tell(TcpStream::from_std(socket)?).await,
                    (Accepted::Tcp(socket), Some(config)) => {
                        let mut config = ServerConfig::clone(&config);
                        config.alpn_protocols = vec![b"http/1.1".to_vec()];
                        tell(TlsAcceptor::from(Arc::new(config)).accept(TcpStream::from_std(socket)?).await?).await
                    }
                    (Accepted::Unix(socket), _) => tell(UnixStream::from_std(socket)?).await,
                }
            };
            // Told or not, it is over.
            let _ = tokio::time::timeout(PARTING, told).await;
            drop(place);
        });
    }
}

async fn tell<S>(mut socket: S) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.write_all(FULL).await?;
    socket.shutdown().await?;
    // What the client has sent is read, lest closing resets the connection before it has read our answer.
    let mut waste = [0; 1024];
    while socket.read(&mut waste).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_503_says_how_long_it_is() {
        let text = String::from_utf8(FULL.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{text}");
    }
}
