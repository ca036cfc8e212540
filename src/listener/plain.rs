//! A plain HTTP/1.1 server, for doors that only loopback or an operator reaches: the admin door, which allows few
//! connections at a time, and without limits the sandbox and the sample app.
//!
//! In: a bound socket, a handler, a shutdown token. Out: answers, until the token is cancelled and the last is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
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

/// How long a client may take for a head, and lie idle.
const HEAD: Duration = Duration::from_secs(90);

/// What a plain server allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Few {
    /// Connections at a time. One more ends the oldest that has nothing in hand, of the address that has the most.
    pub connections: usize,
    /// For a head, and between two requests.
    pub head: Duration,
}

/// Serves until `shutdown`, then lets every connection finish what it is at.
pub async fn serve<H, F>(listener: TcpListener, handler: H, shutdown: CancellationToken)
where
    H: Fn(Request<Body>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    serve_few(Few { connections: usize::MAX, head: HEAD }, listener, handler, shutdown).await;
}

/// The same, for so few at a time that whoever asks is answered, however many others do nothing.
pub(crate) async fn serve_few<H, F>(few: Few, listener: TcpListener, handler: H, shutdown: CancellationToken)
where
    H: Fn(Request<Body>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let tasks = TaskTracker::new();
    let mut seats = VecDeque::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // With all at work there is none for this one.
                    let Some(seat) = take_seat(&mut seats, few.connections, peer.ip()) else { continue };
                    tasks.spawn(connection(stream, peer, (few.head, seat), handler.clone(), shutdown.clone()));
                }
                // Out of descriptors, mostly: what is open goes on, and the next try may find one free.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// A connection as the others see it.
struct Seat {
    address: IpAddr,
    /// Requests whose answers are not there yet.
    at_work: AtomicUsize,
    gone: CancellationToken,
}

fn take_seat(seats: &mut VecDeque<Arc<Seat>>, most: usize, address: IpAddr) -> Option<Arc<Seat>> {
    // Those of connections that have ended are held here only.
    seats.retain(|seat| most == usize::MAX || Arc::strong_count(seat) > 1);
    if seats.len() >= most {
        let share = |of: &Seat| seats.iter().filter(|seat| seat.address == of.address).count();
        let idle = seats.iter().enumerate().filter(|(_, seat)| seat.at_work.load(Relaxed) == 0);
        // The oldest is in front, and the last of equals is taken.
        let (place, _) = idle.rev().max_by_key(|(_, seat)| share(seat))?;
        seats.remove(place)?.gone.cancel();
    }
    let seat = Arc::new(Seat { address, at_work: AtomicUsize::new(0), gone: CancellationToken::new() });
    if most < usize::MAX {
        seats.push_back(seat.clone());
    }
    Some(seat)
}

async fn connection<H, F>(
    stream: TcpStream,
    peer: SocketAddr,
    (head, seat): (Duration, Arc<Seat>),
    handler: H,
    shutdown: CancellationToken,
) where
    H: Fn(Request<Body>, SocketAddr) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Answers are small and should leave at once; a socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    let gone = seat.gone.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (answer, seat) = (handler(request.map(Body::from), peer), seat.clone());
        seat.at_work.fetch_add(1, Relaxed);
        async move {
            let answer = answer.await;
            seat.at_work.fetch_sub(1, Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a client's connection ends is its own affair.
        _ = connection.as_mut() => {}
        () = gone.cancelled() => {}
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
    fn a_seat_is_taken_from_the_oldest_idle_one_of_the_address_that_has_the_most() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut seats = VecDeque::new();
        let [kubelet, first, second, third] = [1, 2, 2, 2].map(|last| take_seat(&mut seats, 4, address(last)).unwrap());
        first.at_work.store(1, Relaxed);
        let fifth = take_seat(&mut seats, 4, address(3)).unwrap();
        let gone = |seats: [&Arc<Seat>; 5]| seats.map(|seat| seat.gone.is_cancelled());
        assert_eq!(gone([&kubelet, &first, &second, &third, &fifth]), [false, false, true, false, false]);
        for seat in [&kubelet, &third, &fifth] {
            seat.at_work.store(1, Relaxed);
        }
        assert!(take_seat(&mut seats, 4, address(4)).is_none(), "all are at work");
        drop(third);
        assert!(take_seat(&mut seats, 4, address(4)).is_some(), "one has ended");
    }
}
