//! The composition root: builds every module, serves at the doors, drains.
//!
//! [`run`] takes a checked configuration, bound listeners, a clock and a shutdown future, and returns when everything
//! in flight is done. Only this module knows how the others are put together, and it makes no decision about a request.

mod error;
mod grant_refresh;
mod notify;
mod reload;
mod service_renewal;
mod services;
mod span_export;
mod store_sync;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, HealthCheck, Phase, Readiness};
use crate::clock::SharedClock;
pub use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Sources};
use crate::descriptors::Descriptors;
use crate::gateway::Gateway;
use crate::listener::{self, Address, Bound, DoorSpec, Drain, IncomingRequest, Limits, plain};
use crate::oauth::upwork::Upwork;
use crate::telemetry::Door;
use crate::telemetry::metrics::{Metrics, Observed};
use crate::telemetry::trace::Tracer;
pub use error::Error;
use services::Services;

/// How often idle upstream connections are swept, and the metrics maintained.
const UPKEEP: Duration = Duration::from_secs(5);

/// Connections to upstreams, however few clients may connect.
const LEAST_ANSWERS: usize = 256;

/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// The admin door's clients are few, and send their requests at once.
const ADMIN: plain::ConnectionLimit = plain::ConnectionLimit { connections: 32, head_timeout: Duration::from_secs(10) };

/// The bound sockets of the doors.
#[derive(Debug)]
pub struct Doors {
    /// The public door.
    pub public: Bound,
    /// The neighbour door.
    pub neighbour: Option<Bound>,
    /// The admin door.
    pub admin: Bound,
}

/// Binds every door of a configuration. A socket that a supervisor `passed` is used for the door with its address.
pub fn bind(config: &Config, mut passed: Vec<Bound>) -> Result<Doors, Error> {
    let server = &config.server;
    let mut one = |door: &'static str, address: &Address| {
        if let Some(found) = passed.iter().position(|socket| socket.is_at(address)) {
            return Ok(passed.swap_remove(found));
        }
        listener::bind(address).map_err(|source| {
            let remedy = if source.kind() == io::ErrorKind::AddrInUse {
                "; another process uses it: stop that process, or choose a different address"
            } else if source.kind() == io::ErrorKind::PermissionDenied && source.get_ref().is_none() {
                match address {
                    Address::Tcp(_) => "; ports below 1024 need a privilege: choose a higher one",
                    Address::Unix { .. } => "; this process must be able to write to its folder",
                }
            } else {
                ""
            };
            Error::Bind { door, address: address.to_string(), source, remedy }
        })
    };
    let doors = Doors {
        public: one("public", &server.public)?,
        neighbour: server.neighbour.as_ref().map(|address| one("neighbour", address)).transpose()?,
        admin: one("admin", &server.admin)?,
    };
    match passed.first() {
        Some(left) => Err(Error::Passed(left.local())),
        None => Ok(doors),
    }
}

/// Runs until `shutdown` ends or the admin door receives a drain, and then until everything in flight is done. The caller's
/// runtime is the control runtime; `sources` is where a reload reads the configuration again, and names the supervisor's
/// socket (`NOTIFY_SOCKET`).
pub async fn run(
    config: Config,
    doors: Doors,
    clock: SharedClock,
    sources: Option<Sources>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let descriptors = descriptors(config.server.limits.connections);
    let services = Services::build(&config, clock, &descriptors)?;
    let Doors { public, neighbour, admin } = doors;
    let (request_drain, mut drain_requested) = watch::channel(false);
    let readiness = Readiness::default();
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    spawn_background(&services, &readiness, &ended);
    let handler = Admin::new(readiness.clone(), services.metrics.clone(), request_drain);
    let admin = spawn_admin(admin, handler, ended.clone())?;

    let certificates = reload::certificates(&config, &services.metrics)?;
    let specs =
        door_specs(&config, public, neighbour, certificates.as_ref().map(watch::Sender::subscribe), &descriptors);
    if let Some(sources) = sources {
        if let Some(supervisor) = notify::supervisor(&sources) {
            tokio::spawn(notify::watch(supervisor, services.store.clone(), readiness.clone(), ended.clone()));
        }
        let reloadable = reload::Reloadable {
            ring: services.ring.clone(),
            access: services.access.clone(),
            certificates,
            metrics: services.metrics.clone(),
            clock: services.clock.clone(),
            store: services.store.clone(),
        };
        tokio::spawn(reload::watch(sources, config.clone(), reloadable, ended.clone()));
    }
    let drain = Drain {
        token: CancellationToken::new(),
        neighbour: CancellationToken::new(),
        timeout: config.server.drain_timeout,
    };
    let (workers, metrics) = (config.server.workers, services.metrics.clone());
    let health = config.server.health_path.clone().map(|path| HealthCheck::new(path, readiness.clone()));
    let start = |url| span_export::start(url, services.metrics.spans(), &descriptors, ended.clone());
    let (tracer, exporting) = config.otlp_url.as_ref().map(start).transpose()?.unzip();
    let make = move || worker(&services.gateway, health.clone(), tracer.clone());
    let serving = listener::run(specs, workers, make, metrics, drain.clone());
    tracing::info!(workers, "serving");
    // The sender lives in the admin door, which outlives this.
    let requested = async { drop(drain_requested.wait_for(|requested| *requested).await) };
    let served = tokio::select! {
        served = serving => served,
        never = leave(&drain, config.server.drain_delay, &readiness, shutdown, requested) => match never {},
    };
    ended.cancel();
    // `upwarden drain` still waits for the admin door's answer.
    let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
    if let Some(exporting) = exporting {
        // Wait briefly for the last spans.
        let _ = tokio::time::timeout(LAST_SPANS, exporting).await;
    }
    tracing::info!("ended");
    served.map_err(Error::Doors)
}

/// Drains at `shutdown`, or when the drain is `requested` at the admin door.
async fn leave(
    drain: &Drain,
    delay: Duration,
    readiness: &Readiness,
    shutdown: impl Future<Output = ()>,
    requested: impl Future<Output = ()>,
) -> Infallible {
    let mut shutdown = pin!(shutdown);
    let by_signal = tokio::select! {
        () = &mut shutdown => true,
        () = requested => false,
    };
    tracing::info!(?delay, "readiness has dropped; the doors serve for the drain delay");
    readiness.enter(Phase::DrainDelay);
    tokio::time::sleep(delay).await;
    readiness.enter(Phase::Draining);
    tracing::info!(timeout = ?drain.timeout, "draining");
    drain.token.cancel();
    // A preStop hook runs while the app still does. The signal follows, in Kubernetes once the app has exited.
    if !by_signal {
        shutdown.await;
    }
    drain.neighbour.cancel();
    std::future::pending().await
}

fn spawn_background(services: &Services, readiness: &Readiness, ended: &CancellationToken) {
    tokio::spawn(upkeep(services.metrics.clone(), services.upwork.clone(), ended.clone()));
    let clock = || services.clock.clone();
    if services.store.keeps_records() {
        let (store, observed) = (|| services.store.clone(), readiness.clone());
        services.metrics.observe(Observed::StoreUp, move || Some(f64::from(u8::from(observed.has_store()))));
        tokio::spawn(grant_refresh::watch(store(), services.refresher.clone(), clock(), ended.clone()));
        tokio::spawn(store_sync::watch(store(), services.pacer.clone(), readiness.clone(), ended.clone()));
    }
    if let Some(service) = services.service.clone() {
        tokio::spawn(service_renewal::watch(service, clock(), readiness.clone(), ended.clone()));
    }
}

fn spawn_admin(bound: Bound, admin: Admin, ended: CancellationToken) -> Result<JoinHandle<()>, Error> {
    let listener = bound.into_tcp().ok_or_else(|| Error::Doors(io::Error::other("the admin door is TCP only")))?;
    listener.set_nonblocking(true).map_err(Error::Doors)?;
    let listener = TcpListener::from_std(listener).map_err(Error::Doors)?;
    let handler = move |request, peer| admin.clone().handle(request, peer);
    Ok(tokio::spawn(plain::serve_limited(ADMIN, listener, handler, ended)))
}

/// The handler of one worker, with its own upstream connections.
fn worker(
    gateway: &Gateway,
    health: Option<HealthCheck>,
    tracer: Option<Arc<Tracer>>,
) -> impl Fn(IncomingRequest, Arc<listener::Peer>) -> HandlerFuture + Clone + Send + use<> {
    let gateway = Arc::new(gateway.for_worker());
    let swept = Arc::downgrade(&gateway);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            match swept.upgrade() {
                Some(gateway) => gateway.sweep(),
                None => return,
            }
        }
    });
    move |incoming, peer| {
        let health = health.as_ref().filter(|_| peer.door == Door::Public && incoming.refused.is_none());
        if let Some(answer) = health.and_then(|health| health.answer(&incoming.head.method, incoming.head.uri.path())) {
            return Box::pin(std::future::ready(answer.into())) as HandlerFuture;
        }
        let gateway = gateway.clone();
        // Constructed in place: `Box::pin` would copy the whole future.
        match &tracer {
            None => {
                let handling = Box::write(Box::new_uninit(), async move { gateway.handle(incoming, peer).await });
                Box::into_pin(handling) as HandlerFuture
            }
            Some(tracer) => Box::pin(tracer.clone().scope(async move { gateway.handle(incoming, peer).await })),
        }
    }
}

/// The file descriptors that the system grants this process.
fn descriptors(configured: usize) -> Arc<Descriptors> {
    let soft = rlimit::Resource::NOFILE.get().ok().map(|(soft, _)| soft);
    // Each request has its own answer, and HTTP/2 has many on one connection: memory bounds both.
    let descriptors =
        Descriptors::with_answers(soft.filter(|soft| *soft != rlimit::INFINITY), configured.max(LEAST_ANSWERS));
    let most = descriptors.connections();
    if most < configured {
        tracing::warn!(
            descriptors = soft,
            connections = most,
            "public.limits.connections is {configured}, but the system allows fewer open files: raise `ulimit -n` (systemd: LimitNOFILE)"
        );
    }
    descriptors
}

type HandlerFuture = std::pin::Pin<Box<dyn Future<Output = crate::response::Response> + Send>>;

fn door_specs(
    config: &Config,
    public: Bound,
    neighbour: Option<Bound>,
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    descriptors: &Arc<Descriptors>,
) -> Vec<DoorSpec> {
    let limits = &config.server.limits;
    let mut specs = vec![DoorSpec {
        door: Door::Public,
        bound: public,
        tls,
        h2c: config.server.h2c,
        proxy_protocol: config.server.proxy_protocol,
        limits: limits.clone(),
        exempt: config.gateway.public.trust.proxies.clone(),
        descriptors: descriptors.clone(),
    }];
    if let Some(bound) = neighbour {
        let limits = Limits { connections_per_address: None, ..limits.clone() };
        let (door, descriptors) = (Door::Neighbour, descriptors.clone());
        let (tls, h2c, proxy_protocol, exempt) = (None, false, false, Vec::new());
        specs.push(DoorSpec { door, bound, tls, h2c, proxy_protocol, limits, exempt, descriptors });
    }
    specs
}

async fn upkeep(metrics: Arc<Metrics>, upwork: Arc<Upwork>, ended: CancellationToken) {
    while tokio::time::timeout(UPKEEP, ended.cancelled()).await.is_err() {
        metrics.run_upkeep();
        upwork.sweep();
    }
}
