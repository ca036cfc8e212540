//! `upwarden serve`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::output::Failure;
use super::runtime;
use crate::clock::SystemClock;
use crate::config::{Config, Sources};
use crate::listener::{self, Bound};
use crate::{server, telemetry};

pub(super) fn serve(config: Config, sources: Sources) -> Result<(), Failure> {
    telemetry::start(config.telemetry);
    for warning in &config.warnings {
        tracing::warn!(key = warning.key, remedy = warning.remedy, "configuration: {}", warning.why);
    }
    // Up to the hard limit; the soft limit exists for programs that call select(2).
    let _ = rlimit::increase_nofile_limit(rlimit::INFINITY);
    let passed = listener::passed()
        .map_err(|error| failure(format!("a socket that was passed by LISTEN_FDS cannot be used: {error}")))?;
    let doors = server::bind(&config, passed).map_err(failure)?;
    runtime::block_on(async {
        runtime::until_signal(|shutdown| run_server(config, doors, Some(sources), shutdown)).await
    })
}

pub(super) async fn run_server(
    config: Config,
    doors: server::Doors,
    sources: Option<Sources>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let neighbour = doors.neighbour.as_ref().map(Bound::local);
    tracing::info!(public = doors.public.local(), neighbour, admin = doors.admin.local(), "doors are bound");
    server::run(config, doors, Arc::new(SystemClock), sources, shutdown.cancelled_owned()).await.map_err(failure)
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::Other(format!("upwarden: {error}"))
}
