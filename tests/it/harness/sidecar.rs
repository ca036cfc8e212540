//! The real binary in its own process, so that its memory, its descriptors and its end are separate.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::process::without_settings;
use super::replicas::{KEY, SEAL};
use super::{App, Certificate, Client, PATIENCE, setting};

/// A running sidecar in front of an app in this process that needs no session.
pub(crate) struct Sidecar {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) neighbour: Option<SocketAddr>,
    app: Option<DropGuard>,
    log: Receiver<String>,
}

/// A sidecar that is not started yet.
pub(crate) struct Start {
    app: App,
    settings: Vec<String>,
    shell: Option<String>,
    passed: Option<(OwnedFd, OwnedFd)>,
}

impl Start {
    pub(crate) fn with(app: App) -> Self {
        Self { app, settings: Vec::new(), shell: None, passed: None }
    }

    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// With TLS at the public door, as `localhost`.
    pub(crate) fn tls(self, certificate: &Certificate) -> Self {
        self.set("public_url", "https://localhost").set("public.tls.certificates", setting(&[certificate]))
    }

    /// Started by a shell after this command, such as `ulimit -n 64`.
    pub(crate) fn after(self, line: &str) -> Self {
        Self { shell: Some(line.to_owned()), ..self }
    }

    /// With these sockets for the public and the neighbour door, as a supervisor passes them (`sd_listen_fds(3)`).
    pub(crate) fn passed(self, public: &TcpListener, neighbour: &UnixListener) -> Self {
        let at = public.local_addr().unwrap().to_string();
        self.given(public.try_clone().unwrap(), &at, neighbour)
    }

    /// The same with a Unix socket for the public door.
    pub(crate) fn passed_unix(self, public: &UnixListener, neighbour: &UnixListener) -> Self {
        self.given(public.try_clone().unwrap(), &place(public), neighbour)
    }

    fn given(self, public: impl Into<OwnedFd>, at: &str, neighbour: &UnixListener) -> Self {
        let sockets = (public.into(), neighbour.try_clone().unwrap().into());
        let start = self
            .set("public.listen", at)
            .set("neighbour.listen", place(neighbour))
            .after("exec 3<&0 4>&1 </dev/null >/dev/null && export LISTEN_FDS=2 LISTEN_PID=$$");
        Self { passed: Some(sockets), ..start }
    }

    pub(crate) fn start(self) -> Sidecar {
        let app_ends = CancellationToken::new();
        let mut child = self.spawn(app_ends.clone());
        let log = lines(child.stderr.take().unwrap());
        let bound = wait_for(&log, "doors are bound");
        let fields: serde_json::Value = serde_json::from_str(&bound).unwrap();
        let at = |door: &str| find(&fields, door)?.parse().ok();
        // A Unix socket has no address.
        let socket = find(&fields, "public").filter(|at| at.starts_with("unix:"));
        let public = if socket.is_some() { Some(SocketAddr::from(([0, 0, 0, 0], 0))) } else { at("public") };
        let (public, admin) = public.zip(at("admin")).unwrap_or_else(|| panic!("{bound}"));
        Sidecar { child, public, admin, neighbour: at("neighbour"), app: Some(app_ends.drop_guard()), log }
    }

    /// Its status and its log, if it must not start.
    pub(crate) fn refused(self) -> (ExitStatus, String) {
        let output = self.spawn(CancellationToken::new()).wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    fn spawn(self, app_ends: CancellationToken) -> Child {
        let app_at = serve(self.app, app_ends);
        let usual = [
            format!("app.url=http://{app_at}"),
            "routes=[{\"path\":\"/\",\"public\":true}]".to_owned(),
            "public_url=http://127.0.0.1".to_owned(),
            "public.listen=127.0.0.1:0".to_owned(),
            "admin.listen=127.0.0.1:0".to_owned(),
            format!("upwork.client_id={}", KEY.0),
            format!("upwork.client_secret={}", KEY.1),
            format!("session.keys={SEAL}"),
            "access.anyone=true".to_owned(),
            "log.format=json".to_owned(),
            "drain.delay=0s".to_owned(),
            "drain.timeout=20s".to_owned(),
        ];
        let mut command = match &self.shell {
            None => Command::new(env!("CARGO_BIN_EXE_upwarden")),
            Some(line) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{line} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_upwarden")]);
                shell
            }
        };
        without_settings(&mut command).arg("serve");
        for setting in usual.into_iter().chain(self.settings) {
            command.args(["--set", &setting]);
        }
        let (stdin, stdout) = match self.passed {
            Some((public, neighbour)) => (public.into(), neighbour.into()),
            None => (Stdio::null(), Stdio::null()),
        };
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// As `listen` names it.
fn place(socket: &UnixListener) -> String {
    format!("unix:{}", socket.local_addr().unwrap().as_pathname().unwrap().display())
}

fn find(value: &serde_json::Value, name: &str) -> Option<String> {
    let direct = value.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    direct.or_else(|| value.as_object()?.values().find_map(|inner| find(inner, name)))
}

/// Serves the app on its own thread until `end`; returns its address.
fn serve(app: App, end: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            end.run_until_cancelled(app.serve(listener, String::new())).await;
        });
        runtime.shutdown_background();
    });
    address
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // It is read to the end, so that the process never blocks on its log.
            let _ = sender.send(line);
        }
    });
    lines
}

fn wait_for(log: &Receiver<String>, part: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let mut read = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = log.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {part:?}:\n{read}"));
        if line.contains(part) {
            return line;
        }
        read.push_str(&line);
        read.push('\n');
    }
}

impl Sidecar {
    pub(crate) fn client(&self) -> Client {
        Client::at(self.public)
    }

    pub(crate) fn admin(&self) -> Client {
        Client::at(self.admin)
    }

    /// Ends the app.
    pub(crate) fn end_app(&mut self) {
        self.app = None;
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The peak of its resident memory, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Ends it; the lines that it logged once its doors were open.
    pub(crate) fn log(self) -> Vec<serde_json::Value> {
        self.signal("TERM");
        let lines = std::iter::from_fn(|| self.log.recv_timeout(PATIENCE).ok());
        lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            // A pause between two looks; nothing depends on its length.
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
