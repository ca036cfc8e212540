//! HTTP/1.1 and 1.0, by the engine of `http1`.

use std::future::Future;
use std::sync::Arc;

use super::accept::DoorState;
use super::door::{self, Peer};
use super::permits::Permit;
use crate::http1::Socket;
use crate::http1::server::{self, Ends, Event, IncomingRequest};
use crate::response::Response;
use crate::telemetry::metrics;

/// Serves one connection to its end.
pub(super) async fn serve<H, F>(socket: Socket, peer: Arc<Peer>, door: &DoorState, permit: Permit, handler: H)
where
    H: Fn(IncomingRequest, Arc<Peer>) -> F + Send + 'static,
    F: Future<Output = Response> + Send + Unpin + 'static,
{
    let (peer_door, http1, metrics, drain) = (peer.door, door.http1.clone(), door.metrics.clone(), peer.drain.clone());
    let answers = door.descriptors.answers();
    let waiting = answers.add();
    waiting.hold();
    let ends = Ends { drain, waiting };
    let report = move |event| match event {
        Event::Rejected(rejection) => door::report(rejection, peer_door, &metrics),
        Event::ResponseTimeout => metrics.refused(peer_door, metrics::Refusal::AnswerTimeout),
        Event::ResponseCut(error) => {
            metrics.refused(peer_door, metrics::Refusal::AnswerCut);
            tracing::info!(door = peer_door.as_str(), %error, "a response was cut");
        }
    };
    server::serve(socket.hold(permit), http1, ends, move |request| handler(request, peer.clone()), report).await;
}
