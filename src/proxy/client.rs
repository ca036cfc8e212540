//! A client for one upstream, with pooled HTTP/1.1 connections, or one of HTTP/2, and time limits.
//!
//! Takes a request as it is to be sent; returns the response with its body still streaming, or an [`Error`] that says
//! which part failed. A request is sent a second time only if that is harmless, as [`http1::Failure`] says.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, StatusCode};

use super::connect::{Connector, Upstream};
use super::error::Error;
use super::http2::Http2;
use crate::body::Body;
use crate::descriptors::Descriptors;
use crate::fields::Fields;
use crate::framing::Limits;
use crate::http1::{self, Answer, BoundPool, Connection, Failure, Outgoing, Pool, Pools, ResponseTimeouts, Socket};
use crate::response::Response;
use crate::telemetry::metrics::UpstreamMetrics;

const LIMITS: Limits =
    Limits { head_bytes: 256 << 10, head_fields: 300, extension_bytes: 4 << 10, trailer_bytes: 8 << 10 };

/// How long each part may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Until a connection is made, TLS included.
    pub connect: Duration,
    /// From the last progress of the request to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub idle: Duration,
}

impl Timeouts {
    fn of_response(self) -> ResponseTimeouts {
        ResponseTimeouts { first_byte: self.first_byte, idle: self.idle }
    }
}

/// A client of one upstream, for one worker.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    timeouts: Timeouts,
    descriptors: Arc<Descriptors>,
    /// Set if HTTP/2 is used instead.
    http2: Option<Arc<Http2>>,
    /// Its connections have descriptors that the app's cannot take.
    is_api: bool,
    metrics: Arc<UpstreamMetrics>,
}

impl Client {
    pub(crate) fn new(
        connector: Connector,
        timeouts: Timeouts,
        descriptors: Arc<Descriptors>,
        metrics: Arc<UpstreamMetrics>,
    ) -> Self {
        let pool = pool(&descriptors, &metrics);
        Self { connector: Arc::new(connector), pool, timeouts, descriptors, http2: None, is_api: false, metrics }
    }

    /// A client of Upwork's API.
    pub(crate) fn of_api(self) -> Self {
        Self { is_api: true, ..self }
    }

    /// A client that speaks HTTP/2 to `upstream`.
    pub(crate) fn over_http2(self, upstream: &Upstream) -> Self {
        Self { http2: Some(Arc::new(Http2::new(upstream, self.timeouts.connect))), ..self }
    }

    /// The same upstream with its own connections: a connection belongs to the worker that opened it.
    #[must_use]
    pub(crate) fn sibling(&self) -> Self {
        let http2 = self.http2.as_ref().map(|http2| Arc::new(http2.sibling()));
        Self { pool: pool(&self.descriptors, &self.metrics), http2, ..self.clone() }
    }

    /// Closes connections that have been idle for too long; call it periodically.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    pub(crate) async fn send(&self, request: impl Into<Outgoing>) -> Result<Response, Error> {
        Ok(self.exchange(request.into(), Pools::shared(&self.pool), |_, _| {}).await?.response)
    }

    /// Sends a request in origin form, with `Host` among its fields.
    pub(crate) async fn send_request(&self, request: Request<Body>) -> Result<Response, Error> {
        let Some(http2) = self.http2() else { return self.send(request).await };
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().cloned();
        self.send_http2(http2, http2.request(parts.method, target, parts.headers.iter(), body)).await
    }

    pub(super) fn http2(&self) -> Option<&Http2> {
        self.http2.as_deref()
    }

    /// Sends a request of [`Http2::request`] over HTTP/2.
    pub(super) async fn send_http2(&self, http2: &Http2, request: Request<Body>) -> Result<Response, Error> {
        let started = Instant::now();
        let response = http2.send(request, self.timeouts.of_response(), || self.open()).await?;
        self.metrics.answered(started.elapsed());
        Ok(response)
    }

    /// The pools for the requests of one client.
    pub(super) fn pools<'a>(&'a self, bound: Option<&'a BoundPool>, user: Option<&'a HeaderValue>) -> Pools<'a> {
        Pools { shared: &self.pool, bound, user }
    }

    /// Sends a request that may ask for an upgrade. `on_interim` gets the interim responses.
    pub(super) async fn exchange(
        &self,
        mut request: Outgoing,
        pools: Pools<'_>,
        mut on_interim: impl FnMut(StatusCode, Fields),
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let timeouts = self.timeouts.of_response();
        if let Some(connection) = pools.take(!request.asks_upgrade()) {
            match http1::send(connection, request, timeouts, pools, &mut on_interim).await {
                Ok(answer) => {
                    self.metrics.answered(started.elapsed());
                    return Ok(answer);
                }
                Err(Failure { request: Some(again), .. }) => request = again,
                Err(Failure { error, request: None }) => return Err(error.into()),
            }
        }
        // Boxed: most requests find a connection in the pool.
        let connection = Box::pin(self.connect()).await?;
        let answer = http1::send(connection, request, timeouts, pools, on_interim).await;
        let answer = answer.map_err(|failure| failure.error)?;
        self.metrics.answered(started.elapsed());
        Ok(answer)
    }

    async fn connect(&self) -> Result<Box<Connection>, Error> {
        Ok(Connection::new(self.open().await?, LIMITS))
    }

    async fn open(&self) -> Result<Socket, Error> {
        let descriptors = &self.descriptors;
        let descriptor = if self.is_api { descriptors.outgoing_to_api().await } else { descriptors.outgoing().await };
        let descriptor = descriptor.ok_or(Error::NoDescriptor)?;
        match tokio::time::timeout(self.timeouts.connect, self.connector.connect()).await {
            Ok(Ok(socket)) => Ok(socket.hold((descriptor, self.metrics.opened()))),
            Ok(Err(error)) if is_out_of_descriptors(&error) => Err(Error::NoDescriptor),
            Ok(Err(error)) => Err(Error::Connect(error)),
            Err(_) => Err(Error::ConnectTimeout),
        }
    }
}

fn pool(descriptors: &Descriptors, metrics: &UpstreamMetrics) -> Arc<Pool> {
    let pool = Pool::new(descriptors);
    let counted = Arc::downgrade(&pool);
    metrics.add_pool(move || counted.upgrade().map(|pool| pool.idle()));
    pool
}

/// `ENFILE`, `EMFILE`: the system's or the process's limit, on Linux and macOS alike.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}
