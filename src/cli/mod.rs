//! The command line: arguments in, results on stdout, errors on stderr, and an exit code.
//!
//! It makes no decision that a lower module could make, and never prints a secret, not even one that was passed to
//! `--set` by mistake.

mod admin;
mod args;
mod check;
mod demo;
mod doctor;
mod login;
mod output;
mod runtime;
mod sandbox;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config;
use crate::seal::Key;
use crate::secret::Secret;
use args::{Arguments, CheckArguments, Command};
use output::{Failure, print};

/// Runs the command that these arguments name. The first argument is the name of the program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Arguments::try_parse_from(args) {
        Ok(arguments) => dispatch(arguments.into_command()),
        Err(error) if error.use_stderr() => Err(Failure::Usage(error.render().to_string().trim_end().to_owned())),
        // `--help` and `--version` are answers.
        Err(error) => print(error.render().to_string().trim_end()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(config) => {
            let (config, sources) = config.load()?;
            serve::serve(config, sources)
        }
        Command::Demo(addresses) => demo::demo(&addresses),
        Command::Sandbox(arguments) => sandbox::sandbox(&arguments),
        Command::Check(CheckArguments { strict, config }) => {
            let (mut config, _) = config.load()?;
            if strict && !config.warnings.is_empty() {
                return Err(Failure::Config(config::Problems(std::mem::take(&mut config.warnings))));
            }
            print(&check::summary(&config))
        }
        Command::Doctor(config) => {
            let (config, _) = config.load()?;
            runtime::block_on(doctor::doctor(&config))
        }
        Command::Key { count, out } => {
            let keys: Result<Vec<_>, _> = (0..count).map(|_| Key::generate()).collect();
            let keys = keys.map_err(Failure::other)?;
            let text = keys.iter().map(Secret::expose).collect::<Vec<_>>().join("\n");
            match out {
                Some(out) => login::write_private(&out, &text, false).map_err(Failure::other),
                None => print(&text),
            }
        }
        Command::Login(arguments) => login::login(arguments),
        Command::Health(admin) => admin::health(admin.address()?),
        Command::Drain(admin) => admin::drain(admin.address()?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "upwarden", &mut script);
            print(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Man { folder } => clap_mangen::generate_to(Arguments::command(), folder).map_err(Failure::other),
    }
}
