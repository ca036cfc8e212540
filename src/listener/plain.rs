//! A plain HTTP/1.1 server without limits of its own, for doors that only loopback or an operator reaches: the admin
//! door, the sandbox, the sample app.
//!
//! In: a bound socket, a handler, a shutdown token. Out: answers, until the token is cancelled and the last is sent.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;

/// Serves until `shutdown`, then lets every connection finish what it is at.
pub async fn serve<H, F>(listener: TcpListener, handler: H, shutdown: CancellationToken)
where
    H: Fn(Request<Body>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    tasks.spawn(connection(stream, peer, handler.clone(), shutdown.clone()));
                }
                // Out of descriptors, mostly: what is open goes on, and the next try may find one free.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection<H, F>(stream: TcpStream, peer: SocketAddr, handler: H, shutdown: CancellationToken)
where
    H: Fn(Request<Body>, SocketAddr) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Answers are small and should leave at once; a socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = handler(request.map(Body::from), peer);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(90))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a client's connection ends is its own affair.
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
