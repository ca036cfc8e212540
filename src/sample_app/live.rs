//! What stays open: a stream of events, and a WebSocket that says back what it is told.
//!
//! In: a request. Out: an answer whose connection lives on, until the other side goes or the app closes. It never keeps
//! a finished one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::body::{Body, Error};
use crate::clock::SharedClock;

/// Bytes of a WebSocket message.
const MESSAGE: usize = 64 << 10;

/// The time, at once and then once a second (`text/event-stream`, HTML 9.2).
pub(super) fn events(clock: SharedClock, closing: CancellationToken) -> Response<Body> {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ticks = Ticks { clock, second, count: 0, closed: Box::pin(closing.cancelled_owned()) };
    let mut response = Response::new(Body::wrap(ticks));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Ticks {
    clock: SharedClock,
    second: Interval,
    count: u64,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for Ticks {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        ready!(self.second.poll_tick(cx));
        self.count += 1;
        let event = format!("id: {}\ndata: {}\n\n", self.count, self.clock.now().rfc3339());
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

/// Opens a WebSocket (RFC 6455 4.2) that echoes.
pub(super) fn echo(mut request: Request<Body>, closing: CancellationToken) -> Response<Body> {
    let Some(accept) = accepted(request.headers()) else {
        let mut response = super::plain_text(StatusCode::UPGRADE_REQUIRED, "This address speaks WebSocket.\n");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    tokio::spawn(converse(hyper::upgrade::on(&mut request), closing));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The accept key, if this is an opening handshake.
fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    let is = |name, value: &str| headers.get(name).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()));
    if !is(UPGRADE, "websocket") || !is(SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

async fn converse(upgrade: OnUpgrade, closing: CancellationToken) {
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    tokio::select! {
        () = say_back(&mut socket) => {}
        // Whoever does not answer the goodbye is gone already.
        () = closing.cancelled() => { let _ = socket.close(None).await; }
    }
}

async fn say_back(socket: &mut WebSocketStream<TokioIo<Upgraded>>) {
    while let Some(Ok(message)) = socket.next().await {
        // Pings and the goodbye are answered by the crate, as the next read goes on.
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}
