//! The composition root: builds every room, opens the doors, drains.
//!
//! In: a checked configuration, bound listeners, a clock, a shutdown future. Out: a server that has run its course. Nothing
//! below knows how it is put together, and nothing here decides about a request.

mod error;
mod grants;
mod identity;
mod ledger;
mod reload;
mod services;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Phase, Readiness};
use crate::clock::SharedClock;
pub use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Sources};
use crate::descriptors::Descriptors;
use crate::gateway::Gateway;
use crate::listener::{self, Address, Bound, DoorSpec, Drain, Limits, plain};
use crate::telemetry::Door;
use crate::telemetry::metrics::Metrics;
pub use error::Error;
use services::Services;

/// Idle upstream connections are looked through, and metrics kept up, this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the admin door allows: a few who ask often enough to take no time over it.
const ADMIN: plain::Few = plain::Few { connections: 32, head: Duration::from_secs(10) };

/// The sockets of the doors, bound.
#[derive(Debug)]
pub struct Doors {
    /// The public door.
    pub public: Bound,
    /// The neighbour door.
    pub neighbour: Option<Bound>,
    /// The admin door.
    pub admin: Bound,
}

/// Binds every door of a configuration.
pub fn bind(config: &Config) -> Result<Doors, Error> {
    let server = &config.server;
    let one = |door: &'static str, address: &Address| {
        listener::bind(address).map_err(|source| {
            let remedy = match source.kind() {
                io::ErrorKind::AddrInUse => "; another process has it: end that one, or choose another address",
                io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose a higher one",
                _ => "",
            };
            Error::Bind { door, address: address.to_string(), source, remedy }
        })
    };
    Ok(Doors {
        public: one("public", &server.public)?,
        neighbour: server.neighbour.as_ref().map(|address| one("neighbour", address)).transpose()?,
        admin: one("admin", &server.admin)?,
    })
}

/// Runs until `shutdown` ends, or a drain is asked for, and everything in flight is done. The caller's runtime is the
/// control runtime; `sources` is where a reload reads the configuration again.
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
    let (drain_asked, mut drain_wanted) = watch::channel(false);
    let readiness = Readiness::default();
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    tokio::spawn(upkeep(services.metrics.clone(), ended.clone()));
    if services.store.keeps_records() {
        let refresher = services.refresher.clone();
        tokio::spawn(grants::watch(services.store.clone(), refresher, services.clock.clone(), ended.clone()));
        tokio::spawn(ledger::watch(services.store.clone(), services.pacer.clone(), readiness.clone(), ended.clone()));
    }
    if let Some(service) = services.service.clone() {
        tokio::spawn(identity::watch(service, services.clock.clone(), readiness.clone(), ended.clone()));
    }
    let admin_handler = Admin::new(readiness.clone(), services.metrics.handle(), drain_asked);
    let admin = admin.into_tcp().ok_or_else(|| Error::Doors(io::Error::other("the admin door is TCP only")))?;
    admin.set_nonblocking(true).map_err(Error::Doors)?;
    let admin = tokio::net::TcpListener::from_std(admin).map_err(Error::Doors)?;
    let admin = tokio::spawn(plain::serve_few(
        ADMIN,
        admin,
        move |request, peer| admin_handler.clone().handle(request, peer),
        ended.clone(),
    ));

    let certificates = reload::certificates(&config)?;
    let specs =
        door_specs(&config, public, neighbour, certificates.as_ref().map(watch::Sender::subscribe), &descriptors);
    if let Some(sources) = sources {
        let watched = reload::Watched { ring: services.ring.clone(), access: services.access.clone(), certificates };
        tokio::spawn(reload::watch(sources, config.clone(), watched, ended.clone()));
    }
    let drain = Drain { token: CancellationToken::new(), timeout: config.server.drain_timeout };
    let (workers, metrics) = (config.server.workers, services.metrics.clone());
    let serving = listener::run(specs, workers, move || worker(&services.gateway), metrics, drain.clone());
    tracing::info!(workers, "serving");
    let leaving = async {
        tokio::select! {
            () = shutdown => {}
            // The sender lives in the admin door, which outlives this.
            _ = drain_wanted.wait_for(|wanted| *wanted) => {}
        }
        tracing::info!(delay = ?config.server.drain_delay, "readiness has dropped, the doors still serve for the drain delay");
        readiness.enter(Phase::DrainDelay);
        tokio::time::sleep(config.server.drain_delay).await;
        readiness.enter(Phase::Draining);
        tracing::info!(timeout = ?config.server.drain_timeout, "draining");
        drain.token.cancel();
    };
    let (served, ()) = tokio::join!(serving, leaving);
    ended.cancel();
    // The admin door's end is awaited so that whoever asked for the drain has its answer.
    let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
    tracing::info!("ended");
    served.map_err(Error::Doors)
}

/// A handler for the worker that this runs on, with upstream connections of its own.
fn worker(
    gateway: &Gateway,
) -> impl Fn(http::Request<crate::body::Body>, Arc<listener::Peer>) -> HandlerFuture + Clone + Send + use<> {
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
    move |request, peer| {
        let gateway = gateway.clone();
        Box::pin(async move { gateway.handle(request, peer).await }) as HandlerFuture
    }
}

/// What the system grants this process.
fn descriptors(configured: usize) -> Arc<Descriptors> {
    let soft = rlimit::Resource::NOFILE.get().ok().map(|(soft, _)| soft);
    let descriptors = Descriptors::new(soft.filter(|soft| *soft != rlimit::INFINITY));
    let most = descriptors.connections();
    if most < configured {
        tracing::warn!(
            descriptors = soft,
            connections = most,
            "public.limits.connections is {configured}, and the system allows fewer open files: raise `ulimit -n` (systemd: LimitNOFILE)"
        );
    }
    descriptors
}

type HandlerFuture = std::pin::Pin<Box<dyn Future<Output = http::Response<crate::body::Body>> + Send>>;

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
        limits: limits.clone(),
        exempt: config.gateway.public.trusted_proxies.clone(),
        descriptors: descriptors.clone(),
    }];
    if let Some(bound) = neighbour {
        let limits = Limits { connections_per_address: None, ..limits.clone() };
        let (door, descriptors) = (Door::Neighbour, descriptors.clone());
        specs.push(DoorSpec { door, bound, tls: None, h2c: false, limits, exempt: Vec::new(), descriptors });
    }
    specs
}

async fn upkeep(metrics: Arc<Metrics>, ended: CancellationToken) {
    let handle = metrics.handle();
    while tokio::time::timeout(UPKEEP, ended.cancelled()).await.is_err() {
        handle.run_upkeep();
    }
}
