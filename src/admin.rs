//! The admin door: alive, ready, metrics; and a drain that only loopback may ask for.
//!
//! In: plain requests of the kubelet, of Prometheus, of `upwarden health` and `upwarden drain`. Out: short texts, nothing
//! secret. It never asks the app or Upwork: the app's start may wait for ours.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::body::Body;
use crate::recent::lock;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Doors are open.
    Serving,
    /// Readiness has dropped, doors still serve.
    Leaving,
    /// The delay is over; what is in flight is finished.
    Draining,
}

/// Readiness as a latch that only ever drops, and what else `/readyz` has to say.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    phase: Arc<watch::Sender<Phase>>,
    store_down: Arc<Mutex<Option<String>>>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Default for Life {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), store_down: Arc::default(), notes: Arc::default() }
    }
}

impl Life {
    /// Goes on to `phase`, never back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Ends when `phase` has come.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives as long as this does, so there is no error to meet.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// The session store cannot be reached, or can again.
    pub(crate) fn store(&self, down: Option<String>) {
        *lock(&self.store_down) = down;
    }

    /// What is worth knowing and makes nothing less ready; replaces what was said before.
    pub(crate) fn note(&self, notes: Vec<String>) {
        *lock(&self.notes) = notes;
    }

    fn readiness(&self) -> (StatusCode, String) {
        let phase = *self.phase.borrow();
        let down = lock(&self.store_down).clone();
        let (status, first) = match (phase, down) {
            (Phase::Leaving | Phase::Draining, _) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready: draining".to_owned())
            }
            (Phase::Serving, Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}")),
            (Phase::Serving, None) => (StatusCode::OK, "ready".to_owned()),
        };
        let notes = lock(&self.notes);
        let lines: Vec<&str> = std::iter::once(first.as_str()).chain(notes.iter().map(String::as_str)).collect();
        (status, lines.join("\n"))
    }
}

/// The admin door.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    life: Life,
    metrics: Arc<PrometheusHandle>,
    drain: watch::Sender<bool>,
}

impl Admin {
    /// `drain` is set when somebody on loopback asks for it.
    pub(crate) fn new(life: Life, metrics: PrometheusHandle, drain: watch::Sender<bool>) -> Self {
        Self { life, metrics: Arc::new(metrics), drain }
    }

    /// Answers one request.
    pub(crate) async fn handle(self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (request.uri().path(), request.method()) {
            ("/livez", _) if read => text(StatusCode::OK, "alive"),
            ("/readyz", _) if read => {
                let (status, body) = self.life.readiness();
                text(status, &body)
            }
            ("/metrics", _) if read => {
                let mut response = text(StatusCode::OK, self.metrics.render().trim_end());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            ("/drain", &Method::POST) if is_a_pages(request.headers()) => {
                text(StatusCode::FORBIDDEN, "a page in a browser may not ask for the drain; `upwarden drain` may")
            }
            ("/drain", &Method::POST) if peer.ip().to_canonical().is_loopback() => {
                self.drain.send_replace(true);
                self.life.reached(Phase::Draining).await;
                text(StatusCode::OK, "drained: the delay is over, what is in flight is finished now")
            }
            ("/drain", &Method::POST) => text(
                StatusCode::FORBIDDEN,
                "drain may be asked for from loopback only; run `upwarden drain` beside the process",
            ),
            ("/livez" | "/readyz" | "/metrics", _) => not_allowed("GET, HEAD"),
            ("/drain", _) => not_allowed("POST"),
            _ => text(StatusCode::NOT_FOUND, "the admin door has /livez, /readyz, /metrics and, by POST, /drain"),
        }
    }
}

/// A browser says where a POST comes from (Fetch standard), and no page of ours asks here: whoever says so is another's page,
/// on the same machine as the operator who reads it. `upwarden drain` and curl say nothing.
fn is_a_pages(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("this address takes {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    async fn ask(admin: &Admin, method: &str, path: &str, peer: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = admin.clone().handle(request, peer.parse().unwrap()).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect(1 << 20).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_drops_and_never_comes_back() {
        let (life, drain) = (Life::default(), watch::Sender::new(false));
        let admin = Admin::new(life.clone(), Metrics::new().handle(), drain.clone());
        let local = "127.0.0.1:5";
        assert_eq!(ask(&admin, "GET", "/readyz", local).await, (200, "ready\n".to_owned()));
        life.store(Some("the store is away".to_owned()));
        assert_eq!(ask(&admin, "GET", "/readyz", local).await.0, 503);
        life.store(None);
        life.note(vec!["service identity: dead".to_owned()]);
        assert_eq!(ask(&admin, "GET", "/readyz", local).await, (200, "ready\nservice identity: dead\n".to_owned()));
        life.enter(Phase::Draining);
        life.enter(Phase::Serving);
        assert_eq!(ask(&admin, "GET", "/readyz", local).await.0, 503);
        assert_eq!(ask(&admin, "GET", "/livez", local).await.0, 200);
    }

    #[tokio::test]
    async fn only_loopback_may_ask_for_the_drain() {
        let (life, drain) = (Life::default(), watch::Sender::new(false));
        let admin = Admin::new(life.clone(), Metrics::new().handle(), drain.clone());
        assert_eq!(ask(&admin, "POST", "/drain", "192.0.2.1:5").await.0, 403);
        assert!(!*drain.borrow());
        assert_eq!(ask(&admin, "GET", "/drain", "127.0.0.1:5").await.0, 405);
        life.enter(Phase::Draining);
        assert_eq!(ask(&admin, "POST", "/drain", "127.0.0.1:5").await.0, 200);
        assert!(*drain.borrow());
        assert_eq!(ask(&admin, "GET", "/", "127.0.0.1:5").await.0, 404);
    }

    #[tokio::test]
    async fn a_page_in_a_browser_may_not_ask_for_the_drain() {
        let (life, drain) = (Life::default(), watch::Sender::new(false));
        let admin = Admin::new(life.clone(), Metrics::new().handle(), drain.clone());
        life.enter(Phase::Draining);
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-origin"),
        ] {
            let request = Request::post("/drain").header(name, value).body(Body::empty()).unwrap();
            let response = admin.clone().handle(request, "127.0.0.1:5".parse().unwrap()).await;
            assert_eq!(response.status(), 403, "{name}: {value}");
        }
        assert!(!*drain.borrow());
    }
}
