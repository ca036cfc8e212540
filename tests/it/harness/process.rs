//! The real binary, as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::PATIENCE;

/// A running `upwarden`. Dropping this kills it if it is still running.
pub(crate) struct Upwarden {
    child: Child,
    lines: Receiver<String>,
    /// What it wrote to stdout so far.
    pub(crate) said: String,
    log: Option<std::thread::JoinHandle<String>>,
}

/// The binary with these arguments and without the settings of this environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upwarden"));
    without_settings(&mut command).args(arguments).stdin(Stdio::null());
    command
}

/// Removes every `UPWARDEN_` variable from the environment of a command.
pub(super) fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("UPWARDEN_")) {
        command.env_remove(name);
    }
    command
}

impl Upwarden {
    /// Starts it.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments))
    }

    /// Starts it under another program, such as valgrind, whose arguments come before the binary's.
    pub(crate) fn start_under(program: &[&str], arguments: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        without_settings(&mut command).args(&program[1..]).arg(env!("CARGO_BIN_EXE_upwarden")).args(arguments);
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            // Text that is not UTF-8 is not looked for.
            let _ = err.read_to_string(&mut text);
            text
        });
        Self { child, lines, said: String::new(), log: Some(log) }
    }

    /// Reads stdout until a line contains `part`, and returns that line.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| {
                let _ = self.child.kill();
                let log = self.log.take().map(|log| log.join().unwrap()).unwrap_or_default();
                panic!("no line with {part:?}:\n{}\n{log}", self.said)
            });
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(done.success(), "kill -{name} {pid}");
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; its status and its log.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log.take().unwrap().join().unwrap());
            }
            assert!(Instant::now() < end, "it does not end");
            // A pause between two looks; nothing depends on its length.
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
    }
}

impl Drop for Upwarden {
    fn drop(&mut self) {
        // Once it has been waited for, its process id may belong to another process.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
