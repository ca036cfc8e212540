//! A sandbox on ports of its own, and a plain HTTP client for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use upwarden::sandbox::{self, Config, Sandbox, TOKEN_PATH, TokenPair};
use upwarden::testing::clock::{ManualClock, Timestamp};

pub(super) const CLIENT: &str = "0123456789abcdef0123456789abcdef";
pub(super) const CALLBACK: &str = "http://localhost:3000/callback";
pub(super) const FREELANCER: &str = "1181921839933591552";
pub(super) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(super) const JSON: (&str, &str) = ("content-type", "application/json");
/// No single answer takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Form fields, encoded.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Which door is asked.
#[derive(Clone, Copy)]
pub(super) enum Doors {
    Upwork,
    Control,
}

/// A running sandbox in which the freelancer has granted tokens.
pub(super) struct World {
    pub(super) sandbox: Sandbox,
    pub(super) clock: Arc<ManualClock>,
    pub(super) shutdown: CancellationToken,
    granted: TokenPair,
    upwork: SocketAddr,
    control: SocketAddr,
    running: JoinHandle<()>,
}

/// An answer, as far as it came.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the body broke off.
    pub(super) broken: bool,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }
}

/// A body that is read piece by piece.
pub(super) struct Pieces(Incoming);

impl Pieces {
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let frame = tokio::time::timeout(PATIENCE, self.0.frame()).await.expect("a piece comes in time")?;
        Some(frame.expect("the body is whole").into_data().unwrap_or_default())
    }
}

impl World {
    pub(super) async fn start(config: Config) -> Self {
        let clock = ManualClock::at(Timestamp::from_seconds(1_795_485_600));
        let sandbox = Sandbox::new(config, clock.clone());
        let granted = sandbox.grant(FREELANCER, CLIENT).expect("the freelancer exists");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let control_listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let upwork = listener.local_addr().expect("it is bound");
        let control = control_listener.local_addr().expect("it is bound");
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(sandbox::run(sandbox.clone(), listener, control_listener, shutdown.clone()));
        Self { sandbox, clock, shutdown, granted, upwork, control, running }
    }

    /// Asks the Upwork origin.
    pub(super) async fn upwork(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(Doors::Upwork, request(method, target, headers, body)).await
    }

    /// Asks the control door.
    pub(super) async fn control(&self, method: Method, target: &str, body: &str) -> Answer {
        self.send(Doors::Control, request(method, target, &[], body)).await
    }

    /// Asks the API with the freelancer's token.
    pub(super) async fn api(&self, method: Method, target: &str, body: &str) -> Answer {
        self.upwork(method, target, &[JSON, ("authorization", &self.bearer())], body).await
    }

    /// Refreshes with the freelancer's refresh token.
    pub(super) async fn refresh(&self) -> Answer {
        self.refresh_with(self.granted.refresh_token.expose()).await
    }

    pub(super) async fn refresh_with(&self, token: &str) -> Answer {
        let fields = form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", CLIENT),
            ("client_secret", "any"),
        ]);
        self.upwork(Method::POST, TOKEN_PATH, &[FORM], &fields).await
    }

    /// Asks a door and reads all of the answer that comes.
    pub(super) async fn send(&self, door: Doors, request: Request<Full<Bytes>>) -> Answer {
        let answer = async {
            let (head, mut body) = self.exchange(door, request).await.into_parts();
            let (mut whole, mut broken) = (Vec::new(), false);
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    broken = true;
                    break;
                };
                whole.extend_from_slice(&frame.into_data().unwrap_or_default());
            }
            Answer { status: head.status, headers: head.headers, body: whole.into(), broken }
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("an answer comes in time")
    }

    /// Asks the API and leaves the body to be read.
    pub(super) async fn open(&self, target: &str) -> Pieces {
        let request = request(Method::GET, target, &[("authorization", &self.bearer())], "");
        Pieces(self.exchange(Doors::Upwork, request).await.into_body())
    }

    /// Ends when the sandbox has stopped.
    pub(super) async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.running).await.expect("it stops in time").expect("it did not panic");
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.granted.access_token.expose())
    }

    /// One request on a connection of its own.
    async fn exchange(&self, door: Doors, mut request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let address = match door {
            Doors::Upwork => self.upwork,
            Doors::Control => self.control,
        };
        let host = HeaderValue::from_str(&address.to_string()).expect("an address is a host");
        request.headers_mut().insert("host", host);
        let stream = TcpStream::connect(address).await.expect("the door is open");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake sends nothing");
        // Its end is seen in the body.
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    }
}

/// A request to a door.
pub(super) fn request(method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
}
