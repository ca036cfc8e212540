//! Workers: a thread each, with a runtime of its own, so that a request stays on one thread with its upstream's pools.
//!
//! In: connections that acceptors deal. Out: served connections, each in a task of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{Arrival, Room};
use super::h1::Terms;
use super::listening::Accepted;
use super::{Peer, h1, h2};
use crate::body::Body;
use crate::http1::{Socket, Stream};
use crate::telemetry::access::PeerIds;
use crate::telemetry::metrics::Refusal;

/// What an HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// For tasks that do not end when they are told to: names being looked up, mostly.
const PARTING: Duration = Duration::from_millis(100);

/// What a worker runs with.
pub(super) struct Bench {
    pub(super) arrivals: UnboundedReceiver<Arrival>,
    pub(super) drain: CancellationToken,
    pub(super) cut: CancellationToken,
    pub(super) tracker: TaskTracker,
}

/// A worker's thread, from beginning to end.
pub(super) fn run<M, H, F>(runtime: tokio::runtime::Runtime, bench: Bench, make: &M)
where
    M: Fn() -> H,
    H: Fn(Request<Body>, Arc<Peer>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Bench { mut arrivals, drain, cut, tracker } = bench;
    runtime.block_on(async {
        let handler = make();
        // A token of this worker's own: waiting on it touches nothing that other workers touch.
        let drain = drain.child_token();
        let work = async {
            while let Some(arrival) = arrivals.recv().await {
                let (handler, drain, tasks) = (handler.clone(), drain.clone(), tracker.clone());
                tracker.spawn(connection(arrival, handler, drain, tasks));
            }
            // No acceptor is left; what was begun goes on until it ends or is cut.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cut.cancelled() => {}
            () = work => {}
        }
    });
    runtime.shutdown_timeout(PARTING);
}

async fn connection<H, F>(arrival: Arrival, handler: H, drain: CancellationToken, tracker: TaskTracker)
where
    H: Fn(Request<Body>, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Arrival { socket, address, room, permit, counted } = arrival;
    // This task is counted itself.
    drop(counted);
    let opened = match socket {
        Accepted::Tcp(socket) => open(socket, &room).await,
        Accepted::Unix(socket) => UnixStream::from_std(socket).map(Stream::Unix).ok(),
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
    let http2 = by_alpn || (room.h2c && !tls && speaks_h2(&mut socket, &room).await);
    let peer = Arc::new(Peer { door: room.door, address, unix, tls, drain, tracker });
    let terms =
        Terms { limits: room.limits.clone(), http1: room.http1.clone(), metrics: room.metrics.clone(), permit, peer };
    if http2 {
        h2::serve(socket, terms, handler).await;
    } else {
        h1::serve(socket, terms, handler).await;
    }
}

/// With TLS where the door has it; `None` where the handshake failed or took longer than a head may.
async fn open(socket: std::net::TcpStream, room: &Room) -> Option<Stream> {
    let socket = TcpStream::from_std(socket).ok()?;
    let Some(tls) = &room.tls else { return Some(Stream::Tcp(socket)) };
    let config = tls.borrow().clone();
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(socket);
    let error = match timeout(room.limits.head_timeout, handshake).await {
        Ok(Ok(stream)) => return Some(Stream::Tls(Box::new(stream.into()))),
        Ok(Err(error)) => error,
        Err(_) => std::io::ErrorKind::TimedOut.into(),
    };
    room.metrics.refused(room.door, Refusal::Tls);
    tracing::debug!(door = room.door.as_str(), %error, "TLS handshake failed");
    None
}

/// RFC 9113 section 3.3, prior knowledge: reads until the bytes are the preface or cannot become it. A client that says
/// nothing is left to HTTP/1, whose idle time-out ends it.
async fn speaks_h2(socket: &mut Socket, room: &Room) -> bool {
    let mut seen = Vec::with_capacity(PREFACE.len());
    let peek = async {
        while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
            let mut space = [0; PREFACE.len()];
            let room = space.get_mut(seen.len()..).unwrap_or_default();
            match socket.read(room).await {
                Ok(count @ 1..) => seen.extend_from_slice(room.get(..count).unwrap_or_default()),
                Ok(0) | Err(_) => return,
            }
        }
    };
    // Whether in time or not, what was seen decides.
    let _ = timeout(room.limits.head_timeout, peek).await;
    let http2 = seen == PREFACE;
    socket.early = Bytes::from(seen);
    http2
}
