//! The real binary as a process of its own, so that its memory, descriptors and end are its own, too.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::harness::{App, Client, PATIENCE};

/// Seals nothing of importance.
const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A sidecar of its own, in front of an app in this process that needs no session.
pub(super) struct Sidecar {
    child: Child,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    _ended: tokio_util::sync::DropGuard,
    _log: Receiver<String>,
}

/// How it is started.
pub(super) struct Start {
    app: App,
    sets: Vec<String>,
    shell: Option<String>,
}

impl Start {
    pub(super) fn with(app: App) -> Self {
        Self { app, sets: Vec::new(), shell: None }
    }

    pub(super) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.sets.push(format!("{key}={value}"));
        self
    }

    /// By a shell, after this line of it: `ulimit -n 64`.
    pub(super) fn after(self, line: &str) -> Self {
        Self { shell: Some(line.to_owned()), ..self }
    }

    pub(super) fn start(self) -> Sidecar {
        let ended = CancellationToken::new();
        let app_at = serve(self.app, ended.clone());
        let mut arguments = vec!["serve".to_owned()];
        let usual = [
            format!("app.url=http://{app_at}"),
            "app.public_paths=/".to_owned(),
            "public_url=http://127.0.0.1".to_owned(),
            "public.listen=127.0.0.1:0".to_owned(),
            "admin.listen=127.0.0.1:0".to_owned(),
            "upwork.client_id=0123456789abcdef0123456789abcdef".to_owned(),
            "upwork.client_secret=fedcba9876543210".to_owned(),
            format!("session.keys={SEAL}"),
            "access.anyone=true".to_owned(),
            "log.format=json".to_owned(),
            "drain.delay=0s".to_owned(),
            "drain.timeout=20s".to_owned(),
        ];
        for set in usual.into_iter().chain(self.sets) {
            arguments.extend(["--set".to_owned(), set]);
        }
        let mut command = match &self.shell {
            None => Command::new(env!("CARGO_BIN_EXE_upwarden")),
            Some(line) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{line} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_upwarden")]);
                shell
            }
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("UPWARDEN_")) {
            command.env_remove(name);
        }
        let mut child =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let bound = wait_for(&log, "doors are bound");
        let told: serde_json::Value = serde_json::from_str(&bound).unwrap();
        let at = |door: &str| find(&told, door).unwrap_or_else(|| unreachable!("{bound}")).parse().unwrap();
        let (public, admin) = (at("public"), at("admin"));
        Sidecar { child, public, admin, _ended: ended.drop_guard(), _log: log }
    }
}

fn find(value: &serde_json::Value, name: &str) -> Option<String> {
    let direct = value.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    direct.or_else(|| value.as_object()?.values().find_map(|inner| find(inner, name)))
}

/// The app on a thread of its own, until `ended`; where it is.
fn serve(app: App, ended: CancellationToken) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            ended.run_until_cancelled(app.serve(listener, String::new())).await;
        });
        runtime.shutdown_background();
    });
    address
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (told, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Read on, lest it blocks; nobody may be interested any more.
            let _ = told.send(line);
        }
    });
    lines
}

fn wait_for(log: &Receiver<String>, part: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = log.recv_timeout(left).unwrap_or_else(|_| unreachable!("no line with {part:?}:\n{said}"));
        if line.contains(part) {
            return line;
        }
        said.push_str(&line);
        said.push('\n');
    }
}

impl Sidecar {
    pub(super) fn client(&self) -> Client {
        Client::at(self.public)
    }

    pub(super) fn admin(&self) -> Client {
        Client::at(self.admin)
    }

    /// Resident memory, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that was ever resident, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Sends a signal, by name.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(super) async fn ended(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            // Between two looks, not for luck.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
