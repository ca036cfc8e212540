//! An HTTP client that hides nothing: one connection per request, and a cookie jar that the test can read.

use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use upwarden::testing::body::Body;

use super::jar::Jar;
use super::{Answer, Streaming, within};

/// The fields that Chromium sends when a user opens an address.
const NAVIGATION: [(&str, &str); 5] = [
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-user", "?1"),
];
/// The fields that it sends for a page's `fetch`.
const FETCH: [(&str, &str); 4] =
    [("accept", "*/*"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("sec-fetch-site", "same-origin")];

/// Connections have their own thread, since the test's thread does not serve them while it ends its world.
static CONNECTIONS: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("clients".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .unwrap();
    handle
});

/// The address of a door.
#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A client of one door. Clones share the cookies; a [`Client::twin`] does not.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    at: Address,
    host: String,
    jar: Arc<Mutex<Jar>>,
}

impl Client {
    /// At this address, without cookies.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { at: Address::Tcp(address), host: address.to_string(), jar: Arc::default() }
    }

    /// At this socket, as `localhost`.
    pub(crate) fn unix(path: &std::path::Path) -> Self {
        Self { at: Address::Unix(path.to_owned()), host: "localhost".to_owned(), jar: Arc::default() }
    }

    /// The same door under another name.
    pub(crate) fn named(&self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self.clone() }
    }

    /// The same browser at another address with the same host name.
    pub(crate) fn through(&self, address: SocketAddr) -> Self {
        Self { at: Address::Tcp(address), ..self.clone() }
    }

    /// Another browser with a copy of these cookies.
    pub(crate) fn twin(&self) -> Self {
        Self { jar: Arc::new(Mutex::new(self.jar().clone())), ..self.clone() }
    }

    pub(crate) fn jar(&self) -> std::sync::MutexGuard<'_, Jar> {
        self.jar.lock().unwrap()
    }

    /// The value of a cookie; empty if there is none.
    pub(crate) fn cookie(&self, name: &str) -> String {
        self.jar().get(name).unwrap_or_default().to_owned()
    }

    /// The names of its cookies, in the order they were set.
    pub(crate) fn cookies(&self) -> Vec<String> {
        self.jar().names()
    }

    /// Adds a cookie.
    pub(crate) fn plant(&self, name: &str, value: &str) {
        self.jar().take(&format!("{name}={value}; Path=/"));
    }

    /// A request as curl would send it: `Accept: */*`, and the cookies.
    pub(crate) fn call(&self, method: Method, target: &str) -> Call {
        let absolute = target.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        let target = absolute.map_or_else(|| target.to_owned(), |(_, path)| format!("/{path}"));
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&self.host).unwrap());
        headers.insert("accept", HeaderValue::from_static("*/*"));
        Call { client: self.clone(), method, target, headers, body: Body::empty() }
    }

    pub(crate) fn get(&self, target: &str) -> Call {
        self.call(Method::GET, target)
    }

    pub(crate) fn post(&self, target: &str, body: impl Into<Bytes>) -> Call {
        self.call(Method::POST, target).body(Body::full(body))
    }

    /// As a browser sends it when a user opens the address.
    pub(crate) fn navigate(&self, target: &str) -> Call {
        self.get(target).headers(&NAVIGATION)
    }

    /// As a browser sends it for a script of the page.
    pub(crate) fn fetch(&self, target: &str) -> Call {
        self.get(target).headers(&FETCH)
    }

    /// GraphQL, as a browser sends it for a script of the page.
    pub(crate) fn graphql(&self, query: &str) -> Call {
        let body = serde_json::json!({ "query": query }).to_string();
        self.post("/upwork/graphql", body).headers(&FETCH).header("content-type", "application/json")
    }

    /// Opens a WebSocket.
    pub(crate) async fn websocket(
        &self,
        target: &str,
    ) -> Result<WebSocketStream<Box<dyn Stream>>, tokio_tungstenite::tungstenite::Error> {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let mut request = format!("ws://{}{target}", self.host).into_client_request()?;
        if let Some(cookies) = self.jar().field() {
            request.headers_mut().insert("cookie", HeaderValue::from_str(&cookies).unwrap());
        }
        let stream = self.connect().await;
        within(tokio_tungstenite::client_async(request, stream)).await.map(|(socket, _)| socket)
    }

    /// Sends exactly these bytes and reads until the other side closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = within(stream.read_to_end(&mut answer)).await;
        answer
    }

    /// A connection to the door.
    pub(crate) async fn connect(&self) -> Box<dyn Stream> {
        self.try_connect().await.expect("the door is open")
    }

    async fn try_connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.at {
            Address::Tcp(address) => Box::new(within(TcpStream::connect(address)).await?),
            Address::Unix(path) => Box::new(within(UnixStream::connect(path)).await?),
        })
    }
}

/// Either kind of socket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A request that is sent when it is awaited.
pub(crate) struct Call {
    client: Client,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// With this field instead of any others of its name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.insert(HeaderName::try_from(name).unwrap(), value);
        self
    }

    /// With one more line of this field.
    pub(crate) fn also(mut self, name: &str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.append(HeaderName::try_from(name).unwrap(), value);
        self
    }

    /// With these fields.
    pub(crate) fn headers(self, fields: &[(&str, &str)]) -> Self {
        fields.iter().fold(self, |call, (name, value)| call.header(name, value))
    }

    /// Without this field.
    pub(crate) fn without(mut self, name: &str) -> Self {
        if let Entry::Occupied(entry) = self.headers.entry(HeaderName::try_from(name).unwrap()) {
            entry.remove_entry_mult();
        }
        self
    }

    pub(crate) fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// Sends it; the answer's body is still to be read.
    pub(crate) async fn open(self) -> Streaming {
        self.attempt().await.expect("an answer")
    }

    /// Like [`Call::open`], but there may be no answer and no open door.
    pub(crate) async fn attempt(self) -> Result<Streaming, Box<dyn std::error::Error + Send + Sync>> {
        let Self { client, method, target, mut headers, body } = self;
        if let Some(cookies) = client.jar().field() {
            headers.append("cookie", HeaderValue::from_str(&cookies).unwrap());
        }
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut()) = (method, target.parse().unwrap());
        *request.headers_mut() = headers;
        let connected = CONNECTIONS.spawn({
            let client = client.clone();
            async move {
                let stream = TokioIo::new(client.try_connect().await?);
                let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
                // How it ends shows in the body.
                tokio::spawn(connection);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sender)
            }
        });
        let mut sender = connected.await.unwrap()?;
        let (head, body) = within(sender.send_request(request)).await?.into_parts();
        for line in head.headers.get_all("set-cookie") {
            client.jar().take(line.to_str().unwrap());
        }
        Ok(Streaming { status: head.status, headers: head.headers, body })
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.open().await.whole().await })
    }
}

/// A body that the sender feeds piece by piece. It ends when the sender is dropped.
pub(crate) fn feed() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(piece)), receiver))
    });
    let body = http_body_util::BodyExt::map_err(StreamBody::new(frames), |never| match never {});
    (sender, Body::wrap(body))
}
