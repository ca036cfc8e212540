//! Every metric, a function each; labels are enums, so no value from outside can become one.
//!
//! In: what happened. Out: Prometheus text. Handles are made once, so that counting costs an addition.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::outcomes::Label;
pub(crate) use super::outcomes::{Opened, PaceRefusal, Refreshed, Refusal, SignIn};
use super::{Door, RouteKind, Side};

const METADATA: Metadata<'static> = Metadata::new("upwarden", Level::INFO, None);
const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A label and its value.
type Pair = (&'static str, &'static str);

fn key(name: &'static str, labels: &[Pair]) -> Key {
    let labels: Vec<metrics::Label> = labels
        .iter()
        .map(|(name, value)| metrics::Label::new(SharedString::const_str(name), SharedString::const_str(value)))
        .collect();
    Key::from_parts(name, labels)
}

/// One counter for each value of a label, there from the start: what never happened reads 0, and a rate has a beginning.
#[derive(Debug)]
struct Counters<L>(Vec<(L, Counter)>);

impl<L: Label> Counters<L> {
    fn new(recorder: &PrometheusRecorder, name: &'static str, label: &'static str) -> Self {
        Self::beside(recorder, name, label, &[])
    }

    fn beside(recorder: &PrometheusRecorder, name: &'static str, label: &'static str, fixed: &[Pair]) -> Self {
        let counter = |value: &L| {
            let labels: Vec<Pair> = fixed.iter().copied().chain([(label, value.text())]).collect();
            (*value, recorder.register_counter(&key(name, &labels), &METADATA))
        };
        Self(L::ALL.iter().map(counter).collect())
    }

    /// A handful of values: looked through faster than hashed.
    fn count(&self, value: L) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == value) {
            counter.increment(1);
        }
    }
}

/// The handles. Cheap to clone behind an `Arc`; every function is an atomic addition.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    requests: Vec<Counter>,
    seconds: Vec<Histogram>,
    sign_ins: Counters<SignIn>,
    opened: Counters<Opened>,
    refreshes: Counters<Refreshed>,
    upstream_errors: Counters<Side>,
    pace_refused: Counters<PaceRefusal>,
    refused: Vec<(Door, Counters<Refusal>)>,
    connections: [Gauge; 2],
    upgrades: Gauge,
    pace_waits: Histogram,
    pace_quota_left: Gauge,
}

impl Metrics {
    /// A recorder of its own, not the process-wide one.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let requests = RouteKind::ALL
            .iter()
            .flat_map(|route| CLASSES.iter().map(|class| (route.as_str(), *class)))
            .map(|(route, class)| {
                recorder.register_counter(
                    &key("upwarden_requests_total", &[("route", route), ("status", class)]),
                    &METADATA,
                )
            })
            .collect();
        let seconds = RouteKind::ALL
            .iter()
            .map(|route| {
                recorder.register_histogram(
                    &key("upwarden_request_duration_seconds", &[("route", route.as_str())]),
                    &METADATA,
                )
            })
            .collect();
        let connections = [Door::Public, Door::Neighbour]
            .map(|door| recorder.register_gauge(&key("upwarden_connections", &[("door", door.as_str())]), &METADATA));
        let upgrades = recorder.register_gauge(&key("upwarden_upgrades", &[]), &METADATA);
        let pace_waits = recorder.register_histogram(&key("upwarden_pace_wait_seconds", &[]), &METADATA);
        let pace_quota_left = recorder.register_gauge(&key("upwarden_pace_quota_left", &[]), &METADATA);
        let build = key("upwarden_build_info", &[("version", env!("CARGO_PKG_VERSION"))]);
        recorder.register_gauge(&build, &METADATA).set(1.0);
        describe(&recorder);
        let refused = Door::ALL.iter().map(|door| {
            let at = [("door", door.as_str())];
            (*door, Counters::beside(&recorder, "upwarden_refused_total", "reason", &at))
        });
        Self {
            requests,
            seconds,
            sign_ins: Counters::new(&recorder, "upwarden_sign_ins_total", "outcome"),
            opened: Counters::new(&recorder, "upwarden_sessions_opened_total", "result"),
            refreshes: Counters::new(&recorder, "upwarden_refreshes_total", "outcome"),
            upstream_errors: Counters::new(&recorder, "upwarden_upstream_errors_total", "side"),
            pace_refused: Counters::new(&recorder, "upwarden_pace_refused_total", "reason"),
            refused: refused.collect(),
            connections,
            upgrades,
            pace_waits,
            pace_quota_left,
            recorder,
        }
    }

    /// What the admin door prints.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// A request was answered with `status` after `took`, until its head was sent.
    pub fn request(&self, route: RouteKind, status: u16, took: Duration) {
        let route = RouteKind::ALL.iter().position(|kind| *kind == route).unwrap_or(0);
        let class = usize::from(status / 100).min(CLASSES.len() - 1);
        if let Some(counter) = self.requests.get(route * CLASSES.len() + class) {
            counter.increment(1);
        }
        if let Some(histogram) = self.seconds.get(route) {
            histogram.record(took.as_secs_f64());
        }
    }

    /// A sign-in came to `outcome`.
    pub fn sign_in(&self, outcome: SignIn) {
        self.sign_ins.count(outcome);
    }

    /// The session cookies of a request came to `result`.
    pub fn session_opened(&self, result: Opened) {
        self.opened.count(result);
    }

    /// A refresh came to `outcome`.
    pub fn refreshed(&self, outcome: Refreshed) {
        self.refreshes.count(outcome);
    }

    /// An upstream could not be reached, was too slow, or answered nonsense.
    pub fn upstream_error(&self, side: Side) {
        self.upstream_errors.count(side);
    }

    /// The listener refused something at `door`.
    pub fn refused(&self, door: Door, refusal: Refusal) {
        if let Some((_, counters)) = self.refused.iter().find(|(known, _)| *known == door) {
            counters.count(refusal);
        }
    }

    /// The gauge of live connections of `door`.
    pub fn connections(&self, door: Door) -> &Gauge {
        let [public, neighbour] = &self.connections;
        match door {
            Door::Public => public,
            Door::Neighbour => neighbour,
        }
    }

    /// The gauge of live upgraded connections (WebSocket and others).
    pub fn upgrades(&self) -> &Gauge {
        &self.upgrades
    }

    /// A call to the API got its turn after `waited`.
    pub fn pace_waited(&self, waited: Duration) {
        self.pace_waits.record(waited.as_secs_f64());
    }

    /// A call to the API did not get its turn.
    pub fn pace_refused(&self, refusal: PaceRefusal) {
        self.pace_refused.count(refusal);
    }

    /// Calls to the API that are left of the UTC day.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; a day has far fewer than 2^53 calls")]
    pub fn pace_quota_left(&self, calls: u64) {
        self.pace_quota_left.set(calls as f64);
    }

    /// How long the service identity's refresh token lives on if it is not used; zero once it is dead.
    pub fn service_refresh_token_left(&self, left: Duration) {
        let gauge = key("upwarden_service_refresh_token_seconds_left", &[]);
        self.recorder.register_gauge(&gauge, &METADATA).set(left.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn describe(recorder: &PrometheusRecorder) {
    let counters = [
        ("upwarden_requests_total", "Requests answered, by route and status class."),
        ("upwarden_sign_ins_total", "Sign-ins, by outcome."),
        ("upwarden_sessions_opened_total", "Session cookies looked at, by result."),
        ("upwarden_refreshes_total", "Token refreshes, by outcome."),
        ("upwarden_upstream_errors_total", "Upstreams that failed, by side."),
        ("upwarden_pace_refused_total", "Calls that did not get their turn under Upwork's limits, by reason."),
        ("upwarden_refused_total", "What a door refused or ended by itself, by reason."),
    ];
    for (name, text) in counters {
        recorder.describe_counter(name.into(), None, text.into());
    }
    recorder.describe_histogram(
        "upwarden_request_duration_seconds".into(),
        Some(metrics::Unit::Seconds),
        "Time until the head of the answer, by route.".into(),
    );
    recorder.describe_histogram(
        "upwarden_pace_wait_seconds".into(),
        Some(metrics::Unit::Seconds),
        "Time that calls waited for their turn under Upwork's limits.".into(),
    );
    recorder.describe_gauge("upwarden_pace_quota_left".into(), None, "Calls to Upwork left today (UTC).".into());
    recorder.describe_gauge(
        "upwarden_service_refresh_token_seconds_left".into(),
        Some(metrics::Unit::Seconds),
        "How long the service identity's refresh token lives on unused; 0 once it is dead.".into(),
    );
    recorder.describe_gauge("upwarden_connections".into(), None, "Live connections, by door.".into());
    recorder.describe_gauge("upwarden_upgrades".into(), None, "Live upgraded connections.".into());
    recorder.describe_gauge("upwarden_build_info".into(), None, "Always 1; the labels tell the build.".into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_reads_zero_from_the_start() {
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
        for refusal in Refusal::ALL {
            metrics.refused(Door::Public, *refusal);
        }
        for outcome in SignIn::ALL {
            metrics.sign_in(*outcome);
        }
        let text = metrics.handle().render();
        let ones = |name: &str| text.lines().filter(|line| line.starts_with(name) && line.ends_with(" 1")).count();
        assert_eq!(ones("upwarden_refused_total{door=\"public\""), Refusal::ALL.len(), "{text}");
        assert_eq!(ones("upwarden_refused_total"), Refusal::ALL.len(), "{text}");
        assert_eq!(ones("upwarden_sign_ins_total"), SignIn::ALL.len(), "{text}");
    }

    #[test]
    fn what_was_counted_is_printed() {
        let metrics = Metrics::new();
        metrics.request(RouteKind::Api, 404, Duration::from_millis(3));
        metrics.sign_in(SignIn::Declined);
        let text = metrics.handle().render();
        assert!(text.contains("upwarden_requests_total{route=\"api\",status=\"4xx\"} 1"), "{text}");
        assert!(text.contains("upwarden_sign_ins_total{outcome=\"declined\"} 1"), "{text}");
        assert!(text.contains("upwarden_request_duration_seconds_bucket{route=\"api\",le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("upwarden_build_info{version="), "{text}");
    }
}
