//! upwarden's binary: calls the command line and turns its outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    upwarden::cli::run(std::env::args_os())
}
