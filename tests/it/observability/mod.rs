//! What an operator sees: metrics, alerts and traces.

mod metrics;
mod rules;
mod traces;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::harness::{has, program};

/// Runs Prometheus's own checker, with this on stdin; `None` if it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<Output> {
    if !has(program("promtool").is_some(), "promtool") {
        return None;
    }
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}
