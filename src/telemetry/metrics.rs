//! Every metric, with a function for each event.
//!
//! Labels are enums, so no value from outside can become one. Handles are made once: counting costs an addition. The admin
//! door prints the metrics as Prometheus text.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use strum::VariantArray;

pub use super::outcomes::PaceRefusal;
pub(crate) use super::outcomes::{CookieOutcome, RefreshOutcome, Refusal, SignInOutcome};
use super::{Door, RouteKind, Side};

const METADATA: Metadata<'static> = Metadata::new("upwarden", Level::INFO, None);
const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
const BUCKETS_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

type Pair = (&'static str, &'static str);

#[derive(Clone, Copy)]
struct Registry<'a>(&'a PrometheusRecorder);

impl Registry<'_> {
    fn counter(self, name: &'static str, help: &'static str, labels: &[Pair]) -> Counter {
        self.0.describe_counter(name.into(), None, help.into());
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    fn gauge(self, name: &'static str, help: &'static str, labels: &[Pair]) -> Gauge {
        self.0.describe_gauge(name.into(), unit(name), help.into());
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    fn histogram(self, name: &'static str, help: &'static str, labels: &[Pair]) -> Histogram {
        self.0.describe_histogram(name.into(), unit(name), help.into());
        self.0.register_histogram(&key(name, labels), &METADATA)
    }

    fn counters<L>(self, name: &'static str, help: &'static str, label: &'static str) -> Counters<L>
    where
        L: VariantArray + Into<&'static str> + Copy,
    {
        let counter = |value: &L| (*value, self.counter(name, help, &[(label, (*value).into())]));
        Counters(L::VARIANTS.iter().map(counter).collect())
    }
}

fn key(name: &'static str, labels: &[Pair]) -> Key {
    let label = |(name, value): &Pair| Label::new(SharedString::const_str(name), SharedString::const_str(value));
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

fn unit(name: &str) -> Option<Unit> {
    name.contains("_seconds").then_some(Unit::Seconds)
}

/// One counter for each value, there from the start: what never happened reads 0, and a rate has a beginning.
#[derive(Debug)]
struct Counters<L>(Vec<(L, Counter)>);

impl<L: Copy + PartialEq> Counters<L> {
    /// A few values are searched faster than hashed.
    fn count(&self, value: L) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == value) {
            counter.increment(1);
        }
    }
}

#[derive(Debug)]
struct RouteMetrics {
    kind: RouteKind,
    by_class: Vec<Counter>,
    seconds: Histogram,
}

/// The handles; share them in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    routes: Vec<RouteMetrics>,
    sign_ins: Counters<SignInOutcome>,
    opened: Counters<CookieOutcome>,
    refreshes: Counters<RefreshOutcome>,
    upstream_errors: Counters<Side>,
    pace_refused: Counters<PaceRefusal>,
    refused: Counters<(Door, Refusal)>,
    connections: [Gauge; 2],
    upgrades: Gauge,
    pace_waits: Histogram,
    pace_quota_left: Gauge,
}

impl Metrics {
    /// With a recorder of its own, not the process-wide one.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let registry = Registry(&recorder);
        let pace_refused = "Calls that did not get their turn under Upwork's limits, by reason.";
        let pace_waits = "Time that calls waited for their turn under Upwork's limits.";
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        registry.gauge("upwarden_build_info", "Always 1; the labels describe the build.", &build).set(1.0);
        Self {
            routes: RouteKind::VARIANTS.iter().map(|kind| route(registry, *kind)).collect(),
            sign_ins: registry.counters("upwarden_sign_ins_total", "Sign-ins, by outcome.", "outcome"),
            opened: registry.counters(
                "upwarden_sessions_opened_total",
                "Session cookies looked at, by result.",
                "result",
            ),
            refreshes: registry.counters("upwarden_refreshes_total", "Token refreshes, by outcome.", "outcome"),
            upstream_errors: upstream_errors(registry),
            pace_refused: registry.counters("upwarden_pace_refused_total", pace_refused, "reason"),
            refused: refused(registry),
            connections: [Door::Public, Door::Neighbour].map(|door| {
                registry.gauge("upwarden_connections", "Live connections, by door.", &[("door", door.as_str())])
            }),
            upgrades: registry.gauge("upwarden_upgrades", "Live upgraded connections.", &[]),
            pace_waits: registry.histogram("upwarden_pace_wait_seconds", pace_waits, &[]),
            pace_quota_left: registry.gauge("upwarden_pace_quota_left", "Calls to Upwork left today (UTC).", &[]),
            recorder,
        }
    }

    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// A request was answered with `status`; its head was sent after `took`.
    pub(crate) fn request(&self, route: RouteKind, status: u16, took: Duration) {
        let Some(route) = self.routes.iter().find(|known| known.kind == route) else { return };
        if let Some(counter) = route.by_class.get(usize::from(status / 100).min(CLASSES.len() - 1)) {
            counter.increment(1);
        }
        route.seconds.record(took.as_secs_f64());
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

    /// An upstream could not be reached, was too slow, or answered nonsense.
    pub(crate) fn upstream_error(&self, side: Side) {
        self.upstream_errors.count(side);
    }

    pub(crate) fn refused(&self, door: Door, refusal: Refusal) {
        self.refused.count((door, refusal));
    }

    pub(crate) fn connections(&self, door: Door) -> &Gauge {
        let [public, neighbour] = &self.connections;
        match door {
            Door::Public => public,
            Door::Neighbour => neighbour,
        }
    }

    /// Live upgraded connections (WebSocket and others).
    pub(crate) fn upgrades(&self) -> &Gauge {
        &self.upgrades
    }

    /// A call to the API got its turn after `waited`.
    pub(crate) fn pace_waited(&self, waited: Duration) {
        self.pace_waits.record(waited.as_secs_f64());
    }

    pub(crate) fn pace_refused(&self, refusal: PaceRefusal) {
        self.pace_refused.count(refusal);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; a day has far fewer than 2^53 calls")]
    pub(crate) fn pace_quota_left(&self, calls: u64) {
        self.pace_quota_left.set(calls as f64);
    }

    /// Zero once the service identity's refresh token is dead.
    pub(crate) fn service_refresh_token_left(&self, left: Duration) {
        let help = "How long the service identity's refresh token lives on unused; 0 once it is dead.";
        let gauge = Registry(&self.recorder).gauge("upwarden_service_refresh_token_seconds_left", help, &[]);
        gauge.set(left.as_secs_f64());
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
    let labels = |class| [("route", kind.as_str()), ("status", class)];
    let counter = |class: &&'static str| registry.counter("upwarden_requests_total", requests, &labels(class));
    RouteMetrics {
        kind,
        by_class: CLASSES.iter().map(counter).collect(),
        seconds: registry.histogram("upwarden_request_duration_seconds", seconds, &[("route", kind.as_str())]),
    }
}

fn upstream_errors(registry: Registry<'_>) -> Counters<Side> {
    let help = "Upstreams that failed, by side.";
    let counter =
        |side: Side| (side, registry.counter("upwarden_upstream_errors_total", help, &[("side", side.as_str())]));
    Counters([Side::App, Side::Upwork].map(counter).into())
}

fn refused(registry: Registry<'_>) -> Counters<(Door, Refusal)> {
    let help = "What a door refused or ended by itself, by reason.";
    let counter = |door: Door, refusal: Refusal| {
        let labels = [("door", door.as_str()), ("reason", refusal.into())];
        ((door, refusal), registry.counter("upwarden_refused_total", help, &labels))
    };
    let of_door = |door| Refusal::VARIANTS.iter().map(move |refusal| counter(door, *refusal));
    Counters([Door::Public, Door::Neighbour].into_iter().flat_map(of_door).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_starts_at_zero() {
        let text = Metrics::new().handle().render();
        for line in [
            "upwarden_requests_total{route=\"app\",status=\"5xx\"} 0",
            "upwarden_sign_ins_total{outcome=\"looping\"} 0",
            "upwarden_sessions_opened_total{result=\"unusable\"} 0",
            "upwarden_refreshes_total{outcome=\"revoked\"} 0",
            "upwarden_upstream_errors_total{side=\"upwork\"} 0",
            "upwarden_pace_refused_total{reason=\"day\"} 0",
            "upwarden_refused_total{door=\"neighbour\",reason=\"tls\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn each_value_is_counted_by_itself() {
        let metrics = Metrics::new();
        for refusal in Refusal::VARIANTS {
            metrics.refused(Door::Public, *refusal);
        }
        for outcome in SignInOutcome::VARIANTS {
            metrics.sign_in(*outcome);
        }
        let text = metrics.handle().render();
        let ones = |name: &str| text.lines().filter(|line| line.starts_with(name) && line.ends_with(" 1")).count();
        assert_eq!(ones("upwarden_refused_total{door=\"public\""), Refusal::VARIANTS.len(), "{text}");
        assert_eq!(ones("upwarden_refused_total"), Refusal::VARIANTS.len(), "{text}");
        assert_eq!(ones("upwarden_sign_ins_total"), SignInOutcome::VARIANTS.len(), "{text}");
    }

    #[test]
    fn counted_events_are_rendered() {
        let metrics = Metrics::new();
        metrics.request(RouteKind::Api, 404, Duration::from_millis(3));
        metrics.sign_in(SignInOutcome::Declined);
        let text = metrics.handle().render();
        assert!(text.contains("upwarden_requests_total{route=\"api\",status=\"4xx\"} 1"), "{text}");
        assert!(text.contains("upwarden_sign_ins_total{outcome=\"declined\"} 1"), "{text}");
        assert!(text.contains("upwarden_request_duration_seconds_bucket{route=\"api\",le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("upwarden_build_info{version="), "{text}");
    }
}
