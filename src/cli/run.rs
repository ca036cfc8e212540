//! Running a server from the command line: the control runtime, signals, exit.
//!
//! In: what to run until told to stop. Out: how it ended. SIGTERM and Ctrl-C end in good order; a second one at once.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::clock::SystemClock;
use crate::config::{Config, Sources};
use crate::sandbox::{self, Sandbox};
use crate::{config, server, telemetry};
use std::net::SocketAddr;
use std::sync::Arc;

/// `serve`.
pub(super) fn serve(sources: &Sources) -> Result<(), Failure> {
    let config = config::load(sources).map_err(Failure::Config)?;
    telemetry::start(config.telemetry);
    // As far as the system lets any process go; the soft limit is there for programs that call select(2).
    let _ = rlimit::increase_nofile_limit(rlimit::INFINITY);
    let doors = server::bind(&config).map_err(|error| failed(&error))?;
    control(async { until_told(|shutdown| run_server(config, doors, Some(sources.clone()), shutdown)).await })
}

pub(super) async fn run_server(
    config: Config,
    doors: server::Doors,
    sources: Option<Sources>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    tracing::info!(public = doors.public.local(), admin = doors.admin.local(), "doors are bound");
    server::run(config, doors, Arc::new(SystemClock), sources, shutdown.cancelled_owned())
        .await
        .map_err(|error| failed(&error))
}

fn failed(error: &server::Error) -> Failure {
    Failure::Other(format!("upwarden: {error}"))
}

/// `sandbox`.
pub(super) fn sandbox(config: sandbox::Config, listen: SocketAddr, door: SocketAddr) -> Result<(), Failure> {
    let bound = |address: SocketAddr| {
        std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| {
                Failure::Other(format!(
                    "{address} cannot be listened on: {error}; choose another with --listen or --control"
                ))
            })
    };
    let (listener, control_listener) = (bound(listen)?, bound(door)?);
    control(async {
        let into =
            |listener| tokio::net::TcpListener::from_std(listener).map_err(|error| Failure::Other(error.to_string()));
        let (listener, control_listener) = (into(listener)?, into(control_listener)?);
        let at = |listener: &tokio::net::TcpListener| {
            listener.local_addr().map_or_else(|_| "?".to_owned(), |at| at.to_string())
        };
        let greeting = format!(
            "the sandbox of Upwork is at http://{}\nits control door is at  http://{} (GET / tells what it takes)",
            at(&listener),
            at(&control_listener)
        );
        let sandbox = Sandbox::new(config, Arc::new(SystemClock));
        until_told(|shutdown| async move {
            super::answer(&greeting)?;
            sandbox::run(sandbox, listener, control_listener, shutdown).await;
            Ok(())
        })
        .await
    })
}

/// Runs `future` on the control runtime: this very thread.
pub(super) fn control<F: Future<Output = Result<(), Failure>>>(future: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(future);
    // What still runs here belongs to nobody any more.
    runtime.shutdown_background();
    outcome
}

/// Runs until the first signal, then until `run` is through; the second signal ends it where it is.
pub(super) async fn until_told<R, F>(run: R) -> Result<(), Failure>
where
    R: FnOnce(CancellationToken) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let shutdown = CancellationToken::new();
    let mut told = signals()?;
    let mut running = std::pin::pin!(run(shutdown.clone()));
    tokio::select! {
        outcome = &mut running => return outcome,
        _ = told.wait_for(|count| *count > 0) => shutdown.cancel(),
    }
    tokio::select! {
        outcome = running => outcome,
        // Also where both came before the first was looked at.
        _ = told.wait_for(|count| *count > 1) => Err(Failure::Other("a second signal: ended at once, without waiting for what was in flight".to_owned())),
    }
}

/// How many SIGTERM and SIGINT there were.
fn signals() -> Result<watch::Receiver<u32>, Failure> {
    let heard = |kind| signal(kind).map_err(|error| Failure::Other(format!("signals cannot be heard: {error}")));
    let (mut terminate, mut interrupt) = (heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?);
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
