//! The control runtime, and signals: the first SIGTERM or Ctrl-C begins the shutdown, the second ends it at once.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::output::Failure;

/// Runs `future` on the control runtime, which is this thread.
pub(super) fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(future);
    // Do not wait for the remaining tasks.
    runtime.shutdown_background();
    outcome
}

/// Runs until the first signal, then until `run` ends; a second signal ends it at once. Signals are caught before `run`
/// begins.
pub(super) async fn until_signal<R, F>(run: R) -> Result<(), Failure>
where
    R: FnOnce(CancellationToken) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let shutdown = CancellationToken::new();
    let mut received = signals()?;
    let mut running = std::pin::pin!(run(shutdown.clone()));
    tokio::select! {
        outcome = &mut running => return outcome,
        _ = received.wait_for(|count| *count > 0) => shutdown.cancel(),
    }
    tokio::select! {
        outcome = running => outcome,
        _ = received.wait_for(|count| *count > 1) => {
            Err(Failure::Other("stopped at once by a second signal, without waiting for requests in flight".to_owned()))
        }
    }
}

fn signals() -> Result<watch::Receiver<u32>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::Other(format!("signals cannot be received: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

pub(super) fn listener(listener: TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map_err(|error| Failure::Other(format!("a socket cannot be used: {error}")))
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Other(format!("a socket has no address: {error}")))
}
