//! `upwarden sandbox`: the local imitation of Upwork on its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::args::SandboxArguments;
use super::output::{Failure, print};
use super::runtime::{address, block_on, listener, until_signal};
use crate::clock::SystemClock;
use crate::sandbox::{self, Client, Config, Sandbox};

pub(super) fn sandbox(arguments: &SandboxArguments) -> Result<(), Failure> {
    let config = Config {
        token_lifetime: Duration::from_secs(arguments.token_seconds),
        token_chars: usize::try_from(arguments.token_chars).unwrap_or(usize::MAX),
        strict: arguments.strict,
        limits: arguments.limits,
        clients: clients(&arguments.clients)?,
        ..Config::default()
    };
    let (upwork, control) = (bind(arguments.listen)?, bind(arguments.control)?);
    let greeting = format!(
        "The sandbox imitates Upwork at http://{}\nIts control door is at http://{} (GET / describes it)",
        address(&upwork)?,
        address(&control)?
    );
    block_on(async {
        let (upwork, control) = (listener(upwork)?, listener(control)?);
        let sandbox = Sandbox::new(config, Arc::new(SystemClock));
        until_signal(|shutdown| async move {
            print(&greeting)?;
            sandbox::run(sandbox, upwork, control, shutdown).await;
            Ok(())
        })
        .await
    })
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        Failure::Other(format!(
            "cannot listen on {address}: {error}; choose another address with --listen or --control"
        ))
    })
}

/// An invalid client is named by its position, because it contains a secret.
fn clients(texts: &[String]) -> Result<Vec<Client>, Failure> {
    let malformed = |place: usize| {
        let example = "ID:SECRET:REDIRECT, such as 0123…:4567…:http://127.0.0.1:4180/upwork/auth/callback";
        Failure::Usage(format!("--client number {} is not {example}", place + 1))
    };
    texts.iter().enumerate().map(|(place, text)| Client::parse(text).ok_or_else(|| malformed(place))).collect()
}
