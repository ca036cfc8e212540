//! The listener alone, with the test's own handler behind it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::{self, DoorSpec, Drain, IncomingRequest, Limits, Peer, Rejection};
use upwarden::testing::telemetry;
use upwarden::testing::telemetry::Metrics;

use super::{PATIENCE, Raw, within};

/// A door that is not open yet.
pub(crate) struct Door {
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) h2c: bool,
    pub(crate) workers: usize,
    pub(crate) drain: Duration,
}

/// An open door.
pub(crate) struct OpenDoor {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) drain: CancellationToken,
    pub(crate) running: JoinHandle<io::Result<()>>,
    _tls: Option<watch::Sender<Arc<rustls::ServerConfig>>>,
}

impl Default for Door {
    fn default() -> Self {
        Self { limits: Limits::default(), tls: None, h2c: false, workers: 1, drain: PATIENCE }
    }
}

impl Door {
    pub(crate) fn open<H, F>(self, handler: H) -> OpenDoor
    where
        H: Fn(Request<Body>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let bound = listener::bind(&listener::Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = bound.local_addr().unwrap();
        let (sender, tls) = self.tls.map(watch::channel).unzip();
        let spec = DoorSpec {
            door: telemetry::Door::Public,
            bound,
            tls,
            h2c: self.h2c,
            proxy_protocol: false,
            limits: self.limits,
            exempt: Vec::new(),
            descriptors: upwarden::testing::descriptors::Descriptors::new(None),
        };
        let (metrics, drain) = (Arc::new(Metrics::new()), CancellationToken::new());
        let closing = Drain { token: drain.clone(), neighbour: CancellationToken::new(), timeout: self.drain };
        let handler = move |incoming, peer| Box::pin(handler(in_extensions(incoming), peer).map(Into::into));
        let running = listener::run(vec![spec], self.workers, move || handler.clone(), metrics.clone(), closing);
        OpenDoor { address, metrics, drain, running: tokio::spawn(running), _tls: sender }
    }
}

impl OpenDoor {
    pub(crate) async fn connect(&self) -> Raw {
        Raw::to(self.address).await
    }

    pub(crate) async fn talk(&self, bytes: impl AsRef<[u8]>) -> String {
        super::talk(self.address, bytes).await
    }

    /// Waits until the metrics have this line.
    pub(crate) async fn counted(&self, line: &str) {
        let all = || self.metrics.render();
        let counting = async {
            while !all().lines().any(|counted| counted == line) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, counting).await.is_ok(), "{line} in {}", all());
    }

    /// Drains. Any error fails the test.
    pub(crate) async fn close(self) {
        self.drain.cancel();
        within(self.running).await.unwrap().unwrap();
    }
}

/// The request alone, with the other parts in its extensions.
pub(crate) fn in_extensions(incoming: IncomingRequest) -> Request<Body> {
    let IncomingRequest { head, body, exchange, refused } = incoming;
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (head.method, head.uri, head.version);
    let lines = head.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    request.headers_mut().extend(lines);
    if let Some(exchange) = exchange {
        request.extensions_mut().insert(exchange);
    }
    if let Some(refused) = refused {
        request.extensions_mut().insert(refused);
    }
    request
}

/// Answers with the request's method, target and body, or with the reason of its refusal.
pub(crate) async fn echo(request: Request<Body>, _peer: Arc<Peer>) -> Response<Body> {
    if let Some(refused) = request.extensions().get::<Rejection>() {
        let mut response = Response::new(Body::full(refused.reason));
        *response.status_mut() = refused.status;
        return response;
    }
    let (parts, body) = request.into_parts();
    match body.collect(1 << 20).await {
        Ok(bytes) => {
            let body = String::from_utf8_lossy(&bytes);
            Response::new(Body::full(format!("{} {} [{body}]", parts.method, parts.uri)))
        }
        Err(error) => {
            let refused = Rejection::of(&error);
            let mut response = Response::new(Body::full(refused.map_or("unknown", |refused| refused.reason)));
            *response.status_mut() = refused.map_or(http::StatusCode::BAD_GATEWAY, |refused| refused.status);
            response
        }
    }
}
