//! The admin door: liveness, readiness, metrics, and a drain that only loopback can request. Also the health check for
//! load balancers at the public door.
//!
//! Its texts are short and contain nothing secret. It never calls the app or Upwork, because the app's start may depend
//! on ours.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::watch;

use crate::body::{self, Body, WithField};
use crate::recent::lock;
use crate::telemetry::metrics::Metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Not ready, but the doors still serve for the drain delay.
    DrainDelay,
    /// Only requests in flight are finished.
    Draining,
}

/// What `/readyz` reports. The phase only ever advances.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    phase: Arc<watch::Sender<Phase>>,
    store_error: Arc<Mutex<Option<&'static str>>>,
    note: Arc<Mutex<Option<String>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), store_error: Arc::default(), note: Arc::default() }
    }
}

impl Readiness {
    /// Advances to `phase`, never back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Waits for `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Why the session store cannot be used; `None` if it can.
    pub(crate) fn set_store_error(&self, error: Option<&'static str>) {
        *lock(&self.store_error) = error;
    }

    pub(crate) fn has_store(&self) -> bool {
        lock(&self.store_error).is_none()
    }

    /// Sets a line that is worth knowing but does not affect readiness.
    pub(crate) fn set_note(&self, note: Option<String>) {
        *lock(&self.note) = note;
    }

    fn report(&self) -> (StatusCode, String) {
        let error = match *self.phase.borrow() {
            Phase::Serving => *lock(&self.store_error),
            Phase::DrainDelay | Phase::Draining => Some("draining"),
        };
        let (status, mut text) = match error {
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}")),
            None => (StatusCode::OK, "ready".to_owned()),
        };
        if let Some(note) = &*lock(&self.note) {
            text = format!("{text}\n{note}");
        }
        (status, text)
    }
}

/// The handler of the admin door.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    drain: watch::Sender<bool>,
}

impl Admin {
    /// `drain` is set when a drain is requested.
    pub(crate) fn new(readiness: Readiness, metrics: Arc<Metrics>, drain: watch::Sender<bool>) -> Self {
        Self { readiness, metrics, drain }
    }

    pub(crate) async fn handle(self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (request.uri().path(), request.method()) {
            ("/livez", _) if read => text(StatusCode::OK, "alive"),
            ("/readyz", _) if read => {
                let (status, body) = self.readiness.report();
                text(status, &body)
            }
            ("/metrics", _) if read => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                text(StatusCode::OK, self.metrics.render().trim_end()).with(CONTENT_TYPE, kind)
            }
            ("/drain", &Method::POST) if is_from_a_page(request.headers()) => {
                text(StatusCode::FORBIDDEN, "a web page cannot request the drain; use `upwarden drain`")
            }
            ("/drain", &Method::POST) if peer.ip().to_canonical().is_loopback() => {
                self.drain.send_replace(true);
                self.readiness.reached(Phase::Draining).await;
                text(StatusCode::OK, "the drain delay is over; requests in flight are being finished")
            }
            ("/drain", &Method::POST) => text(
                StatusCode::FORBIDDEN,
                "drain is accepted from loopback only; run `upwarden drain` on this machine",
            ),
            ("/livez" | "/readyz" | "/metrics", _) => not_allowed("GET, HEAD"),
            ("/drain", _) => not_allowed("POST"),
            _ => text(
                StatusCode::NOT_FOUND,
                "the admin door serves /livez, /readyz and /metrics, and accepts POST /drain",
            ),
        }
    }
}

/// Answers health checks at the public door (`public.health_path`), with the status of `/readyz` and no reason.
#[derive(Clone, Debug)]
pub(crate) struct HealthCheck {
    path: String,
    readiness: Readiness,
}

impl HealthCheck {
    pub(crate) fn new(path: String, readiness: Readiness) -> Self {
        Self { path, readiness }
    }

    /// The answer to a health check; `None` for any other request.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let asked = matches!(*method, Method::GET | Method::HEAD) && path == self.path;
        asked.then(|| match self.readiness.report().0 {
            StatusCode::OK => text(StatusCode::OK, "ready"),
            status => text(status, "not ready"),
        })
    }
}

/// Whether a web page sent the request: browsers send the origin of a POST (Fetch standard), and none of our pages
/// posts here, so it would be a foreign page. `upwarden drain` and curl send neither field.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

fn not_allowed(allow: &'static str) -> Response<Body> {
    text(StatusCode::METHOD_NOT_ALLOWED, &format!("this path accepts only {allow}")).with(ALLOW, allow)
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    body::response(status, "text/plain; charset=utf-8", format!("{body}\n")).with(CACHE_CONTROL, "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(admin: &Admin, method: &str, path: &str, peer: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = admin.clone().handle(request, peer.parse().unwrap()).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect(1 << 20).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_drops_and_never_returns() {
        let (readiness, drain) = (Readiness::default(), watch::Sender::new(false));
        let admin = Admin::new(readiness.clone(), Arc::default(), drain.clone());
        let local = "127.0.0.1:5";
        assert_eq!(ask(&admin, "GET", "/readyz", local).await, (200, "ready\n".to_owned()));
        readiness.set_store_error(Some("the store is away"));
        assert_eq!(ask(&admin, "GET", "/readyz", local).await.0, 503);
        readiness.set_store_error(None);
        readiness.set_note(Some("service identity: dead".to_owned()));
        assert_eq!(ask(&admin, "GET", "/readyz", local).await, (200, "ready\nservice identity: dead\n".to_owned()));
        readiness.enter(Phase::Draining);
        readiness.enter(Phase::Serving);
        assert_eq!(ask(&admin, "GET", "/readyz", local).await.0, 503);
        assert_eq!(ask(&admin, "GET", "/livez", local).await.0, 200);
    }

    #[test]
    fn a_health_check_gets_the_status_without_a_reason() {
        let readiness = Readiness::default();
        let check = HealthCheck::new("/healthz".to_owned(), readiness.clone());
        let ask = |method: &str, target: &str| {
            let request = Request::builder().method(method).uri(target).body(Body::empty()).unwrap();
            check.answer(request.method(), request.uri().path()).map(|response| response.status().as_u16())
        };
        readiness.set_note(Some("service identity: dead".to_owned()));
        assert_eq!((ask("GET", "/healthz"), ask("HEAD", "/healthz?from=lb")), (Some(200), Some(200)));
        for (method, target) in [("POST", "/healthz"), ("GET", "/healthz/"), ("GET", "/"), ("GET", "/HEALTHZ")] {
            assert_eq!(ask(method, target), None, "{method} {target}");
        }
        readiness.set_store_error(Some("the store is away"));
        assert_eq!(ask("GET", "/healthz"), Some(503));
        readiness.set_store_error(None);
        readiness.enter(Phase::DrainDelay);
        assert_eq!(ask("GET", "/healthz"), Some(503));
    }

    #[tokio::test]
    async fn only_loopback_can_request_the_drain() {
        let (readiness, drain) = (Readiness::default(), watch::Sender::new(false));
        let admin = Admin::new(readiness.clone(), Arc::default(), drain.clone());
        assert_eq!(ask(&admin, "POST", "/drain", "192.0.2.1:5").await.0, 403);
        assert!(!*drain.borrow());
        assert_eq!(ask(&admin, "GET", "/drain", "127.0.0.1:5").await.0, 405);
        readiness.enter(Phase::Draining);
        assert_eq!(ask(&admin, "POST", "/drain", "127.0.0.1:5").await.0, 200);
        assert!(*drain.borrow());
        assert_eq!(ask(&admin, "GET", "/", "127.0.0.1:5").await.0, 404);
    }

    #[tokio::test]
    async fn a_web_page_cannot_request_the_drain() {
        let (readiness, drain) = (Readiness::default(), watch::Sender::new(false));
        let admin = Admin::new(readiness.clone(), Arc::default(), drain.clone());
        readiness.enter(Phase::Draining);
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
