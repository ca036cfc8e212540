//! The command line.
//!
//! In: arguments. Out: answers on stdout, what went wrong on stderr, and an exit code. It decides nothing that a room
//! below could decide, and never prints the value of a secret, not even one given with `--set` by mistake.

mod admin_client;
mod args;
mod check;
mod demo;
mod doctor;
mod login;
mod run;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use args::Arguments;
pub use args::Command;

use crate::config::{self, Sources};
use crate::sandbox;
use crate::seal::Key;

/// The arguments are wrong (sysexits `EX_USAGE`).
const USAGE: u8 = 64;
/// The configuration is wrong (sysexits `EX_CONFIG`).
const CONFIG: u8 = 78;
/// No `drain.delay` is longer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3600);
/// The file that is read where `--config` names none and it exists.
const DEFAULT_FILE: &str = "upwarden.toml";

/// How a command ended, other than well.
#[derive(Debug)]
enum Failure {
    /// 64, with a text for stderr.
    Usage(String),
    /// 78.
    Config(config::Problems),
    /// 1, with a text for stderr; empty where everything has been said.
    Other(String),
}

/// Runs the command that these arguments name; the first argument is the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments.chosen(),
        Err(error) => return refused(&error),
    };
    match dispatch(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            complain(&format!("{text}\nupwarden --help tells more"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Config(problems)) => {
            complain(&problems.to_string());
            ExitCode::from(CONFIG)
        }
        Err(Failure::Other(text)) => {
            if !text.is_empty() {
                complain(&text);
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { config, sets } => run::serve(&Sources::of_process(file(config), checked(sets)?)),
        Command::Demo { public, neighbour, admin, sandbox } => {
            demo::demo(&demo::Wishes { public, neighbour, admin, sandbox })
        }
        Command::Sandbox { listen, control, token_seconds, token_chars, strict, limits, clients } => {
            let config = sandbox::Config {
                token_lifetime: Duration::from_secs(token_seconds),
                token_chars: usize::try_from(token_chars).unwrap_or(usize::MAX),
                strict,
                limits,
                clients: sandbox_clients(&clients)?,
                ..sandbox::Config::default()
            };
            run::sandbox(config, listen, control)
        }
        Command::Check { config, sets } => {
            let config = config::load(&Sources::of_process(file(config), checked(sets)?)).map_err(Failure::Config)?;
            answer(&check::summary(&config))
        }
        Command::Doctor { config, sets } => {
            let config = config::load(&Sources::of_process(file(config), checked(sets)?)).map_err(Failure::Config)?;
            run::control(doctor::doctor(&config))
        }
        Command::Key { count } => {
            for _ in 0..count {
                answer(Key::generate().map_err(failed)?.expose())?;
            }
            Ok(())
        }
        Command::Login { out, force, no_browser, config, sets } => {
            let sources = Sources::of_process(file(config), checked(sets)?);
            login::login(&sources, &login::Wish { out, force, no_browser })
        }
        Command::Health { admin, config, sets } => health(admin_door(admin, config, sets)?),
        Command::Drain { admin, config, sets } => drain(admin_door(admin, config, sets)?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "upwarden", &mut script);
            answer(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// `--config`, else `upwarden.toml` of the working directory where there is one, else the environment alone.
fn file(config: Option<PathBuf>) -> Option<PathBuf> {
    config.or_else(|| Path::new(DEFAULT_FILE).is_file().then(|| PathBuf::from(DEFAULT_FILE)))
}

/// Settings of the form KEY=VALUE. Which one is wrong is told by its place: it may be a secret without its key.
fn checked(sets: Vec<String>) -> Result<Vec<String>, Failure> {
    match sets.iter().position(|set| config::split_setting(set).is_none()) {
        Some(place) => {
            let text =
                format!("--set number {} is not KEY=VALUE; write --set app.url=http://127.0.0.1:3000", place + 1);
            Err(Failure::Usage(text))
        }
        None => Ok(sets),
    }
}

/// The clients of `sandbox --client`, told apart by their place for the same reason.
fn sandbox_clients(texts: &[String]) -> Result<Vec<sandbox::Client>, Failure> {
    let malformed = |place: usize| {
        let example = "ID:SECRET:REDIRECT, such as 0123…:4567…:http://127.0.0.1:4180/upwork/auth/callback";
        Failure::Usage(format!("--client number {} is not {example}", place + 1))
    };
    texts.iter().enumerate().map(|(place, text)| sandbox::Client::parse(text).ok_or_else(|| malformed(place))).collect()
}

/// Where the admin door is: `--admin`, else the configuration's word, else its default.
fn admin_door(
    admin: Option<std::net::SocketAddr>,
    config: Option<PathBuf>,
    sets: Vec<String>,
) -> Result<std::net::SocketAddr, Failure> {
    let sets = checked(sets)?;
    match admin {
        Some(address) => Ok(address),
        None => config::admin_address(&Sources::of_process(file(config), sets)).map_err(Failure::Config),
    }
}

fn health(address: std::net::SocketAddr) -> Result<(), Failure> {
    let told = ask_admin(address, "GET", "/readyz", admin_client::TIMEOUT)?;
    if told.status == 200 {
        return Ok(());
    }
    Err(Failure::Other(format!("not ready: the admin door at {address} answered {}", told.status)))
}

fn drain(address: std::net::SocketAddr) -> Result<(), Failure> {
    let told = ask_admin(address, "POST", "/drain", DRAIN_TIMEOUT)?;
    if told.status == 200 {
        return Ok(());
    }
    Err(Failure::Other(format!("not drained: the admin door at {address} answered {}", told.status)))
}

fn ask_admin(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<admin_client::Answer, Failure> {
    let told = admin_client::ask(address, method, path, timeout)
        .map_err(|error| Failure::Other(format!("no answer from the admin door at {address}: {error}")))?;
    answer(told.body.trim_end())?;
    Ok(told)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

/// The one way to stdout.
fn answer(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::Other(format!("stdout cannot be written: {error}")))
}

/// The one way to stderr, besides the log. There is nowhere left to tell that it failed.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `--help` and `--version` are answers; the rest is wrong usage.
fn refused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        complain(error.render().to_string().trim_end());
        return ExitCode::from(USAGE);
    }
    match answer(error.render().to_string().trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
