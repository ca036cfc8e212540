//! `upwarden sandbox`: the local imitation of Upwork on its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::SandboxArguments;
use super::output::{Failure, print};
use super::runtime::{address, block_on, listener, until_signal};
use crate::clock::SystemClock;
use crate::sandbox::{self, Client, Config, Sandbox};
use crate::seal::Key;

pub(super) fn sandbox(arguments: &SandboxArguments) -> Result<(), Failure> {
    let config = Config {
        token_lifetime: Duration::from_secs(arguments.token_seconds),
        token_chars: usize::try_from(arguments.token_chars).unwrap_or(usize::MAX),
        strict: arguments.strict,
        limits: arguments.limits,
        clients: clients(&arguments.clients)?,
        fixtures: arguments.fixtures.as_deref().map(folder).transpose()?,
        ..Config::default()
    };
    let (upwork, control) = (bind(arguments.listen)?, bind(arguments.control)?);
    let greeting = format!(
        "The sandbox imitates Upwork at http://{}\nIts control door is at http://{} (GET / describes it)\n\n{}",
        address(&upwork)?,
        address(&control)?,
        settings(address(&upwork)?, config.clients.first())?
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

/// A configuration that points at the sandbox, complete except for the app's address.
fn settings(upwork: SocketAddr, client: Option<&Client>) -> Result<String, Failure> {
    let base = format!("http://{}", reached(upwork));
    let public_url = client.and_then(|client| client.redirect_uri.strip_suffix("/upwork/auth/callback"));
    let key = Key::generate().map_err(Failure::other)?;
    let first = [
        ("public_url", public_url.unwrap_or("http://127.0.0.1:4180").to_owned()),
        ("app.url", "http://127.0.0.1:3000".to_owned()),
        (
            "upwork.client_id",
            client.map_or_else(|| "0123456789abcdef0123456789abcdef".to_owned(), |client| client.id.clone()),
        ),
    ];
    let lines = first.into_iter().chain(urls(&base, &base)).map(|(key, value)| format!("{key} = \"{value}\"\n"));
    // A secret that was given is not repeated.
    let secret = if client.is_some() { "the SECRET of --client" } else { "any" };
    Ok(format!(
        "For upwarden.toml; app.url is your app's address. Then run `upwarden serve` in the same folder.\n\n{}\
         upwork.client_secret = \"{secret}\"\naccess.anyone = true\nsession.keys = [\"{}\"]\n\nPress Ctrl-C to stop.",
        lines.collect::<String>(),
        key.expose()
    ))
}

/// The settings of a sandbox, as browsers and as upwarden reach it.
pub(super) fn urls(browser: &str, program: &str) -> [(&'static str, String); 5] {
    [
        ("upwork.authorize_url", format!("{browser}{}", sandbox::AUTHORIZE_PATH)),
        ("upwork.token_url", format!("{program}{}", sandbox::TOKEN_PATH)),
        ("upwork.revoke_url", format!("{program}{}", sandbox::REVOKE_PATH)),
        ("upwork.graphql_url", format!("{program}{}", sandbox::GRAPHQL_PATH)),
        ("upwork.api_url", program.to_owned()),
    ]
}

/// The address at which a listener on every interface is reached on this machine.
pub(super) fn reached(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

fn folder(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    Err(Failure::Usage(format!("--fixtures {} is not a folder", path.display())))
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
