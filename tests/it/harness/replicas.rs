//! The settings of a world's sidecars, and its further sidecars, which share them except for the ports.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use upwarden::config::{self, Sources};
use upwarden::sandbox;
use upwarden::server::{self, Doors};
use upwarden::testing::clock::ManualClock;
use upwarden::testing::listener::Bound;

use super::world::{Thread, listener, sidecar};
use super::{Client, Plan, World};

/// The API key that upwarden has at Upwork.
pub(super) const KEY: (&str, &str) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210");
/// Seals the sessions of every world, so that a cookie of one world opens in another.
pub(super) const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

pub(super) fn usual(public: SocketAddr, upwork: SocketAddr, app_url: &str) -> Vec<(String, String)> {
    let upwork = format!("http://{upwork}");
    let settings = [
        ("public_url", format!("http://{public}")),
        ("workers", "2".to_owned()),
        ("app.url", app_url.to_owned()),
        ("upwork.client_id", KEY.0.to_owned()),
        ("upwork.client_secret", KEY.1.to_owned()),
        ("upwork.authorize_url", format!("{upwork}{}", sandbox::AUTHORIZE_PATH)),
        ("upwork.token_url", format!("{upwork}{}", sandbox::TOKEN_PATH)),
        ("upwork.revoke_url", format!("{upwork}{}", sandbox::REVOKE_PATH)),
        ("upwork.graphql_url", format!("{upwork}{}", sandbox::GRAPHQL_PATH)),
        ("upwork.api_url", upwork),
        ("service.grant", "client_credentials".to_owned()),
        ("session.keys", SEAL.to_owned()),
        ("access.anyone", "true".to_owned()),
        ("pace.per_second", "100000".to_owned()),
        ("pace.per_minute", "10000000".to_owned()),
        ("drain.delay", "0s".to_owned()),
        ("drain.timeout", "5s".to_owned()),
    ];
    settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The usual settings, overridden by the test's own. An empty value removes a setting.
pub(super) fn over(usual: Vec<(String, String)>, own: Vec<(String, String)>) -> Vec<String> {
    let said: Vec<String> = own.iter().map(|(key, _)| key.clone()).collect();
    let kept = usual.into_iter().filter(|(key, _)| !said.contains(key));
    kept.chain(own).filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}={value}")).collect()
}

/// The doors of these listeners, and the public door's path, where it is a Unix socket instead.
pub(super) fn doors(sources: &Sources, listeners: [TcpListener; 3]) -> (Option<PathBuf>, Doors) {
    let [public, neighbour, admin] = listeners.map(Bound::from);
    let Some(path) = sources.sets.iter().find_map(|set| set.strip_prefix("public.listen=unix:")) else {
        return (None, Doors { public, neighbour: Some(neighbour), admin });
    };
    let config = config::load(sources).unwrap_or_else(|problems| panic!("{problems}"));
    (Some(path.into()), server::bind(&config, vec![neighbour, admin]).unwrap())
}

/// One more sidecar with the same configuration and its own ports.
pub(super) fn replica(sources: &Sources, clock: Arc<ManualClock>) -> (SocketAddr, Thread) {
    let (public, admin) = (listener(), listener());
    let at = |listener: &std::net::TcpListener| listener.local_addr().unwrap().to_string();
    let own = [("public.listen=", at(&public)), ("neighbour.listen=", String::new()), ("admin.listen=", at(&admin))];
    let mut sets = sources.sets.clone();
    sets.retain(|line| !own.iter().any(|(key, _)| line.starts_with(key)));
    sets.extend(own.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}{value}")));
    let address = public.local_addr().unwrap();
    let doors = Doors { public: Bound::from(public), neighbour: None, admin: Bound::from(admin) };
    (address, sidecar(Sources { sets, ..sources.clone() }, doors, clock))
}

impl Plan {
    /// With this many sidecars, which share the configuration except for the ports ([`World::replica`]).
    pub(crate) fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// With the clocks of all sidecars but the first this many seconds ahead, or behind if negative.
    pub(crate) fn replica_ahead(mut self, ahead: i64) -> Self {
        self.replica_ahead = ahead;
        self
    }

    /// With Upwork's clock this many seconds ahead of ours, or behind if negative.
    pub(crate) fn upwork_ahead(mut self, ahead: i64) -> Self {
        self.ahead = ahead;
        self
    }
}

impl World {
    /// The same browser, whose next requests go to this replica, as a load balancer would send them.
    pub(crate) fn replica(&self, client: &Client, number: usize) -> Client {
        client.through(self.others[number])
    }

    /// Turns Upwork's clock alone, if the plan gave it one of its own.
    pub(crate) fn turn_upwork(&self, by: Duration) {
        assert!(!Arc::ptr_eq(&self.clock, &self.upwork_clock), "Upwork has no clock of its own");
        self.upwork_clock.advance(by);
    }

    /// Where a replica listens; the first is the world's own.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        self.others[number]
    }

    /// Where the app listens.
    pub(crate) fn app_address(&self) -> SocketAddr {
        self.app_address
    }

    /// The settings of one more replica as another process, as `--set` takes them.
    pub(crate) fn settings(&self) -> &[String] {
        &self.settings
    }
}
