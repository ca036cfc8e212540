//! A listening socket, whichever kind, on the caller's runtime.
//!
//! In: a bound socket. Out: connections that belong to no runtime yet; at the end every one that was made before it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::time::timeout;

use super::bind::Listening;

/// How long one try to take the last place of a queue may last, and how many there are.
const TRY: (Duration, usize) = (Duration::from_millis(10), 100);

/// A socket that belongs to no runtime yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    pub(super) fn new(listening: Listening) -> io::Result<Self> {
        match listening {
            Listening::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listening::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// Loses no connection where it is dropped.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
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

    /// Closes it, after everybody was taken in whom the system has let connect: closing a socket resets those who wait in
    /// its queue, and what they have sent is lost.
    pub(super) async fn close(self, take_in: impl Fn(Accepted, Option<SocketAddr>)) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                close_tcp(listener.into_std()?, |socket, address| {
                    take_in(Accepted::Tcp(socket), Some(address));
                })
                .await
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let Some((socket, _)) = next(|| listener.accept())? {
                    socket.set_nonblocking(true)?;
                    take_in(Accepted::Unix(socket), None);
                }
                Ok(())
            }
        }
    }
}

/// Who connects between the last look into the queue and the end of the socket would be reset. So the queue is made as
/// short as it can be, which on Linux is one place, and we take that place ourselves: whoever comes now is not
/// connected, tries again by itself (RFC 9293 section 3.8.1), and is refused then.
async fn close_tcp(
    listener: std::net::TcpListener,
    take_in: impl Fn(std::net::TcpStream, SocketAddr),
) -> io::Result<()> {
    let empty = |listener: &std::net::TcpListener| -> io::Result<()> {
        while let Some((socket, address)) = next(|| listener.accept())? {
            socket.set_nonblocking(true)?;
            // As for the others.
            let _ = socket.set_nodelay(true);
            take_in(socket, address);
        }
        Ok(())
    };
    empty(&listener)?;
    let own = reachable(listener.local_addr()?);
    // To listen again changes the length of the queue and nothing else; a stream here is only a name for a descriptor.
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(OwnedFd::from(listener)));
    let listener = socket.listen(0)?.into_std()?;
    for _ in 0..TRY.1 {
        empty(&listener)?;
        if let Ok(Ok(_last)) = timeout(TRY.0, TcpStream::connect(own)).await {
            drop(listener);
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The next of those who wait; `None` where nobody does.
fn next<T>(accept: impl Fn() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match accept() {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// An address that means "every interface" is reached on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// A connection that was given up before it was accepted, or a signal: nothing is wrong here.
pub(super) fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
