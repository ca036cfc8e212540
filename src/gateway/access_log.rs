//! The access log line and the count of one request, also of one whose client went away before there was an answer.
//! It decides nothing, and reports nothing of a request that could not be read.

use std::time::Instant;

use super::request::RequestInfo;
use crate::listener::{Peer, Rejection};
use crate::telemetry::RouteKind;
use crate::telemetry::access::AccessLine;
use crate::telemetry::metrics::Metrics;

/// nginx's status for a client that closed the connection before the answer. It is never sent.
const CLIENT_CLOSED: u16 = 499;

/// Written when the request is answered, else when it is dropped.
pub(super) struct AccessLog<'a> {
    metrics: &'a Metrics,
    peer: &'a Peer,
    request: &'a RequestInfo,
    kind: RouteKind,
    /// Of a refused message only the refusal is known.
    refused: bool,
    started: Instant,
    answered: bool,
}

/// How the request ended.
#[derive(Debug, Default)]
pub(super) struct End<'a> {
    pub(super) status: u16,
    /// Whose session it was.
    pub(super) user: Option<&'a str>,
    /// The name of the fault that stood in for an answer.
    pub(super) fault: Option<&'static str>,
    /// The rule that the message broke.
    pub(super) refused: Option<Rejection>,
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
        Self { metrics, peer, request, kind, refused, started: Instant::now(), answered: false }
    }

    /// The head of the answer is there.
    pub(super) fn answered(mut self, end: &End<'_>) {
        self.answered = true;
        self.write(end);
    }

    fn write(&self, end: &End<'_>) {
        let took = self.started.elapsed();
        self.metrics.request(self.kind, end.status, took);
        let known = (!self.refused).then_some(self.request);
        let line = AccessLine {
            door: self.peer.door,
            request_id: self.request.id,
            method: known.map(|request| request.method.as_str()),
            path: known.map(RequestInfo::path),
            route: self.kind,
            status: end.status,
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            client: self.request.origin.client,
            user: end.user,
            peer: self.peer.unix,
            fault: end.fault,
            reason: end.refused.map(|refused| refused.reason),
        };
        line.write();
    }
}

impl Drop for AccessLog<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // What a drain cuts off is not the client's doing.
            let fault = (!self.peer.drain.is_cancelled()).then_some("client-gone");
            self.write(&End { status: CLIENT_CLOSED, fault, ..End::default() });
        }
        self.metrics.in_flight(self.peer.door).decrement(1.0);
    }
}
