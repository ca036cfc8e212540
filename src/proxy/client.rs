//! HTTP/1.1 to one upstream: pooled, timed, and sent twice only where that can do no harm.
//!
//! In: a request as it shall go out. Out: the answer, its body still streaming, or an [`Error`] that says which part failed.
//! A request whose body was begun, or of whose answer a byte came, is never sent a second time (RFC 9110 section 9.2.2).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, EXPECT, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{Connector, Handshake};
use super::early::{Early, End};
use super::pool::{Answer, Lease, Pool};
use super::upload::{Progress, Upload};
use super::wire::{Told, Wire};
use crate::body::Body;
use crate::descriptors::{Descriptor, Descriptors};
use crate::framing::Limits;
use crate::listener::LastAnswer;

/// How long a connection lies idle where the upstream says nothing.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer's head that are read.
const ANSWER_HEAD: usize = 256 << 10;
/// Fields of an answer's head that are read.
const ANSWER_FIELDS: usize = 300;

/// How long each part may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Until a connection is made, TLS included.
    pub connect: Duration,
    /// From the last movement of the request to the answer's head.
    pub first_byte: Duration,
    /// Between two pieces of the answer's body.
    pub idle: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// This process has no file descriptor left for a connection.
    #[error("no file descriptor is left for a connection to the upstream")]
    NoDescriptor,
    /// No connection.
    #[error("no connection to the upstream")]
    Connect(#[source] io::Error),
    /// No connection in time.
    #[error("no connection to the upstream in time")]
    ConnectTimeout,
    /// No answer in time.
    #[error("no answer from the upstream in time")]
    FirstByteTimeout,
    /// The client's own body broke off.
    #[error("the request's body broke off")]
    Client(#[source] hyper::Error),
    /// The upstream closed, reset, or sent what is no HTTP.
    #[error("the upstream broke off or answered what is no HTTP")]
    Answer(#[source] hyper::Error),
    /// What follows a good head has no one reading.
    #[error("the upstream's answer is no HTTP after its head")]
    Spoilt,
    /// A 101 that nobody asked for.
    #[error("the upstream switched to a protocol that was not offered")]
    Switched,
}

/// A client of one upstream, for one worker.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    timeouts: Timeouts,
    descriptors: Arc<Descriptors>,
}

/// What was tried once, and could be tried again.
struct Replay {
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
}

impl Replay {
    /// Only a request that is idempotent and has no body (RFC 9110 section 9.2.2).
    fn of(request: &Request<Body>) -> Option<Self> {
        let idempotent = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
        );
        (idempotent && request.body().is_end_stream()).then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    fn request(self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

enum Failure {
    /// Nothing of it was written: any request may go again.
    Unsent(Box<Request<Upload>>, hyper::Error),
    /// Written, perhaps in part.
    Sent(hyper::Error),
    Timeout,
    Spoilt,
}

impl Client {
    /// A client without a connection yet.
    pub(crate) fn new(connector: Connector, timeouts: Timeouts, descriptors: Arc<Descriptors>) -> Self {
        Self { connector: Arc::new(connector), pool: Pool::new(&descriptors), timeouts, descriptors }
    }

    /// The same upstream, with connections of its own: a connection belongs to the worker that opened it.
    #[must_use]
    pub(crate) fn sibling(&self) -> Self {
        Self { pool: Pool::new(&self.descriptors), ..self.clone() }
    }

    /// Drops idle connections that have lain too long; to be called now and then.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    /// Sends `request`, whose target is in origin form and whose `Host` is set, and gives the answer's head with its body
    /// still to come.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let upgrade = request.headers().contains_key(http::header::UPGRADE);
        let Some(lease) = self.pool.take().filter(|_| !upgrade) else {
            let (request, upload) = prepare(request);
            let lease = self.connect().await?;
            return self.exchange(lease, request, upload).await.map_err(|(error, upload)| failed(error, &upload));
        };
        let replay = Replay::of(&request);
        let told = lease.told.clone();
        let (request, upload) = prepare(request);
        match self.exchange(lease, request, upload).await {
            Ok(response) => Ok(response),
            Err((Failure::Unsent(request, _), upload)) => {
                let lease = self.connect().await?;
                self.exchange(lease, *request, upload).await.map_err(|(error, upload)| failed(error, &upload))
            }
            Err((error, upload)) => match replay.filter(|_| broke_off(&error) && !told.heard()) {
                Some(replay) => {
                    let (request, upload) = prepare(replay.request());
                    let lease = self.connect().await?;
                    self.exchange(lease, request, upload).await.map_err(|(error, upload)| failed(error, &upload))
                }
                None => Err(failed(error, &upload)),
            },
        }
    }

    async fn connect(&self) -> Result<Lease, Error> {
        let descriptor = self.descriptors.outgoing().await.ok_or(Error::NoDescriptor)?;
        match tokio::time::timeout(self.timeouts.connect, self.connector.connect(Http(descriptor))).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(error)) if is_out_of_descriptors(&error) => Err(Error::NoDescriptor),
            Ok(Err(error)) => Err(Error::Connect(error)),
            Err(_) => Err(Error::ConnectTimeout),
        }
    }

    async fn exchange(
        &self,
        mut lease: Lease,
        mut request: Request<Upload>,
        upload: Arc<Progress>,
    ) -> Result<Response<Body>, (Failure, Arc<Progress>)> {
        if let Err(error) = lease.sender.ready().await {
            return Err((Failure::Unsent(Box::new(request), error), upload));
        }
        let expects = request.headers().contains_key(EXPECT);
        if expects {
            let upload = upload.clone();
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    upload.go_on();
                }
            });
        }
        request.body_mut().on(lease.told.clone());
        lease.told.ask(request.method(), request.headers().contains_key(http::header::UPGRADE));
        let sent = lease.sender.try_send_request(request);
        let mut response = match within(self.timeouts.first_byte, &upload, sent).await {
            Some(Ok(response)) => response,
            Some(Err(mut error)) => {
                let failure = match error.take_message() {
                    Some(request) => Failure::Unsent(Box::new(request), error.into_error()),
                    None => Failure::Sent(error.into_error()),
                };
                return Err((failure, upload));
            }
            None => return Err((Failure::Timeout, upload)),
        };
        if lease.told.spoilt() {
            return Err((Failure::Spoilt, upload));
        }
        // Which version an upstream speaks is between it and us (RFC 9110 section 2.5).
        *response.version_mut() = http::Version::HTTP_11;
        if expects && !upload.done() && !upload.begun() {
            // The client sends that body or it does not (RFC 9110 section 10.1.1): nobody knows what comes next there.
            response.extensions_mut().insert(LastAnswer);
        }
        if let Some(keep) = keep_alive(response.headers()) {
            lease.keep = keep;
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // The connection is the upgrade's now.
            response.extensions_mut().insert(lease.told.cut.clone());
            lease.release();
            return Ok(response.map(|_| Body::empty()));
        }
        let (pool, idle) = (self.pool.clone(), self.timeouts.idle);
        Ok(response.map(|body| Body::wrap(Answer::new(body, lease, pool, upload, idle))))
    }
}

/// The answer, or `None` when neither it nor anything of the upload moved for `allowed`. While the client pauses in its
/// upload, it is not the upstream that is slow.
async fn within<F: Future>(allowed: Duration, upload: &Progress, answer: F) -> Option<F::Output> {
    let mut answer = std::pin::pin!(answer);
    let mut deadline = Instant::now() + allowed;
    loop {
        if let Ok(output) = tokio::time::timeout_at(deadline, answer.as_mut()).await {
            return Some(output);
        }
        deadline = if upload.waits_for_client() { Instant::now() } else { upload.last_moved() } + allowed;
        if deadline <= Instant::now() {
            return None;
        }
    }
}

/// Closed or reset before an answer, as an idle connection is when the upstream's keep-alive ended.
fn broke_off(failure: &Failure) -> bool {
    match failure {
        Failure::Sent(error) => {
            error.is_incomplete_message()
                || error.is_canceled()
                || error.is_closed()
                || (!error.is_parse() && !error.is_user() && !error.is_timeout())
        }
        Failure::Unsent(..) => true,
        Failure::Timeout | Failure::Spoilt => false,
    }
}

fn failed(failure: Failure, upload: &Progress) -> Error {
    match failure {
        Failure::Timeout => Error::FirstByteTimeout,
        Failure::Spoilt => Error::Spoilt,
        Failure::Unsent(_, error) | Failure::Sent(error) if upload.failed() || error.is_user() => Error::Client(error),
        Failure::Unsent(_, error) | Failure::Sent(error) => Error::Answer(error),
    }
}

fn prepare(request: Request<Body>) -> (Request<Upload>, Arc<Progress>) {
    let (mut head, body) = request.into_parts();
    head.version = http::Version::HTTP_11;
    if !body.is_end_stream()
        && body.size_hint().exact().is_none()
        && !head.headers.contains_key(http::header::CONTENT_LENGTH)
    {
        // hyper would send a GET or HEAD without the body it has.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let expect = head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let waits = expect && !body.is_end_stream();
    let (upload, progress) = Upload::new(body, waits);
    (Request::from_parts(head, upload), progress)
}

/// How long the upstream says it keeps an idle connection (`Keep-Alive: timeout=5`), less a second.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let text = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds: u64 = text.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).saturating_sub(Duration::from_secs(1)).min(KEEP_IDLE))
}

/// `ENFILE`, `EMFILE`: the system's or the process's limit, on Linux and macOS alike.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// hyper's client handshake; the connection is driven by a task of its own until it ends, or its lease does.
struct Http(Descriptor);

impl Handshake for Http {
    type Output = Lease;

    async fn over<I>(self, io: I, reset: fn(&I)) -> io::Result<Self::Output>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let told = Arc::new(Told::default());
        let limits = Limits { head_bytes: ANSWER_HEAD, head_fields: ANSWER_FIELDS, ..Limits::default() };
        let early = Early::new(io, End { cut: told.cut.clone(), reset });
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(2 * ANSWER_HEAD)
            .max_headers(ANSWER_FIELDS + 1)
            .handshake(TokioIo::new(Wire::new(early, limits, told.clone(), self.0)))
            .await
            .map_err(io::Error::other)?;
        let (release, released) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection.with_upgrades());
            // How it ends is seen by whoever has a request on it.
            tokio::select! {
                biased;
                _ = connection.as_mut() => {}
                released = released => if released.is_ok() {
                    let _ = connection.await;
                }
            }
        });
        Ok(Lease { sender, told, keep: KEEP_IDLE, release })
    }
}

/// Asks for an upgrade: `Connection: upgrade` beside the protocol (RFC 9110 section 7.8).
pub(super) fn ask_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(http::header::UPGRADE, protocol);
}
