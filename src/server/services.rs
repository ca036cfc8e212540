//! Builds the parts of one process.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::error::Error;
use crate::broker::Broker;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::gateway::{
    AppSettings, AppUpstream, Assertions, Callers, Context, Gateway, IdentityHeaders, Sessions, SignIn, Upstreams,
};
use crate::oauth::refresh::Refresher;
use crate::oauth::service::ServiceIdentity;
use crate::oauth::upwork::Upwork;
use crate::oauth::{Dependencies, Grant};
use crate::pacing::Pacer;
use crate::policy::Access;
use crate::proxy::via::Via;
use crate::proxy::{AppConfig, HostPolicy, OwnAddress};
use crate::seal::{self, SharedKeyring};
use crate::store::{self, Store};
use crate::telemetry::Upstream;
use crate::telemetry::metrics::{Metrics, Scope};

/// What the workers and the background tasks use.
pub(super) struct Services {
    /// Each worker makes a copy with its own connections.
    pub(super) gateway: Gateway,
    pub(super) ring: SharedKeyring,
    pub(super) access: Arc<ArcSwap<Access>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Store,
    pub(super) pacer: Arc<Pacer>,
    pub(super) upwork: Arc<Upwork>,
    pub(super) service: Option<Arc<ServiceIdentity>>,
    pub(super) refresher: Arc<Refresher>,
    pub(super) clock: SharedClock,
}

impl Services {
    /// Connects to nothing yet. The runtime that this runs on is the control runtime.
    pub(super) fn build(config: &Config, clock: SharedClock, descriptors: &Arc<Descriptors>) -> Result<Self, Error> {
        let control = Handle::current();
        let metrics = Arc::new(Metrics::of(scope(config)));
        let ring = SharedKeyring::new(config.keyring()?);
        let store = store::open_store(&config.store, ring.clone(), clock.clone(), control.clone())?.measured(&metrics);
        let pacer = Pacer::new(&config.broker.pace, clock.clone(), metrics.clone(), control.clone());
        let upwork =
            Upwork::new(config.oauth.clone(), clock.clone(), control.clone(), pacer.clone(), descriptors.clone());
        let deps = Dependencies {
            upwork: upwork.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            control,
        };
        let refresher = Refresher::new(deps.clone(), config.session.lifetime, config.session.recheck);
        let service = config.service.clone().map(|service| ServiceIdentity::new(service, deps));
        let access = Arc::new(ArcSwap::from_pointee(config.access.clone()));
        let broker = Broker::new(&config.broker, refresher.clone(), pacer.clone(), descriptors, &metrics)?;

        let context = Context { clock: clock.clone(), metrics: metrics.clone() };
        let sessions = Sessions::new(&config.session, store.clone(), access.clone(), refresher.clone(), context);
        let public = &config.gateway.public;
        let sign_in = SignIn::new(public, &config.session, upwork.clone(), ring.clone(), sessions.clone());
        let callers = Callers::new(&config.gateway, ring.clone(), sessions, service.clone());
        let assertions =
            config.gateway.assertion.clone().map(|audience| {
                Assertions::new(config.gateway.public.url.clone(), audience, ring.clone(), clock.clone())
            });
        let headers = config.gateway.app_headers.clone();
        let identity = Arc::new(IdentityHeaders::new(config.oauth.implicit_identity, headers, assertions));
        let settings = app_settings(config, identity, &metrics);
        let upstreams = upstreams(config, &settings, descriptors, broker)?;
        let share = descriptors.requests_of_a_client();
        let gateway =
            Gateway::new(public.clone(), config.router.clone(), sign_in, callers, upstreams).limit_streams(share);
        Ok(Self { gateway, ring, access, metrics, store, pacer, upwork, service, refresher, clock })
    }
}

fn scope(config: &Config) -> Scope {
    let (server, limits) = (&config.server, &config.server.limits);
    let tls = !server.certificates.is_empty();
    Scope {
        neighbour: server.neighbour.is_some(),
        tls,
        http2: tls || server.h2c,
        proxy_protocol: server.proxy_protocol,
        body_limit: limits.body_bytes.is_some(),
        address_limit: limits.connections_per_address.is_some(),
        refreshes: config.oauth.grant == Grant::Code || config.service.is_some(),
        store: !matches!(config.store, store::Config::Cookie),
    }
}

fn upstreams(
    config: &Config,
    settings: &AppSettings,
    descriptors: &Arc<Descriptors>,
    broker: Broker,
) -> Result<Upstreams, Error> {
    let upstream = |app: &AppConfig| {
        let address = || OwnAddress::new(&app.upstream, &config.gateway.public.url);
        let own_address = (app.host == HostPolicy::App).then(address).flatten();
        let settings = AppSettings { config: app.clone(), own_address, ..settings.clone() };
        let client = app.client(descriptors.clone(), settings.metrics.upstream(Upstream::App).clone())?;
        Ok::<_, Error>(AppUpstream::new(client, Arc::new(settings)))
    };
    let others = config.upstreams.iter().map(upstream).collect::<Result<_, _>>()?;
    Ok(Upstreams::new(Arc::new(config.routes.clone()), upstream(&config.app)?, others, broker))
}

fn app_settings(config: &Config, identity: Arc<IdentityHeaders>, metrics: &Arc<Metrics>) -> AppSettings {
    AppSettings {
        config: config.app.clone(),
        own_address: None,
        identity,
        upgrade_idle: config.server.limits.upgrade_idle_timeout,
        // Without random bytes a chain of several upwardens may look like a loop; nothing else depends on it.
        via: Via::new(seal::random().map_or(0, u64::from_ne_bytes)),
        trusted_headers: config.gateway.public.trusted_headers.clone(),
        metrics: metrics.clone(),
    }
}
