//! A door opened for a test: a handler, a port of the system's choice, and a drain.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::{self, DoorSpec, Drain, Limits, Peer, Refused};
use upwarden::testing::telemetry;
use upwarden::testing::telemetry::metrics::Metrics;

/// No wait of a test is longer.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// What a door is to be.
pub(crate) struct Door {
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) h2c: bool,
    pub(crate) workers: usize,
    pub(crate) drain: Duration,
}

/// A door that is open.
pub(crate) struct Opened {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) drain: CancellationToken,
    pub(crate) running: JoinHandle<io::Result<()>>,
    _tls: Option<watch::Sender<Arc<rustls::ServerConfig>>>,
}

impl Default for Door {
    fn default() -> Self {
        Self { limits: Limits::default(), tls: None, h2c: false, workers: 1, drain: BOUND }
    }
}

impl Door {
    pub(crate) fn open<H, F>(self, handler: H) -> Opened
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
            limits: self.limits,
            exempt: Vec::new(),
            descriptors: upwarden::testing::descriptors::Descriptors::new(None),
        };
        let (metrics, drain) = (Arc::new(Metrics::new()), CancellationToken::new());
        let closing = Drain { token: drain.clone(), timeout: self.drain };
        let running = listener::run(vec![spec], self.workers, move || handler.clone(), metrics.clone(), closing);
        Opened { address, metrics, drain, running: tokio::spawn(running), _tls: sender }
    }
}

impl Opened {
    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends all of it at once, closes its half only where `close` says so, and reads to the end.
    pub(crate) async fn talk(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// Until the metrics say this line.
    pub(crate) async fn counted(&self, line: &str) {
        let all = || self.metrics.handle().render();
        let counting = async {
            while !all().lines().any(|counted| counted == line) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(BOUND, counting).await.is_ok(), "{line} in {}", all());
    }

    /// Drains, and fails where something went wrong.
    pub(crate) async fn close(self) {
        self.drain.cancel();
        within(self.running).await.unwrap().unwrap();
    }
}

/// A client on a raw socket.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut answer = Vec::new();
        within(self.0.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Reads until `end` was read.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut answer = String::new();
        while !answer.contains(end) {
            let mut space = [0; 4096];
            let count = within(self.0.read(&mut space)).await.unwrap();
            assert_ne!(count, 0, "ended after {answer:?} without {end:?}");
            answer.push_str(std::str::from_utf8(&space[..count]).unwrap());
        }
        answer
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("within the bound")
}

/// Answers with what was asked: method, target, body; or the refusal.
pub(crate) async fn echo(request: Request<Body>, _peer: Arc<Peer>) -> Response<Body> {
    if let Some(refused) = request.extensions().get::<Refused>() {
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
            let refused = Refused::of(&error);
            let mut response = Response::new(Body::full(refused.map_or("unknown", |refused| refused.reason)));
            *response.status_mut() = refused.map_or(http::StatusCode::BAD_GATEWAY, |refused| refused.status);
            response
        }
    }
}
