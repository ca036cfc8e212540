//! A plain HTTP/1.1 server for doors that only loopback or an operator reaches: the admin door, whose connections are
//! limited, the sandbox and the sample app.
//!
//! Takes a bound socket, a handler and a shutdown token, and returns when the token is cancelled and the last response
//! was sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;

/// The time limit for a request head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimit {
    /// Maximum number of open connections. One more closes the oldest idle one of the address that has the most.
    pub connections: usize,
    /// The time limit for a request head, and between two requests.
    pub head_timeout: Duration,
}

/// Serves until `shutdown`, and then until every connection has finished its request.
pub async fn serve<H, F>(listener: TcpListener, handler: H, shutdown: CancellationToken)
where
    H: Fn(Request<Body>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let limit = ConnectionLimit { connections: usize::MAX, head_timeout: HEAD_TIMEOUT };
    serve_limited(limit, listener, handler, shutdown).await;
}

/// Like [`serve`], but idle connections cannot block new ones.
pub(crate) async fn serve_limited<H, F>(
    limit: ConnectionLimit,
    listener: TcpListener,
    handler: H,
    shutdown: CancellationToken,
) where
    H: Fn(Request<Body>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let tasks = TaskTracker::new();
    let mut slots = VecDeque::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // If all are busy, this one is closed.
                    let Some(slot) = take_slot(&mut slots, limit.connections, peer) else { continue };
                    tasks.spawn(connection(stream, slot, limit.head_timeout, handler.clone(), shutdown.clone()));
                }
                // Most likely no descriptor is free. Open connections continue, and a later try may succeed.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// What other connections need to know of one.
struct Slot {
    peer: SocketAddr,
    /// Requests that have no response yet.
    pending: AtomicUsize,
    evicted: CancellationToken,
}

fn take_slot(slots: &mut VecDeque<Arc<Slot>>, limit: usize, peer: SocketAddr) -> Option<Arc<Slot>> {
    // The slots of connections that have ended are held only here.
    slots.retain(|slot| Arc::strong_count(slot) > 1);
    if slots.len() >= limit {
        let share = |of: &Slot| slots.iter().filter(|slot| slot.peer.ip() == of.peer.ip()).count();
        let idle = slots.iter().enumerate().filter(|(_, slot)| slot.pending.load(Relaxed) == 0);
        // The oldest is at the front, and `max_by_key` returns the last of equals.
        let (place, _) = idle.rev().max_by_key(|(_, slot)| share(slot))?;
        slots.remove(place)?.evicted.cancel();
    }
    let slot = Arc::new(Slot { peer, pending: AtomicUsize::new(0), evicted: CancellationToken::new() });
    if limit < usize::MAX {
        slots.push_back(slot.clone());
    }
    Some(slot)
}

async fn connection<H, F>(
    stream: TcpStream,
    slot: Arc<Slot>,
    head_timeout: Duration,
    handler: H,
    shutdown: CancellationToken,
) where
    H: Fn(Request<Body>, SocketAddr) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Responses are small and should be sent at once. A socket that refuses the option works without it.
    let _ = stream.set_nodelay(true);
    let evicted = slot.evicted.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (response, slot) = (handler(request.map(Body::from), slot.peer), slot.clone());
        slot.pending.fetch_add(1, Relaxed);
        async move {
            let response = response.await;
            slot.pending.fetch_sub(1, Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a client's connection ends does not matter here.
        _ = connection.as_mut() => {}
        () = evicted.cancelled() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_replaces_the_oldest_idle_one_of_the_address_that_has_the_most() {
        let peer = |last: u8| SocketAddr::from(([192, 0, 2, last], 1));
        let mut slots = VecDeque::new();
        let [kubelet, first, second, third] = [1, 2, 2, 2].map(|last| take_slot(&mut slots, 4, peer(last)).unwrap());
        first.pending.store(1, Relaxed);
        let fifth = take_slot(&mut slots, 4, peer(3)).unwrap();
        let evicted = |slots: [&Arc<Slot>; 5]| slots.map(|slot| slot.evicted.is_cancelled());
        assert_eq!(evicted([&kubelet, &first, &second, &third, &fifth]), [false, false, true, false, false]);
        for slot in [&kubelet, &third, &fifth] {
            slot.pending.store(1, Relaxed);
        }
        assert!(take_slot(&mut slots, 4, peer(4)).is_none(), "all are busy");
        drop(third);
        assert!(take_slot(&mut slots, 4, peer(4)).is_some(), "one has ended");
    }
}
