//! Every metric, a function each; labels are enums, so no value from outside can become one.
//!
//! In: what happened. Out: Prometheus text. Handles are made once, so that counting costs an addition.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::{Door, RouteKind, Side};

const METADATA: Metadata<'static> = Metadata::new("upwarden", Level::INFO, None);
const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// How a sign-in went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// A browser was sent to Upwork.
    Started,
    /// A session was made.
    Completed,
    /// The person declined.
    Declined,
    /// The state was missing, stale or not ours.
    BadState,
    /// The access rules said no.
    Refused,
    /// Upwork could not be asked, or answered nonsense.
    Failed,
    /// Too many in a row: stopped at a page.
    Looping,
}

/// What became of the session cookies of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A live session.
    Live,
    /// A session sealed by an older key.
    Resealed,
    /// No cookie of ours at all.
    None,
    /// A cookie of ours that did not open: bad, old, foreign or expired.
    Unusable,
}

/// How a refresh went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// New tokens.
    Renewed,
    /// `invalid_grant`: the grant is over.
    Revoked,
    /// Our client was refused: a fault of the configuration.
    Misconfigured,
    /// No usable answer.
    Unavailable,
}

/// Why the listener refused or ended something before a handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A message with more than one reading, or none.
    BadMessage,
    /// A head over its limit of bytes or fields.
    HeadTooLarge,
    /// A head that took too long.
    HeadTimeout,
    /// A body over its limit.
    BodyTooLarge,
    /// A body of which nothing came for too long.
    BodyTimeout,
    /// An answer of which the client takes nothing for too long.
    AnswerTimeout,
    /// Too many connections in all.
    Connections,
    /// Too many connections of one address.
    ConnectionsPerAddress,
    /// A TLS handshake that failed.
    Tls,
    /// An HTTP/2 connection that aborted too many of its requests.
    Http2Abuse,
    /// Accepting failed: file descriptors, mostly.
    Accept,
}

/// Why a call to the API did not get its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaceRefusal {
    /// Its turn would have come too late.
    Busy,
    /// Upwork wants a pause.
    Held,
    /// The day's budget is used up.
    Day,
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels: Vec<Label> = labels
        .iter()
        .map(|(name, value)| Label::new(SharedString::const_str(name), SharedString::const_str(value)))
        .collect();
    Key::from_parts(name, labels)
}

/// The handles. Cheap to clone behind an `Arc`; every function is an atomic addition.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    requests: Vec<Counter>,
    seconds: Vec<Histogram>,
    connections: [Gauge; 3],
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
        let connections = [Door::Public, Door::Neighbour, Door::Admin]
            .map(|door| recorder.register_gauge(&key("upwarden_connections", &[("door", door.as_str())]), &METADATA));
        let upgrades = recorder.register_gauge(&key("upwarden_upgrades", &[]), &METADATA);
        let pace_waits = recorder.register_histogram(&key("upwarden_pace_wait_seconds", &[]), &METADATA);
        let pace_quota_left = recorder.register_gauge(&key("upwarden_pace_quota_left", &[]), &METADATA);
        let build = key("upwarden_build_info", &[("version", env!("CARGO_PKG_VERSION"))]);
        recorder.register_gauge(&build, &METADATA).set(1.0);
        describe(&recorder);
        Self { recorder, requests, seconds, connections, upgrades, pace_waits, pace_quota_left }
    }

    /// What the admin door prints.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    fn count(&self, name: &'static str, labels: &[(&'static str, &'static str)]) {
        self.recorder.register_counter(&key(name, labels), &METADATA).increment(1);
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
        let outcome = match outcome {
            SignIn::Started => "started",
            SignIn::Completed => "completed",
            SignIn::Declined => "declined",
            SignIn::BadState => "bad_state",
            SignIn::Refused => "refused",
            SignIn::Failed => "failed",
            SignIn::Looping => "looping",
        };
        self.count("upwarden_sign_ins_total", &[("outcome", outcome)]);
    }

    /// The session cookies of a request came to `result`.
    pub fn session_opened(&self, result: Opened) {
        let result = match result {
            Opened::Live => "live",
            Opened::Resealed => "resealed",
            Opened::None => "none",
            Opened::Unusable => "unusable",
        };
        self.count("upwarden_sessions_opened_total", &[("result", result)]);
    }

    /// A refresh came to `outcome`.
    pub fn refreshed(&self, outcome: Refreshed) {
        let outcome = match outcome {
            Refreshed::Renewed => "renewed",
            Refreshed::Revoked => "revoked",
            Refreshed::Misconfigured => "misconfigured",
            Refreshed::Unavailable => "unavailable",
        };
        self.count("upwarden_refreshes_total", &[("outcome", outcome)]);
    }

    /// An upstream could not be reached, was too slow, or answered nonsense.
    pub fn upstream_error(&self, side: Side) {
        self.count("upwarden_upstream_errors_total", &[("side", side.as_str())]);
    }

    /// The listener refused something at `door`.
    pub fn refused(&self, door: Door, refusal: Refusal) {
        let reason = match refusal {
            Refusal::BadMessage => "bad_message",
            Refusal::HeadTooLarge => "head_too_large",
            Refusal::HeadTimeout => "head_timeout",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::BodyTimeout => "body_timeout",
            Refusal::AnswerTimeout => "answer_timeout",
            Refusal::Connections => "connections",
            Refusal::ConnectionsPerAddress => "connections_per_address",
            Refusal::Tls => "tls",
            Refusal::Http2Abuse => "http2_abuse",
            Refusal::Accept => "accept",
        };
        self.count("upwarden_refused_total", &[("door", door.as_str()), ("reason", reason)]);
    }

    /// The gauge of live connections of `door`.
    pub fn connections(&self, door: Door) -> &Gauge {
        let [public, neighbour, admin] = &self.connections;
        match door {
            Door::Public => public,
            Door::Neighbour => neighbour,
            Door::Admin => admin,
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
        let reason = match refusal {
            PaceRefusal::Busy => "busy",
            PaceRefusal::Held => "held",
            PaceRefusal::Day => "day",
        };
        self.count("upwarden_pace_refused_total", &[("reason", reason)]);
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
