//! A sandbox, an app and a sidecar, all in this process.
//!
//! `World::new().set("app.public_paths", "/health").start()`; whatever was started is joined when the world is dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Once;
use std::thread::JoinHandle;
use std::time::Duration;

use http::Method;
use tokio_util::sync::CancellationToken;
use upwarden::config::{self, Sources};
use upwarden::sandbox::{self, Counters, Sandbox};
use upwarden::server::{self, Doors};
use upwarden::testing::clock::{ManualClock, Timestamp};
use upwarden::testing::listener::Bound;

use super::replicas::{over, replica, usual};
use super::{App, Client, Tap, logs};

/// When a world begins: 2026-11-24T02:00:00Z.
const BEGIN: Timestamp = Timestamp::from_seconds(1_795_485_600);

/// What went wrong on threads that nobody awaits.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// A world that has not begun.
pub(crate) struct Plan {
    settings: Vec<(String, String)>,
    file: Option<String>,
    upwork: sandbox::Config,
    app: Option<App>,
    tapped: bool,
    pub(super) replicas: usize,
    /// Seconds that Upwork's clock is ahead of ours.
    pub(super) ahead: i64,
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
    /// The scripted app.
    pub(crate) app: App,
    /// What went between browser and sidecar, where the plan said so.
    pub(crate) tap: Option<Tap>,
    public: SocketAddr,
    pub(super) others: Vec<SocketAddr>,
    pub(super) app_address: SocketAddr,
    pub(super) settings: Vec<String>,
    neighbour: SocketAddr,
    admin: SocketAddr,
    file: Option<PathBuf>,
    _folder: tempfile::TempDir,
    // In the order in which they are to end.
    threads: Vec<Thread>,
}

pub(super) struct Thread {
    name: &'static str,
    shutdown: CancellationToken,
    handle: Option<JoinHandle<Result<(), String>>>,
}

/// A socket on a free port, for a runtime that does not exist yet.
pub(crate) fn listener() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).unwrap();
    listener
}

impl World {
    /// The usual: the app answers what it was asked, anyone may enter, the neighbour door has a service identity.
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
        }
    }
}

impl Plan {
    /// With this setting, as `--set` would give it; instead of the usual one of its name.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push((key.to_owned(), format!("{value}")));
        self
    }

    /// With a configuration file, which a test can change later ([`World::rewrite`]). Settings win over it.
    pub(crate) fn file(self, toml: &str) -> Self {
        Self { file: Some(toml.to_owned()), ..self }
    }

    /// With a sandbox of this kind.
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

    /// With all that goes between browser and sidecar written down.
    pub(crate) fn tapped(self) -> Self {
        Self { tapped: true, ..self }
    }

    /// Begins.
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

        let upwork_clock = match self.ahead {
            0 => clock.clone(),
            ahead => ManualClock::at(Timestamp::from_seconds(BEGIN.seconds() + ahead)),
        };
        let sandbox = Sandbox::new(self.upwork, upwork_clock.clone());
        let around = Around {
            sandbox: sandbox.clone(),
            sockets: (upwork, control),
            app: self.app.clone().map(|app_| (app_, app)),
            neighbour: format!("http://{neighbour_at}"),
            tap: tap.clone().zip(tap_listener).map(|(tap, listener)| (tap, listener, public_at)),
        };
        let doors =
            Doors { public: Bound::from(public), neighbour: Some(Bound::from(neighbour)), admin: Bound::from(admin) };
        let app_address = around.app.as_ref().map_or(public_at, |(_, listener)| at(listener));
        let more = (1..self.replicas).map(|_| replica(&sources, clock.clone()));
        let (mut others, mut threads): (Vec<_>, Vec<_>) = more.unzip();
        others.insert(0, public_at);
        threads.push(sidecar(sources.clone(), doors, clock.clone()));
        threads.push(around.start());
        World {
            clock,
            upwork_clock,
            upwork: Upwork { sandbox, address: upwork_at },
            app: self.app.unwrap_or_default(),
            tap,
            public: shown,
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

fn watch_panics() {
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            // Other themes have workers too, and one of them lets a handler panic on purpose.
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
    let told = shutdown.clone();
    let main = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(run(told));
        runtime.shutdown_background();
        outcome
    };
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(main).unwrap();
    Thread { name, shutdown, handle: Some(handle) }
}

pub(super) fn sidecar(sources: Sources, doors: Doors, clock: Arc<ManualClock>) -> Thread {
    let config = config::load(&sources).unwrap_or_else(|problems| unreachable!("{problems}"));
    thread("sidecar", async move |told| {
        let running = server::run(config, doors, clock, Some(sources), told.cancelled_owned());
        running.await.map_err(|error| error.to_string())
    })
}

/// What is around the sidecar, on a thread of its own.
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
        Client::at(self.public)
    }

    /// A program next door.
    pub(crate) fn neighbour(&self) -> Client {
        Client::at(self.neighbour)
    }

    /// The kubelet, or Prometheus.
    pub(crate) fn admin(&self) -> Client {
        Client::at(self.admin)
    }

    /// `public_url` and a target.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.public)
    }

    /// The neighbour door's address and a target.
    pub(crate) fn neighbour_url(&self, target: &str) -> String {
        format!("http://{}{target}", self.neighbour)
    }

    /// A browser in which this account has signed in.
    pub(crate) async fn sign_in(&self, account: &str) -> Client {
        let client = self.client();
        let answer = self.sign_in_with(&client, account, "/").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{}", answer.text());
        client
    }

    /// Opens `target` and says yes at Upwork; the callback's answer.
    pub(crate) async fn sign_in_with(&self, client: &Client, account: &str, target: &str) -> super::Answer {
        let asked = client.navigate(target).await;
        assert_eq!(asked.status, 303, "{}", asked.text());
        let back = self.upwork.consent(&asked.location(), account).await;
        client.navigate(&back).header("sec-fetch-site", "cross-site").await
    }

    /// Begins a sign-in and says yes at Upwork; the callback's address, which nobody has opened yet.
    pub(crate) async fn callback(&self, client: &Client, target: &str) -> String {
        let asked = client.navigate(target).await;
        self.upwork.consent(&asked.location(), super::FREELANCER).await
    }

    /// What the sandbox received.
    pub(crate) fn counters(&self) -> Counters {
        self.upwork.sandbox.counters()
    }

    /// Makes the sandbox fail: `{"token":"500","times":2}`.
    pub(crate) fn fault(&self, wanted: &serde_json::Value) {
        self.upwork.sandbox.faults(wanted).unwrap();
    }

    /// Turns the clock.
    pub(crate) fn turn(&self, by: Duration) {
        self.clock.advance(by);
        if !Arc::ptr_eq(&self.clock, &self.upwork_clock) {
            self.upwork_clock.advance(by);
        }
    }

    /// Changes the configuration file; the sidecar looks at it now and then.
    pub(crate) fn rewrite(&self, toml: &str) {
        std::fs::write(self.file.as_ref().expect("the plan has a file"), toml).unwrap();
    }

    /// A metric by its whole name, labels included; 0 where it is not told.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let told = self.admin().get("/metrics").await.text();
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}

impl Upwork {
    /// Says yes on the consent page: the address that the browser is sent back to.
    pub(crate) async fn consent(&self, location: &str, account: &str) -> String {
        self.decide(location, &format!("account={account}&decision=accept")).await
    }

    /// Says no.
    pub(crate) async fn decline(&self, location: &str) -> String {
        self.decide(location, "decision=decline").await
    }

    async fn decide(&self, location: &str, form: &str) -> String {
        assert!(location.starts_with(&format!("http://{}/", self.address)), "not Upwork: {location}");
        let call = Client::at(self.address).call(Method::POST, location);
        let form = upwarden::testing::body::Body::full(form.to_owned());
        let answer = call.header("content-type", "application/x-www-form-urlencoded").body(form).await;
        assert!(answer.status.is_redirection(), "{}", answer.text());
        answer.location()
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
