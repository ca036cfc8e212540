//! Workers: threads with a runtime each, so that a request stays on one thread with its upstreams' pools.
//!
//! A worker serves the connections it gets from the acceptors, each in its own task.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{DoorState, NewConnection, report_proxy_protocol};
use super::door::{DoorTokens, Peer};
use super::listen::Accepted;
use super::permits::Permit;
use super::{http1, http2, proxy_protocol};
use crate::http1::server::IncomingRequest;
use crate::http1::{Socket, Stream};
use crate::response::Response;
use crate::telemetry::access::PeerIds;
use crate::telemetry::metrics::Refusal;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The part of an answer that TLS buffers, one record (RFC 8446 section 5.1), if its client does not read.
const TLS_BUFFER: usize = 16 << 10;
/// For tasks that do not end at once, mostly name lookups.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

pub(super) struct WorkerContext {
    pub(super) connections: UnboundedReceiver<NewConnection>,
    pub(super) closing: DoorTokens,
    pub(super) cut: CancellationToken,
}

/// The whole life of a worker's thread.
pub(super) fn run<M, H, F>(runtime: tokio::runtime::Runtime, context: WorkerContext, make: &M)
where
    M: Fn() -> H,
    H: Fn(IncomingRequest, Arc<Peer>) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + Unpin + 'static,
{
    let WorkerContext { mut connections, closing, cut } = context;
    runtime.block_on(async {
        let handler = make();
        let closing = closing.child();
        let work = async {
            while let Some(connection) = connections.recv().await {
                let drain = closing.of(connection.door.door).clone();
                let tracker = connection.tracked.task_tracker().clone();
                tracker.spawn(serve(connection, handler.clone(), drain, tracker.clone()));
            }
            // There are no acceptors any more; open connections continue until they end or are cut.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cut.cancelled() => {}
            () = work => {}
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
}

async fn serve<H, F>(connection: NewConnection, handler: H, drain: CancellationToken, tracker: TaskTracker)
where
    H: Fn(IncomingRequest, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response> + Send + Unpin + 'static,
{
    let NewConnection { socket, mut address, door, mut permit, tracked } = connection;
    // This task is tracked itself.
    drop(tracked);
    let opened = match socket {
        Accepted::Tcp(socket) => {
            let Ok(mut socket) = TcpStream::from_std(socket) else { return };
            let Ok(client) = read_client(&mut socket, address, &door, &mut permit).await else { return };
            address = client;
            open(socket, &door).await
        }
        Accepted::Unix(socket) => {
            let Ok(mut socket) = UnixStream::from_std(socket) else { return };
            let Ok(client) = read_client(&mut socket, address, &door, &mut permit).await else { return };
            address = client;
            Some(Stream::Unix(socket))
        }
    };
    let Some(stream) = opened else { return };
    let unix = match &stream {
        Stream::Unix(socket) => {
            socket.peer_cred().ok().map(|ids| PeerIds { pid: ids.pid(), uid: ids.uid(), gid: ids.gid() })
        }
        Stream::Tcp(_) | Stream::Tls(_) => None,
    };
    let tls = matches!(stream, Stream::Tls(_));
    let by_alpn = matches!(&stream, Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"));
    let mut socket = Socket::from(stream);
    let http2 = by_alpn || (door.h2c && !tls && speaks_http2(&mut socket, &door).await);
    let (bound, memory) = (Arc::default(), OnceLock::new());
    let peer = Arc::new(Peer { door: door.door, address, unix, tls, drain, tracker, bound, memory });
    if http2 {
        // Boxed: it is twice as large as the rest, and idle HTTP/1 connections would need the space too.
        Box::pin(http2::serve(socket, peer, &door, permit, handler)).await;
    } else {
        http1::serve(socket, peer, &door, permit, handler).await;
    }
}

/// The client that the proxy at `address` names by the PROXY protocol, which is then counted; `address` itself if the
/// door does not use the protocol. An error has been reported.
async fn read_client(
    socket: &mut (impl AsyncRead + Unpin),
    address: Option<SocketAddr>,
    door: &DoorState,
    permit: &mut Permit,
) -> io::Result<Option<SocketAddr>> {
    if !door.proxy_protocol {
        return Ok(address);
    }
    let read = timeout(door.limits.head_timeout, proxy_protocol::read(socket)).await;
    match read.unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, "the header did not come in time"))) {
        Ok(client) => {
            if let Some(Err(refusal)) = client.map(|client| permit.count(client.ip())) {
                door.metrics.refused(door.door, refusal);
                tracing::debug!(door = door.door.as_str(), ?client, ?refusal, "connection rejected");
                return Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(client)
        }
        Err(error) => {
            // Load balancers that only connect, to see whether the port is open, are not worth a line.
            if error.kind() != ErrorKind::UnexpectedEof {
                report_proxy_protocol(door, address, &error);
            }
            Err(error)
        }
    }
}

/// With TLS if the door has it; `None` if the handshake failed or took longer than a head may.
async fn open(socket: TcpStream, door: &DoorState) -> Option<Stream> {
    let Some(tls) = &door.tls else { return Some(Stream::Tcp(socket)) };
    let config = tls.borrow().clone();
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(socket);
    let error = match timeout(door.limits.head_timeout, handshake).await {
        Ok(Ok(mut stream)) => {
            stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
            return Some(Stream::Tls(Box::new(stream.into())));
        }
        Ok(Err(error)) => error,
        Err(_) => std::io::ErrorKind::TimedOut.into(),
    };
    door.metrics.refused(door.door, Refusal::Tls);
    tracing::debug!(door = door.door.as_str(), %error, "TLS handshake failed");
    None
}

/// RFC 9113 section 3.3, prior knowledge: reads until the bytes are the preface or cannot become it. A client that sends
/// nothing is left to HTTP/1, whose idle time-out ends it.
async fn speaks_http2(socket: &mut Socket, door: &DoorState) -> bool {
    let mut read = Vec::with_capacity(PREFACE.len());
    let peek = async {
        while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
            let mut space = [0; PREFACE.len()];
            let rest = space.get_mut(read.len()..).unwrap_or_default();
            match socket.read(rest).await {
                Ok(count @ 1..) => read.extend_from_slice(rest.get(..count).unwrap_or_default()),
                Ok(0) | Err(_) => return,
            }
        }
    };
    // In time or not, what was read decides.
    let _ = timeout(door.limits.head_timeout, peek).await;
    let http2 = read == PREFACE;
    socket.early = Bytes::from(read);
    http2
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Handler = fn(IncomingRequest, Arc<Peer>) -> Pin<Box<dyn Future<Output = Response> + Send>>;

    /// Every idle connection keeps its future, so every byte of it costs.
    #[test]
    fn the_future_of_a_connection_is_small() {
        fn bytes<F>(_: fn(NewConnection, Handler, CancellationToken, TaskTracker) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(serve);
        assert!(bytes <= 2560, "{bytes}");
    }
}
