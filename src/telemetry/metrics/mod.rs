//! Every metric, with a function for each event. docs/operations.md "Metrics" lists them.
//!
//! Labels are enums, so no value from outside can become one. Handles are created once, so counting costs one addition.
//! Values that can be queried are read when the admin door prints the metrics as Prometheus text. Series that could
//! never change are left out.

mod outcomes;
mod process;
mod registry;
mod scope;
#[cfg(test)]
mod tests;
mod upstream;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use strum::VariantArray;

pub use self::outcomes::PaceRefusal;
pub(crate) use self::outcomes::{CookieOutcome, RefreshOutcome, Refusal, SignInOutcome, StoreOperation};
use self::registry::{Counters, Registry, lock};
pub(crate) use self::scope::Scope;
pub(crate) use self::upstream::UpstreamMetrics;
use super::{Door, RouteKind, Side, Upstream};

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const BUCKETS_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What happened to spans.
#[derive(Clone, Debug)]
pub(crate) struct SpanCounters {
    pub(crate) exported: Counter,
    /// The queue was full.
    pub(crate) overflow: Counter,
    /// The collector did not accept them.
    pub(crate) undelivered: Counter,
}

#[derive(Debug)]
struct RouteMetrics {
    kind: RouteKind,
    by_class: [Counter; CLASSES.len()],
    seconds: Histogram,
}

#[derive(Debug)]
struct DoorMetrics {
    connections: Gauge,
    in_flight: Gauge,
}

#[derive(Debug)]
struct StoreMetrics {
    seconds: Vec<(StoreOperation, Histogram)>,
    errors: Counter,
}

/// A gauge whose value is held elsewhere and read when the metrics are printed.
#[derive(Clone, Copy, Debug, VariantArray)]
pub(crate) enum Observed {
    PaceQueue,
    PaceQuota,
    PaceQuotaLeft,
    RefreshesInFlight,
    StoreUp,
}

impl Observed {
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::PaceQueue => ("upwarden_pace_queue", "Calls waiting for their turn under Upwork's limits."),
            Self::PaceQuota => ("upwarden_pace_quota", "Calls to Upwork allowed in a day (UTC)."),
            Self::PaceQuotaLeft => ("upwarden_pace_quota_left", "Calls to Upwork left today (UTC)."),
            Self::RefreshesInFlight => ("upwarden_refreshes_in_flight", "Token refreshes in progress."),
            Self::StoreUp => ("upwarden_store_up", "Whether the session store answers and can be written: 1 or 0."),
        }
    }
}

/// Reads `None` once its owner is gone.
struct Observation(Gauge, Box<dyn Fn() -> Option<f64> + Send + Sync>);

impl std::fmt::Debug for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observation").field(&self.0).finish_non_exhaustive()
    }
}

/// The handles; share them in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    routes: Vec<RouteMetrics>,
    doors: [DoorMetrics; 2],
    sign_ins: Counters<SignInOutcome>,
    opened: Counters<CookieOutcome>,
    refreshes: Counters<RefreshOutcome>,
    upstream_errors: Counters<Side>,
    upstreams: [Arc<UpstreamMetrics>; 3],
    store: StoreMetrics,
    pace_refused: Counters<PaceRefusal>,
    refused: Counters<(Door, Refusal)>,
    upgrades: Gauge,
    pace_waits: Histogram,
    observed: Mutex<Vec<Observation>>,
}

impl Metrics {
    /// With every series.
    pub fn new() -> Self {
        Self::of(Scope::ALL)
    }

    /// With its own recorder instead of the process-wide one.
    pub(crate) fn of(scope: Scope) -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let registry = Registry(&recorder);
        let sessions = "Session cookies checked, by result.";
        let pace_refused = "Calls refused under Upwork's limits, by reason.";
        let pace_waits = "Time that calls waited for their turn under Upwork's limits.";
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        registry.gauge("upwarden_build_info", "Always 1; the labels describe the build.", &build).set(1.0);
        Self {
            routes: RouteKind::VARIANTS.iter().map(|kind| route(registry, *kind)).collect(),
            doors: [Door::Public, Door::Neighbour].map(|of| door(registry, of, scope)),
            sign_ins: registry.counters("upwarden_sign_ins_total", "Sign-ins, by outcome.", "outcome"),
            opened: registry.counters("upwarden_sessions_opened_total", sessions, "result"),
            refreshes: if scope.refreshes {
                registry.counters("upwarden_refreshes_total", "Token refreshes, by outcome.", "outcome")
            } else {
                Counters::default()
            },
            upstream_errors: upstream_errors(registry),
            upstreams: [Upstream::App, Upstream::Api, Upstream::Oauth]
                .map(|upstream| Arc::new(UpstreamMetrics::new(registry, upstream))),
            store: store(registry, scope),
            pace_refused: registry.counters("upwarden_pace_refused_total", pace_refused, "reason"),
            refused: refused(registry, scope),
            upgrades: registry.gauge("upwarden_upgrades", "Live upgraded connections.", &[]),
            pace_waits: registry.histogram("upwarden_pace_wait_seconds", pace_waits, &[]),
            observed: Mutex::default(),
            recorder,
        }
    }

    /// Everything, as Prometheus text (version 0.0.4).
    pub fn render(&self) -> String {
        for Observation(gauge, read) in &*lock(&self.observed) {
            if let Some(value) = read() {
                gauge.set(value);
            }
        }
        for upstream in &self.upstreams {
            upstream.observe();
        }
        let mut text = self.recorder.handle().render();
        process::render(&mut text);
        text
    }

    /// Processes the samples of histograms; call it periodically.
    pub(crate) fn run_upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// Exports a gauge that is read when the metrics are printed.
    pub(crate) fn observe(&self, observed: Observed, read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        let (name, help) = observed.described();
        let gauge = Registry(&self.recorder).gauge(name, help, &[]);
        lock(&self.observed).push(Observation(gauge, Box::new(read)));
    }

    /// A request was answered with `status`; its head was sent after `took`.
    pub(crate) fn request(&self, route: RouteKind, status: u16, took: Duration) {
        let Some(route) = self.routes.iter().find(|known| known.kind == route) else { return };
        // An app may answer with any three digits (RFC 9110 section 15): statuses above 599 count as 5xx.
        let class = usize::from(status / 100).clamp(1, CLASSES.len());
        if let Some(counter) = route.by_class.get(class - 1) {
            counter.increment(1);
        }
        route.seconds.record(took.as_secs_f64());
    }

    fn door(&self, door: Door) -> &DoorMetrics {
        let [public, neighbour] = &self.doors;
        match door {
            Door::Public => public,
            Door::Neighbour => neighbour,
        }
    }

    /// Requests whose response has not ended.
    pub(crate) fn in_flight(&self, door: Door) -> &Gauge {
        &self.door(door).in_flight
    }

    pub(crate) fn connections(&self, door: Door) -> &Gauge {
        &self.door(door).connections
    }

    pub(crate) fn upstream(&self, upstream: Upstream) -> &Arc<UpstreamMetrics> {
        let [app, api, oauth] = &self.upstreams;
        match upstream {
            Upstream::App => app,
            Upstream::Api => api,
            Upstream::Oauth => oauth,
        }
    }

    /// A store operation took `took`, and succeeded or failed.
    pub(crate) fn store(&self, operation: StoreOperation, took: Duration, failed: bool) {
        if let Some((_, seconds)) = self.store.seconds.iter().find(|(known, _)| *known == operation) {
            seconds.record(took.as_secs_f64());
        }
        if failed {
            self.store.errors.increment(1);
        }
    }

    pub(crate) fn sign_in(&self, outcome: SignInOutcome) {
        self.sign_ins.count(outcome);
    }

    pub(crate) fn session_opened(&self, result: CookieOutcome) {
        self.opened.count(result);
    }

    pub(crate) fn refreshed(&self, outcome: RefreshOutcome) {
        self.refreshes.count(outcome);
    }

    /// An upstream could not be reached, was too slow, or sent an invalid answer.
    pub(crate) fn upstream_error(&self, side: Side) {
        self.upstream_errors.count(side);
    }

    pub(crate) fn refused(&self, door: Door, refusal: Refusal) {
        self.refused.count((door, refusal));
    }

    /// Live upgraded connections (WebSocket and others).
    pub(crate) fn upgrades(&self) -> &Gauge {
        &self.upgrades
    }

    /// An API call waited for its turn for `waited`.
    pub(crate) fn pace_waited(&self, waited: Duration) {
        self.pace_waits.record(waited.as_secs_f64());
    }

    pub(crate) fn pace_refused(&self, refusal: PaceRefusal) {
        self.pace_refused.count(refusal);
    }

    pub(crate) fn spans(&self) -> SpanCounters {
        let registry = Registry(&self.recorder);
        let dropped = |reason| {
            registry.counter(
                "upwarden_spans_dropped_total",
                "Spans that were dropped, by reason.",
                &[("reason", reason)],
            )
        };
        SpanCounters {
            exported: registry.counter("upwarden_spans_exported_total", "Spans that the collector accepted.", &[]),
            overflow: dropped("overflow"),
            undelivered: dropped("undelivered"),
        }
    }

    /// Zero once the service identity's refresh token is dead.
    pub(crate) fn service_refresh_token_left(&self, left: Duration) {
        let help = "How long the service identity's refresh token would live if it were not used; 0 once it is dead.";
        let gauge = Registry(&self.recorder).gauge("upwarden_service_refresh_token_seconds_left", help, &[]);
        gauge.set(left.as_secs_f64());
    }

    /// When the first of the public door's certificates expires, in seconds since 1970.
    pub(crate) fn certificate_expiry(&self, seconds: u64) {
        let help = "When the first of the public door's certificates expires.";
        let gauge = Registry(&self.recorder).gauge("upwarden_certificate_expiry_timestamp_seconds", help, &[]);
        gauge.set(Duration::from_secs(seconds).as_secs_f64());
    }

    /// The configuration was read at `now`, in seconds since 1970, or could not be.
    pub(crate) fn reloaded(&self, now: i64, success: bool) {
        let registry = Registry(&self.recorder);
        let help = "Whether the configuration could be read when it last changed: 1 or 0.";
        registry.gauge("upwarden_config_last_reload_successful", help, &[]).set(f64::from(u8::from(success)));
        if success {
            let help = "When the configuration in force was read.";
            let gauge = registry.gauge("upwarden_config_last_reload_success_timestamp_seconds", help, &[]);
            gauge.set(Duration::from_secs(u64::try_from(now).unwrap_or(0)).as_secs_f64());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn route(registry: Registry<'_>, kind: RouteKind) -> RouteMetrics {
    let requests = "Requests answered, by route and status class.";
    let seconds = "Time until the head of the answer, by route.";
    let possible: &[&str] = match kind {
        // Only the app switches protocols.
        RouteKind::App => &CLASSES,
        RouteKind::Api | RouteKind::Graphql | RouteKind::Auth | RouteKind::Verify => &["2xx", "3xx", "4xx", "5xx"],
        RouteKind::None => &["4xx", "5xx"],
    };
    let counter = |class: &'static str| {
        let labels = [("route", kind.as_str()), ("status", class)];
        if possible.contains(&class) {
            registry.counter("upwarden_requests_total", requests, &labels)
        } else {
            Counter::noop()
        }
    };
    RouteMetrics {
        kind,
        by_class: CLASSES.map(counter),
        seconds: registry.histogram("upwarden_request_duration_seconds", seconds, &[("route", kind.as_str())]),
    }
}

fn door(registry: Registry<'_>, door: Door, scope: Scope) -> DoorMetrics {
    if !scope.has(door) {
        return DoorMetrics { connections: Gauge::noop(), in_flight: Gauge::noop() };
    }
    let in_flight = "Requests whose answer has not ended, by door.";
    let label = [("door", door.as_str())];
    DoorMetrics {
        connections: registry.gauge("upwarden_connections", "Live connections, by door.", &label),
        in_flight: registry.gauge("upwarden_requests_in_flight", in_flight, &label),
    }
}

fn store(registry: Registry<'_>, scope: Scope) -> StoreMetrics {
    if !scope.store {
        return StoreMetrics { seconds: Vec::new(), errors: Counter::noop() };
    }
    let help = "Time that the session store took, by operation.";
    let seconds = |operation: &StoreOperation| {
        let label = [("operation", (*operation).into())];
        (*operation, registry.histogram("upwarden_store_duration_seconds", help, &label))
    };
    let errors = "Operations of the session store that failed.";
    StoreMetrics {
        seconds: StoreOperation::VARIANTS.iter().map(seconds).collect(),
        errors: registry.counter("upwarden_store_errors_total", errors, &[]),
    }
}

fn upstream_errors(registry: Registry<'_>) -> Counters<Side> {
    let help = "Failures of upstreams, by side.";
    let counter =
        |side: Side| (side, registry.counter("upwarden_upstream_errors_total", help, &[("side", side.as_str())]));
    Counters([Side::App, Side::Upwork].map(counter).into())
}

fn refused(registry: Registry<'_>, scope: Scope) -> Counters<(Door, Refusal)> {
    let help = "Messages and connections that a door refused or ended, by reason.";
    let counter = |door: Door, refusal: Refusal| {
        let labels = [("door", door.as_str()), ("reason", refusal.into())];
        ((door, refusal), registry.counter("upwarden_refused_total", help, &labels))
    };
    let pairs = [Door::Public, Door::Neighbour]
        .into_iter()
        .flat_map(|door| Refusal::VARIANTS.iter().map(move |refusal| (door, *refusal)));
    Counters(pairs.filter(|(door, of)| scope.refuses(*door, *of)).map(|(door, of)| counter(door, of)).collect())
}
