//! Accepting: one acceptor a door, which deals each connection to the least loaded worker.
//!
//! In: a listening socket. Out: sockets with their permits, on a worker's queue. It never waits for a client, and it
//! survives running out of descriptors.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::bind::{Listening, SocketFile};
use super::permits::{Permit, Permits};
use super::{DoorSpec, Limits};
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
    pub(super) tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    pub(super) h2c: bool,
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<Metrics>,
}

/// A connection on its way to a worker.
pub(super) struct Arrival {
    pub(super) socket: Accepted,
    pub(super) address: Option<SocketAddr>,
    pub(super) room: Arc<Room>,
    pub(super) permit: Permit,
}

/// A socket that belongs to no runtime yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
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
    /// Removed with the acceptor.
    _file: Option<SocketFile>,
    room: Arc<Room>,
    permits: Arc<Permits>,
    desks: Vec<Desk>,
    polite: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(spec: DoorSpec, desks: Vec<Desk>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let DoorSpec { door, bound, tls, h2c, limits, exempt, descriptors } = spec;
        let permits = Permits::new(door, &limits, exempt, metrics.clone(), descriptors);
        let room = Arc::new(Room { door, tls, h2c, limits: Arc::new(limits), metrics });
        let (socket, file) = (Socket::new(bound.socket)?, bound.file);
        Ok(Self { socket, _file: file, room, permits, desks, polite: Arc::new(Semaphore::new(POLITE)) })
    }

    /// Accepts until `stop`; then the socket is closed and its port free.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // Who is in the system's queue has connected before we closed.
                    self.take_in_the_queue().await;
                    return;
                }
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    pause = None;
                    self.take_in(socket, address);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    self.room.metrics.refused(self.room.door, Refusal::Accept);
                    let time = pause.map_or(BACK_OFF.0, |time: Duration| (time * 2).min(BACK_OFF.1));
                    if pause.is_none() {
                        tracing::error!(door = self.room.door.as_str(), %error, "cannot accept connections, trying on");
                    }
                    pause = Some(time);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(time) => {}
                    }
                }
            }
        }
    }

    async fn take_in_the_queue(&self) {
        loop {
            tokio::select! {
                biased;
                accepted = self.socket.accept() => match accepted {
                    Ok((socket, address)) => self.take_in(socket, address),
                    Err(_) => return,
                },
                () = std::future::ready(()) => return,
            }
        }
    }

    fn take_in(&self, socket: Accepted, address: Option<SocketAddr>) {
        let permit = match self.permits.take(address.map(|address| address.ip())) {
            Ok(permit) => permit,
            Err(refusal) => return self.turn_away(socket, refusal, address.map(|address| address.ip())),
        };
        let Some(desk) = self.desks.iter().min_by_key(|desk| desk.load.load(Ordering::Relaxed)) else { return };
        let permit = permit.on(desk.load.clone());
        // A queue that is closed belongs to a worker that has ended; then `run` is ending too.
        let _ = desk.arrivals.send(Arrival { socket, address, room: self.room.clone(), permit });
    }

    /// 503 with Retry-After where the client can read it; under TLS that would cost a handshake, so it is closed.
    fn turn_away(&self, socket: Accepted, refusal: Refusal, address: Option<IpAddr>) {
        self.room.metrics.refused(self.room.door, refusal);
        tracing::debug!(door = self.room.door.as_str(), ?address, ?refusal, "connection turned away");
        if self.room.tls.is_some() {
            return;
        }
        let Ok(place) = self.polite.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let told = async {
                match socket {
                    Accepted::Tcp(socket) => tell(tokio::net::TcpStream::from_std(socket)?).await,
                    Accepted::Unix(socket) => tell(tokio::net::UnixStream::from_std(socket)?).await,
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

/// A connection that was given up before it was accepted, or a signal: nothing is wrong here.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A listening socket, whichever kind, on the caller's runtime.
enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Socket {
    fn new(listening: Listening) -> io::Result<Self> {
        match listening {
            Listening::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listening::Unix(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// Loses no connection where it is dropped.
    async fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // Answers leave at once; a socket that refuses the option works all the same.
                let _ = socket.set_nodelay(true);
                Ok((Accepted::Tcp(socket.into_std()?), Some(address)))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Accepted::Unix(socket.into_std()?), None))
            }
        }
    }
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
