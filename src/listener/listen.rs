//! A listening socket of either kind, on the caller's runtime.
//!
//! Accepted connections belong to no runtime yet. Closing the socket loses no established connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::time::timeout;

use super::bind::BoundSocket;

/// The time limit for one try to take the last place of a queue.
const TRY_TIMEOUT: Duration = Duration::from_millis(10);
const TRIES: usize = 100;

/// A socket that belongs to no runtime yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn new(socket: BoundSocket) -> io::Result<Self> {
        match socket {
            BoundSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            BoundSocket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // Responses should be sent at once; a socket that refuses the option works without it.
                let _ = socket.set_nodelay(true);
                Ok((Accepted::Tcp(socket.into_std()?), Some(address)))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Accepted::Unix(socket.into_std()?), None))
            }
        }
    }

    /// Passes every connection in the queue to `accept`, then closes the socket: closing it first would reset them and lose
    /// what they have sent.
    pub(super) async fn close(self, accept: impl Fn(Accepted, Option<SocketAddr>)) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                close_tcp(listener.into_std()?, |socket, address| {
                    accept(Accepted::Tcp(socket), Some(address));
                })
                .await
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let Some((socket, _)) = next(|| listener.accept())? {
                    socket.set_nonblocking(true)?;
                    accept(Accepted::Unix(socket), None);
                }
                Ok(())
            }
        }
    }
}

/// A connection made between the last check of the queue and the close would be reset. So we make the queue as short as
/// possible, which on Linux is one place, and take that place ourselves: a client that arrives now is not connected,
/// retries automatically (RFC 9293 section 3.8.1), and is then refused.
async fn close_tcp(
    listener: std::net::TcpListener,
    accept: impl Fn(std::net::TcpStream, SocketAddr),
) -> io::Result<()> {
    let empty = |listener: &std::net::TcpListener| -> io::Result<()> {
        while let Some((socket, address)) = next(|| listener.accept())? {
            socket.set_nonblocking(true)?;
            let _ = socket.set_nodelay(true);
            accept(socket, address);
        }
        Ok(())
    };
    empty(&listener)?;
    let own = reachable(listener.local_addr()?);
    // Listening again only changes the length of the queue; the stream stands for a bare file descriptor.
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(OwnedFd::from(listener)));
    let listener = socket.listen(0)?.into_std()?;
    for _ in 0..TRIES {
        empty(&listener)?;
        if let Ok(Ok(_last)) = timeout(TRY_TIMEOUT, TcpStream::connect(own.as_slice())).await {
            drop(listener);
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The next connection in the queue; `None` if it is empty.
fn next<T>(accept: impl Fn() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match accept() {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The addresses at which a listener is reached from this machine: loopback if it listens on every interface. A pod
/// whose network has no IPv6 can listen at `[::]` but has no `::1`.
pub(crate) fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let loopback = match address {
        _ if !address.ip().is_unspecified() => return vec![address],
        SocketAddr::V4(_) => vec![v4],
        SocketAddr::V6(_) => vec![v6, v4],
    };
    loopback.into_iter().map(|ip| SocketAddr::new(ip, address.port())).collect()
}

/// The client gave up before it was accepted, or a signal came.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
