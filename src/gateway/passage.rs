//! One request on its way through the gate, as the access line and the count of requests tell it.
//!
//! In: what is known when it comes, and what was answered. Out: one line and one count a request, also for one whose client
//! went away before there was an answer. It decides nothing, and never tells what was not read.

use std::net::IpAddr;
use std::time::Instant;

use http::{Method, Uri};

use super::{Ask, Shared};
use crate::listener::{Peer, Refused};
use crate::router;
use crate::telemetry::access::Line;
use crate::telemetry::{RequestId, RouteKind};

/// What nginx calls it: the client closed the connection before there was an answer. Nobody is sent it.
const NO_ANSWER: u16 = 499;

/// Told when it is answered, else when it is dropped.
pub(super) struct Passage<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    started: Instant,
    id: RequestId,
    /// Of a message that was refused nothing but the refusal is known: the request is one of the listener's own making.
    read: Option<(Method, Uri)>,
    client: Option<IpAddr>,
    answered: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct End<'a> {
    /// What kind of path it was.
    pub(super) kind: RouteKind,
    /// The status answered.
    pub(super) status: u16,
    /// Whose session it was.
    pub(super) user: Option<&'a str>,
    /// The name of the fault that stood in for an answer.
    pub(super) fault: Option<&'static str>,
    /// The rule that the message broke.
    pub(super) refused: Option<Refused>,
}

impl<'a> Passage<'a> {
    pub(super) fn begin(shared: &'a Shared, peer: &'a Peer, ask: &Ask, refused: Option<Refused>) -> Self {
        let read = refused.is_none().then(|| (ask.head.method.clone(), ask.head.uri.clone()));
        let client = ask.origin.client;
        Self { shared, peer, started: Instant::now(), id: ask.id, read, client, answered: false }
    }

    /// The head of the answer is there.
    pub(super) fn answered(mut self, end: &End<'_>) {
        self.answered = true;
        self.tell(end);
    }

    fn tell(&self, end: &End<'_>) {
        let took = self.started.elapsed();
        self.shared.metrics.request(end.kind, end.status, took);
        let line = Line {
            door: self.peer.door,
            id: self.id,
            method: self.read.as_ref().map(|(method, _)| method.as_str()),
            path: self.read.as_ref().map(|(_, uri)| uri.path()),
            route: end.kind,
            status: end.status,
            took,
            client: self.client,
            user: end.user,
            peer: self.peer.unix,
            fault: end.fault,
            reason: end.refused.map(|refused| refused.reason),
        };
        line.write();
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let route = |(_, uri): &(Method, Uri)| router::route(&self.shared.router, uri.path()).kind();
        let kind = self.read.as_ref().map_or(RouteKind::None, route);
        // What a drain cuts off is not its client's doing.
        let fault = (!self.peer.drain.is_cancelled()).then_some("client-gone");
        self.tell(&End { kind, status: NO_ANSWER, user: None, fault, refused: None });
    }
}
