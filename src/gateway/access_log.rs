//! Writes the access log line of a request and counts it, when its answer has ended or its client went away. Decides
//! nothing. Of a request that could not be read, it reports only the refusal.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::request::RequestInfo;
use crate::body::{self, Body};
use crate::listener::{Peer, Rejection};
use crate::response::Response;
use crate::telemetry::RouteKind;
use crate::telemetry::access::AccessLine;
use crate::telemetry::metrics::Metrics;

/// nginx's status for a client that closed the connection before the answer. It is never sent.
const CLIENT_CLOSED: u16 = 499;

/// Writes the line if the request is dropped before it is answered.
pub(super) struct AccessLog<'a> {
    metrics: &'a Metrics,
    peer: &'a Peer,
    request: &'a RequestInfo,
    received: Received,
    answered: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    kind: RouteKind,
    /// Only the refusal is known of a refused message.
    refused: bool,
    started: Instant,
}

/// How the request was answered.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The session's user.
    pub(super) user: Option<String>,
    /// The name of the fault that was the answer.
    pub(super) fault: Option<&'static str>,
    /// The rule that the message broke.
    pub(super) refused: Option<Rejection>,
    /// How long the upstream took, if one was asked.
    pub(super) upstream: Option<Duration>,
}

impl<'a> AccessLog<'a> {
    pub(super) fn begin(
        metrics: &'a Metrics,
        peer: &'a Peer,
        request: &'a RequestInfo,
        kind: RouteKind,
        refused: bool,
    ) -> Self {
        metrics.in_flight(peer.door).increment(1.0);
        let received = Received { kind, refused, started: Instant::now() };
        Self { metrics, peer, request, received, answered: false }
    }

    /// Call when the answer's head is ready.
    pub(super) fn answered(mut self) -> Received {
        self.answered = true;
        self.received
    }
}

impl Drop for AccessLog<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // A drain cut this off, not the client.
        let fault = (!self.peer.drain.is_cancelled()).then_some("client-gone");
        let end = End { fault, ..End::default() };
        let took = self.received.started.elapsed();
        self.metrics.in_flight(self.peer.door).decrement(1.0);
        self.metrics.request(self.received.kind, CLIENT_CLOSED, took);
        let line = line(self.peer, self.request, self.received, &end);
        let line = AccessLine { micros: micros(took), ..line };
        line.write();
        if let Some(trace) = &self.request.trace {
            trace.finish(&line);
        }
    }
}

/// The line, without how the request ended.
fn line<'a>(peer: &'a Peer, request: &'a RequestInfo, received: Received, end: &'a End) -> AccessLine<'a> {
    let known = (!received.refused).then_some(request);
    AccessLine {
        door: peer.door,
        request_id: &request.id,
        trace_id: request.trace.as_ref().map(|trace| trace.id()),
        method: known.map(|request| request.method.as_str()),
        path: known.map(RequestInfo::path),
        route: received.kind,
        status: CLIENT_CLOSED,
        micros: 0,
        upstream_micros: end.upstream.map(micros),
        total_micros: None,
        bytes: None,
        cut: false,
        client: request.client.origin.client,
        user: end.user.as_deref(),
        peer: peer.unix,
        fault: end.fault,
        reason: end.refused.map(|refused| refused.reason),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A request whose answer has begun. Dropping it writes the line.
pub(super) struct Answered {
    pub(super) metrics: Arc<Metrics>,
    pub(super) peer: Arc<Peer>,
    pub(super) request: RequestInfo,
    pub(super) received: Received,
    pub(super) end: End,
}

impl Answered {
    /// Returns the response, whose end writes the line: at once if the body is empty or complete.
    pub(super) fn with(self, response: Response) -> Response {
        let (status, head) = (response.status.as_u16(), self.received.started.elapsed());
        self.metrics.request(self.received.kind, status, head);
        let mut open = OpenLine { answered: self, status, head, bytes: 0, ended: false };
        if !response.body.is_streamed() || response.body.is_end_stream() {
            open.bytes = response.body.size_hint().exact().unwrap_or(0);
            open.ended = true;
            return response;
        }
        response.map(|body| Body::wrap(LoggedBody { body, line: Some(open) }))
    }
}

struct OpenLine {
    answered: Answered,
    status: u16,
    head: Duration,
    bytes: u64,
    ended: bool,
}

impl Drop for OpenLine {
    fn drop(&mut self) {
        let Answered { metrics, peer, request, received, end } = &self.answered;
        metrics.in_flight(peer.door).decrement(1.0);
        let (micros, total_micros) = (micros(self.head), Some(micros(received.started.elapsed())));
        let (status, bytes, cut) = (self.status, Some(self.bytes), !self.ended);
        let line = AccessLine { status, micros, total_micros, bytes, cut, ..line(peer, request, *received, end) };
        line.write();
        if let Some(trace) = &request.trace {
            trace.finish(&line);
        }
    }
}

/// The body of an answer, which counts its bytes.
struct LoggedBody {
    body: Body,
    line: Option<OpenLine>,
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ends = match &frame {
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) => {
                self.line = None;
                false
            }
            None => true,
        };
        if let Some(line) = &mut self.line {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            line.bytes += data.map_or(0, Bytes::len) as u64;
            if ends {
                line.ended = true;
                // Before the client gets the last byte, so that the line exists once the client has the answer.
                self.line = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
