//! The app behind the sidecar: scripted, and with a record of what reached it.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method, Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Notify;
use upwarden::testing::body::Body;
use upwarden::testing::sample_app::{self, SampleApp};

use super::wire::{Recorded, Wire};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Clone)]
enum Script {
    Handler(Arc<dyn Fn(Request<Body>) -> Boxed<Response<Body>> + Send + Sync>),
    Raw(Arc<dyn Fn(TcpStream) -> Boxed<()> + Send + Sync>),
    Sample,
}

/// A request as the app saw it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    /// Path and query, byte for byte.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

impl Received {
    /// The value of a field; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// An app. Clones share everything.
#[derive(Clone)]
pub(crate) struct App {
    script: Script,
    socket: Option<PathBuf>,
    seen: Arc<Mutex<Vec<Received>>>,
    /// The bytes that it received and that it answered.
    pub(crate) received: Wire,
    pub(crate) answered: Wire,
}

impl Default for App {
    /// Answers 200 with `METHOD TARGET` and the request's body.
    fn default() -> Self {
        Self::new(|request| async {
            let line = format!("{} {}\n", request.method(), request.uri());
            let body = request.into_body().collect(4 << 20).await.unwrap_or_default();
            Response::new(Body::full([line.as_bytes(), &body].concat()))
        })
    }
}

impl App {
    fn scripted(script: Script) -> Self {
        Self { script, socket: None, seen: Arc::default(), received: Wire::default(), answered: Wire::default() }
    }

    /// An app that answers with this handler.
    pub(crate) fn new<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Body>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::scripted(Script::Handler(Arc::new(move |request| Box::pin(handler(request)))))
    }

    /// An app that handles each connection with `talk`; nothing is recorded.
    pub(crate) fn raw<H, F>(talk: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::scripted(Script::Raw(Arc::new(move |stream| Box::pin(talk(stream)))))
    }

    /// An app that signals a request for `/slow`, and answers it only once it is notified.
    pub(crate) fn slow() -> (Self, Arc<Notify>, Arc<Notify>) {
        let (asked, go) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let (seen, release) = (asked.clone(), go.clone());
        let app = Self::new(move |request| {
            let (asked, go) = (asked.clone(), go.clone());
            async move {
                if request.uri().path() == "/slow" {
                    asked.notify_one();
                    go.notified().await;
                }
                Response::new(Body::full("done"))
            }
        });
        (app, seen, release)
    }

    /// The sample app, as `upwarden demo` runs it.
    pub(crate) fn sample() -> Self {
        Self::scripted(Script::Sample)
    }

    /// The same behind a Unix socket.
    pub(crate) fn on(self, socket: &Path) -> Self {
        Self { socket: Some(socket.to_owned()), ..self }
    }

    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request; there must be one.
    pub(crate) fn last(&self) -> Received {
        self.seen().pop().expect("the app was asked")
    }

    /// Serves until the runtime ends; `neighbour` is for the sample app.
    pub(crate) async fn serve(mut self, listener: TcpListener, neighbour: String) {
        if matches!(self.script, Script::Sample) {
            let sample =
                SampleApp::new(sample_app::Config { prefix: "/upwork".to_owned(), neighbour: Some(neighbour) });
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            self.script = Script::Handler(Arc::new(move |request| {
                let sample = sample.clone();
                Box::pin(async move { sample.handle(request, peer).await })
            }));
        }
        if let Some(path) = self.socket.clone() {
            let listener = UnixListener::bind(path).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().converse(stream));
            }
        }
        while let Ok((stream, _)) = listener.accept().await {
            match &self.script {
                Script::Raw(talk) => drop(tokio::spawn(talk(stream))),
                Script::Handler(_) | Script::Sample => drop(tokio::spawn(self.clone().converse(stream))),
            }
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let stream = Recorded { stream, read: self.received.clone(), written: self.answered.clone() };
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let app = self.clone();
            async move { Ok::<_, Infallible>(app.answer(request.map(Body::from)).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client that leaves is not an error of the app.
        let _ = connection.with_upgrades().await;
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.seen.lock().unwrap().push(Received {
            method: request.method().clone(),
            target: request.uri().to_string(),
            headers: request.headers().clone(),
        });
        match &self.script {
            Script::Handler(handler) => handler(request).await,
            Script::Raw(_) | Script::Sample => Response::new(Body::empty()),
        }
    }
}
