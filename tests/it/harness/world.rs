//! A sandbox, an app and a sidecar, all in this process.
//!
//! `World::new().public("/health").start()`; every thread is joined when the world is dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Once;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use upwarden::config::{self, Sources};
use upwarden::sandbox::{self, Counters, Sandbox};
use upwarden::server::{self, Doors};
use upwarden::testing::clock::{ManualClock, Timestamp};

use super::replicas::{doors, over, replica, usual};
use super::{App, Certificate, Client, Tap, logs, setting, until};

/// When a world begins: 2026-11-24T02:00:00Z.
const BEGIN: Timestamp = Timestamp::from_seconds(1_795_485_600);

/// Panics on threads that no test awaits.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// A world that is not started yet.
pub(crate) struct Plan {
    settings: Vec<(String, String)>,
    file: Option<String>,
    upwork: sandbox::Config,
    app: Option<App>,
    tapped: bool,
    pub(super) replicas: usize,
    /// How many seconds Upwork's clock is ahead of ours.
    pub(super) ahead: i64,
    /// How many seconds the clocks of further replicas are ahead.
    pub(super) replica_ahead: i64,
}

/// Upwork, as the world sees it.
#[derive(Clone)]
pub(crate) struct Upwork {
    pub(crate) sandbox: Sandbox,
    pub(crate) address: SocketAddr,
}

/// Everything, running.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) upwork: Upwork,
    pub(super) upwork_clock: Arc<ManualClock>,
    replica_clock: Arc<ManualClock>,
    /// The scripted app.
    pub(crate) app: App,
    /// The traffic between browser and sidecar, if the plan asked for it.
    pub(crate) tap: Option<Tap>,
    public: SocketAddr,
    /// The public door, if it is a Unix socket.
    socket: Option<PathBuf>,
    pub(super) others: Vec<SocketAddr>,
    pub(super) app_address: SocketAddr,
    pub(super) settings: Vec<String>,
    neighbour: SocketAddr,
    admin: SocketAddr,
    file: Option<PathBuf>,
    _folder: tempfile::TempDir,
    // In the order in which they end.
    threads: Vec<Thread>,
}

pub(super) struct Thread {
    name: &'static str,
    shutdown: CancellationToken,
    handle: Option<JoinHandle<Result<(), String>>>,
}

/// A socket on a free port, for a runtime that will be started later.
pub(crate) fn listener() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).unwrap();
    listener
}

impl World {
    /// The usual world: the app echoes, everyone is admitted, and the neighbour door has a service identity.
    #[expect(clippy::new_ret_no_self, reason = "`World::new().start()` reads as what it does")]
    pub(crate) fn new() -> Plan {
        Plan {
            settings: Vec::new(),
            file: None,
            upwork: sandbox::Config::default(),
            app: Some(App::default()),
            tapped: false,
            replicas: 1,
            ahead: 0,
            replica_ahead: 0,
        }
    }

    /// A world in which every path of this app is public, for tests of the way to the app.
    pub(crate) fn open(app: App) -> Plan {
        World::new().app(app).public("/")
    }
}

impl Plan {
    /// With this setting, as from `--set`, instead of the usual one.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push((key.to_owned(), format!("{value}")));
        self
    }

    /// With public routes for these paths, separated by commas.
    pub(crate) fn public(self, paths: &str) -> Self {
        let routes = paths.split(',').map(|path| serde_json::json!({ "path": path, "public": true }));
        self.set("routes", routes.collect::<serde_json::Value>())
    }

    /// With a configuration file, which the test can change later ([`World::rewrite`]). Settings override it.
    pub(crate) fn file(self, toml: &str) -> Self {
        Self { file: Some(toml.to_owned()), ..self }
    }

    /// With this sandbox.
    pub(crate) fn upwork(self, upwork: sandbox::Config) -> Self {
        Self { upwork, ..self }
    }

    /// With this app.
    pub(crate) fn app(self, app: App) -> Self {
        Self { app: Some(app), ..self }
    }

    /// With nothing listening where the app should be.
    pub(crate) fn without_app(self) -> Self {
        Self { app: None, ..self }
    }

    /// With a record of the traffic between browser and sidecar.
    pub(crate) fn tapped(self) -> Self {
        Self { tapped: true, ..self }
    }

    /// With TLS at the public door, as `localhost`.
    pub(crate) fn tls(self, certificate: &Certificate) -> Self {
        self.set("public_url", "https://localhost").set("public.tls.certificates", setting(&[certificate]))
    }

    pub(crate) fn start(self) -> World {
        logs::start();
        watch_panics();
        let folder = tempfile::tempdir().unwrap();
        let (public, neighbour, admin) = (listener(), listener(), listener());
        let (upwork, control, app) = (listener(), listener(), listener());
        let at = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
        let (public_at, neighbour_at, admin_at, upwork_at) = (at(&public), at(&neighbour), at(&admin), at(&upwork));
        let (tap, tap_listener) = self.tapped.then(Tap::bind).unzip();
        let clock = ManualClock::at(BEGIN);

        let app_url = match self.app.as_ref().and_then(App::socket) {
            Some(path) => format!("unix:{}", path.display()),
            None => format!("http://{}", at(&app)),
        };
        let shown = tap.as_ref().map_or(public_at, |tap: &Tap| tap.address);
        let mut settings = usual(shown, upwork_at, &app_url);
        settings.push(("public.listen".to_owned(), public_at.to_string()));
        settings.push(("neighbour.listen".to_owned(), neighbour_at.to_string()));
        settings.push(("admin.listen".to_owned(), admin_at.to_string()));
        let file = self.file.map(|text| {
            let path = folder.path().join("upwarden.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let sources = Sources { sets: over(settings, self.settings), file: file.clone(), ..Sources::default() };

        let (upwork_clock, replica_clock) = (ahead_of(&clock, self.ahead), ahead_of(&clock, self.replica_ahead));
        let sandbox = Sandbox::new(self.upwork, upwork_clock.clone());
        let around = Around {
            sandbox: sandbox.clone(),
            sockets: (upwork, control),
            app: self.app.clone().map(|app_| (app_, app)),
            neighbour: format!("http://{neighbour_at}"),
            tap: tap.clone().zip(tap_listener).map(|(tap, listener)| (tap, listener, public_at)),
        };
        let (socket, doors) = doors(&sources, [public, neighbour, admin]);
        let app_address = around.app.as_ref().map_or(public_at, |(_, listener)| at(listener));
        let more = (1..self.replicas).map(|_| replica(&sources, replica_clock.clone()));
        let (mut others, mut threads): (Vec<_>, Vec<_>) = more.unzip();
        others.insert(0, public_at);
        threads.push(sidecar(sources.clone(), doors, clock.clone()));
        threads.push(around.start());
        World {
            clock,
            upwork_clock,
            replica_clock,
            upwork: Upwork { sandbox, address: upwork_at },
            app: self.app.unwrap_or_default(),
            tap,
            public: shown,
            socket,
            others,
            app_address,
            settings: sources.sets.clone(),
            neighbour: neighbour_at,
            admin: admin_at,
            file,
            _folder: folder,
            threads,
        }
    }
}

/// The same clock, or one of its own that is ahead.
fn ahead_of(clock: &Arc<ManualClock>, seconds: i64) -> Arc<ManualClock> {
    if seconds == 0 { clock.clone() } else { ManualClock::at(Timestamp::from_seconds(BEGIN.seconds() + seconds)) }
}

fn watch_panics() {
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            // Other tests have workers too, and one of them panics on purpose.
            let wanted = info.to_string().contains("as this test wants it");
            if !wanted && (name.starts_with("worker-") || ["sidecar", "around"].contains(&name.as_str())) {
                PANICS.lock().unwrap().push(format!("{name}: {info}"));
            }
            before(info);
        }));
    });
}

fn thread<F>(name: &'static str, run: F) -> Thread
where
    F: AsyncFnOnce(CancellationToken) -> Result<(), String> + Send + 'static,
{
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    let main = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(run(end));
        runtime.shutdown_background();
        outcome
    };
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(main).unwrap();
    Thread { name, shutdown, handle: Some(handle) }
}

pub(super) fn sidecar(sources: Sources, doors: Doors, clock: Arc<ManualClock>) -> Thread {
    let config = config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    thread("sidecar", async move |shutdown| {
        let running = server::run(config, doors, clock, Some(sources), shutdown.cancelled_owned());
        running.await.map_err(|error| error.to_string())
    })
}

/// The sandbox and the app, on their own thread.
struct Around {
    sandbox: Sandbox,
    sockets: (std::net::TcpListener, std::net::TcpListener),
    app: Option<(App, std::net::TcpListener)>,
    neighbour: String,
    tap: Option<(Tap, std::net::TcpListener, SocketAddr)>,
}

impl Around {
    fn start(self) -> Thread {
        thread("around", async move |shutdown| {
            let into = |listener| tokio::net::TcpListener::from_std(listener).unwrap();
            if let Some((app, listener)) = self.app {
                tokio::spawn(app.serve(into(listener), self.neighbour));
            }
            if let Some((tap, listener, target)) = self.tap {
                tokio::spawn(tap.run(into(listener), target, shutdown.clone()));
            }
            let (upwork, control) = self.sockets;
            sandbox::run(self.sandbox, into(upwork), into(control), shutdown).await;
            Ok(())
        })
    }
}

impl World {
    /// A browser without cookies, at the public door.
    pub(crate) fn client(&self) -> Client {
        match &self.socket {
            Some(path) => Client::unix(path).named(&self.public.to_string()),
            None => Client::at(self.public),
        }
    }

    /// A client of the neighbour door.
    pub(crate) fn neighbour(&self) -> Client {
        Client::at(self.neighbour)
    }

    /// A client of the admin door.
    pub(crate) fn admin(&self) -> Client {
        Client::at(self.admin)
    }

    /// Where the public door listens.
    pub(crate) fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where the neighbour door listens.
    pub(crate) fn neighbour_address(&self) -> SocketAddr {
        self.neighbour
    }

    /// `public_url` and a target.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.public)
    }

    /// The neighbour door's address and a target.
    pub(crate) fn neighbour_url(&self, target: &str) -> String {
        format!("http://{}{target}", self.neighbour)
    }

    /// What the sandbox received.
    pub(crate) fn counters(&self) -> Counters {
        self.upwork.sandbox.counters()
    }

    /// Makes the sandbox fail: `{"token":"500","times":2}`.
    pub(crate) fn fault(&self, wanted: &serde_json::Value) {
        self.upwork.sandbox.faults(wanted).unwrap();
    }

    /// Takes scopes away from the key: the fields, as `User.name`, that it may not ask for.
    pub(crate) fn missing_scopes(&self, fields: &[&str]) {
        self.upwork.sandbox.missing_scopes(fields.iter().map(|field| (*field).to_owned()).collect());
    }

    /// Turns the clock.
    pub(crate) fn turn(&self, by: Duration) {
        self.clock.advance(by);
        for other in [&self.upwork_clock, &self.replica_clock] {
            if !Arc::ptr_eq(&self.clock, other) {
                other.advance(by);
            }
        }
    }

    /// The output of `future`, while the clock advances second by second, so that a call that waits under Upwork's
    /// limits continues.
    pub(crate) async fn turning<F: IntoFuture>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future.into_future());
        loop {
            // Nothing depends on the length of the pause between two turns.
            if let Ok(output) = tokio::time::timeout(Duration::from_millis(15), &mut future).await {
                return output;
            }
            self.turn(Duration::from_secs(1));
        }
    }

    /// Changes the configuration file, which the sidecar checks regularly.
    pub(crate) fn rewrite(&self, toml: &str) {
        std::fs::write(self.file.as_ref().expect("the plan has a file"), toml).unwrap();
    }

    /// A metric by its whole name, labels included; 0 if it is absent.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = self.admin().get("/metrics").await.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Waits until the public door has refused something for this reason.
    pub(crate) async fn refused(&self, reason: &str) {
        let name = format!("upwarden_refused_total{{door=\"public\",reason=\"{reason}\"}}");
        until(reason, async || (self.metric(&name).await > 0).then_some(())).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut wrong = Vec::new();
        for thread in &mut self.threads {
            thread.shutdown.cancel();
            match thread.handle.take().map(JoinHandle::join) {
                Some(Ok(Err(error))) => wrong.push(format!("{}: {error}", thread.name)),
                Some(Err(_)) => wrong.push(format!("{} panicked", thread.name)),
                Some(Ok(Ok(()))) | None => {}
            }
        }
        wrong.extend(PANICS.lock().unwrap().iter().cloned());
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }
}
