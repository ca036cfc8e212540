//! Opens doors: binds, accepts, distributes connections over workers, serves them and drains.
//!
//! Takes bound sockets, a handler for each worker and a [`Drain`]. Handlers get only requests that every HTTP parser
//! reads the same way, in one form (origin form, one `Host`, one `Cookie`), each with its [`Peer`]; or a [`Rejection`]
//! to answer. A body that breaks a limit ends with an error in which [`Rejection::of`] finds the reason.
//!
//! ```text
//! accept (control runtime) → permit → worker → PROXY protocol → TLS → HTTP/1 | HTTP/2 → handler
//! ```

mod accept;
mod bind;
mod door;
mod http1;
mod http2;
mod listen;
mod permits;
pub(crate) mod plain;
mod proxy_protocol;
mod worker;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::framing::Rejection;
pub use crate::http1::server::IncomingRequest;
use crate::response::Response;
use crate::telemetry::metrics::Metrics;
use accept::{Acceptor, WorkerHandle};
pub use bind::{Address, Bound, bind};
pub(crate) use bind::{Owner, passed};
pub use door::{DoorSpec, Drain, Limits, Peer};
pub(crate) use listen::reachable;
pub(crate) use permits::network;
use worker::WorkerContext;

/// Opens the doors and serves until `drain` is complete.
///
/// `make` is called once on each of `workers` threads, inside its runtime, so that its upstream pools belong to that
/// thread. A handler's future is dropped when its client disconnects. Acceptors run on the caller's runtime.
///
/// # Errors
/// The system refuses a thread or a socket, or a worker ended early: then all connections are cut.
pub async fn run<M, H, F>(
    doors: Vec<DoorSpec>,
    workers: usize,
    make: M,
    metrics: Arc<Metrics>,
    drain: Drain,
) -> std::io::Result<()>
where
    M: Fn() -> H + Send + Sync + 'static,
    H: Fn(IncomingRequest, Arc<Peer>) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + Unpin + 'static,
{
    let (cut, closing) = (CancellationToken::new(), drain.closing());
    // The workers end with this function, however it ends.
    let cut_at_the_end = cut.clone().drop_guard();
    let (mut handles, mut ended) = (Vec::new(), JoinSet::new());
    let make = Arc::new(make);
    for number in 0..workers.max(1) {
        let (sender, connections) = mpsc::unbounded_channel();
        handles.push(WorkerHandle { connections: sender, load: Arc::new(AtomicUsize::new(0)) });
        let context = WorkerContext { connections, closing: closing.clone(), cut: cut.clone() };
        let (make, runtime) = (make.clone(), tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        let (alive, end) = oneshot::channel::<()>();
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _alive = alive;
            worker::run(runtime, context, &*make);
        })?;
        ended.spawn(end);
    }
    let (mut acceptors, mut trackers) = (JoinSet::new(), Vec::new());
    for spec in doors {
        let (door, tracker) = (spec.door, TaskTracker::new());
        let acceptor = Acceptor::new(spec, handles.clone(), tracker.clone(), metrics.clone())?;
        acceptors.spawn(acceptor.run(closing.of(door).clone()));
        trackers.push((door, tracker));
    }
    drop(handles);
    let failed = async {
        while let Some(acceptor) = acceptors.join_next().await {
            if let Err(error) = acceptor {
                return std::io::Error::other(error);
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = drain.complete(&closing, &trackers) => {}
        error = failed => return Err(error),
        _ = ended.join_next() => return Err(std::io::Error::other("a worker ended early")),
    }
    drop(cut_at_the_end);
    while ended.join_next().await.is_some() {}
    Ok(())
}
