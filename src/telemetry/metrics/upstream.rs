//! The metrics of one upstream: how long it takes, and the connections to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::registry::{Registry, lock};
use crate::telemetry::Upstream;

/// How many connections of a pool are idle; `None` once the pool is gone.
type Idle = Box<dyn Fn() -> Option<usize> + Send + Sync>;

pub(crate) struct UpstreamMetrics {
    seconds: Histogram,
    opened: Counter,
    open: AtomicUsize,
    pools: Mutex<Vec<Idle>>,
    idle: Gauge,
    in_use: Gauge,
}

impl std::fmt::Debug for UpstreamMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamMetrics").field("open", &self.open).finish_non_exhaustive()
    }
}

impl UpstreamMetrics {
    pub(super) fn new(registry: Registry<'_>, upstream: Upstream) -> Self {
        let seconds = "Time until the head of an upstream's answer, by upstream.";
        let connections = "Open connections to an upstream, by upstream and state.";
        let opened = "Connections opened to an upstream, by upstream.";
        let label = ("upstream", upstream.as_str());
        let gauge = |state| registry.gauge("upwarden_upstream_connections", connections, &[label, ("state", state)]);
        Self {
            seconds: registry.histogram("upwarden_upstream_duration_seconds", seconds, &[label]),
            opened: registry.counter("upwarden_upstream_connections_opened_total", opened, &[label]),
            open: AtomicUsize::new(0),
            pools: Mutex::default(),
            idle: gauge("idle"),
            in_use: gauge("in_use"),
        }
    }

    /// For an upstream that is not measured.
    pub(crate) fn uncounted() -> Arc<Self> {
        Arc::new(Self {
            seconds: Histogram::noop(),
            opened: Counter::noop(),
            open: AtomicUsize::new(0),
            pools: Mutex::default(),
            idle: Gauge::noop(),
            in_use: Gauge::noop(),
        })
    }

    /// The head of an answer arrived after `took`.
    pub(crate) fn answered(&self, took: Duration) {
        self.seconds.record(took.as_secs_f64());
    }

    /// A connection was opened; it is open until the value is dropped.
    pub(crate) fn opened(self: &Arc<Self>) -> OpenConnection {
        self.opened.increment(1);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// Counts the idle connections of one more pool.
    pub(crate) fn add_pool(&self, idle: impl Fn() -> Option<usize> + Send + Sync + 'static) {
        lock(&self.pools).push(Box::new(idle));
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; there are far fewer than 2^53 connections")]
    pub(super) fn observe(&self) {
        let mut idle = 0;
        lock(&self.pools).retain(|pool| pool().inspect(|count| idle += count).is_some());
        // Others may open and close in between.
        let open = self.open.load(Ordering::Relaxed).max(idle);
        self.idle.set(idle as f64);
        self.in_use.set((open - idle) as f64);
    }
}

#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<UpstreamMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
