//! How a command reports: results on stdout, errors on stderr, and an exit code.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use crate::config::Problems;

/// Wrong arguments (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;
/// Wrong configuration (`EX_CONFIG` of sysexits).
const CONFIG: u8 = 78;

const NOT_CONFIGURED: &str =
    "Nothing is configured: this folder has no upwarden.toml, --config names no file, and no UPWARDEN_… variable is \
set.
Write upwarden.toml (README, \"Set it up\"), or run `upwarden demo`, which needs no configuration.";

#[derive(Debug)]
pub(super) enum Failure {
    Usage(String),
    Config(Problems),
    /// Problems of a configuration in which nothing is set.
    NotConfigured(Problems),
    Other(String),
    /// The output already says why.
    Reported,
}

impl Failure {
    pub(super) fn other(error: impl Display) -> Self {
        Self::Other(error.to_string())
    }

    /// Prints the failure; its exit code.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                print_error(&format!("{text}\nSee `upwarden --help`."));
                ExitCode::from(USAGE)
            }
            Self::Config(problems) => {
                print_error(&problems.to_string());
                ExitCode::from(CONFIG)
            }
            Self::NotConfigured(problems) => {
                print_error(&format!("{problems}\n\n{NOT_CONFIGURED}"));
                ExitCode::from(CONFIG)
            }
            Self::Other(text) => {
                print_error(text);
                ExitCode::FAILURE
            }
            Self::Reported => ExitCode::FAILURE,
        }
    }
}

/// The only way to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::Other(format!("stdout cannot be written: {error}")))
}

/// The only way to stderr besides the log. If it fails, there is nowhere left to report it.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
