//! Connections that stay open until the other side disconnects or the app closes: an event stream, and a WebSocket that
//! echoes.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, stream};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::answers::plain_text;
use crate::body::{Body, WithField};
use crate::clock::SharedClock;

const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// The time, at once and then every second (`text/event-stream`, HTML 9.2).
pub(super) fn events(clock: SharedClock, closing: CancellationToken) -> Response<Body> {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ticks = stream::unfold((second, 1_u64), move |(mut second, count)| {
        let clock = clock.clone();
        async move {
            second.tick().await;
            let event = format!("id: {count}\ndata: {}\n\n", clock.now().rfc3339());
            Some((Ok(Frame::data(event.into())), (second, count + 1)))
        }
    });
    Response::new(Body::wrap(StreamBody::new(ticks.take_until(closing.cancelled_owned()))))
        .with(CONTENT_TYPE, "text/event-stream")
        .with(CACHE_CONTROL, "no-store")
}

/// Opens a WebSocket (RFC 6455 4.2) that echoes.
pub(super) fn echo(mut request: Request<Body>, closing: CancellationToken) -> Response<Body> {
    let Some(accept) = accepted(request.headers()) else {
        return plain_text(StatusCode::UPGRADE_REQUIRED, "This address speaks WebSocket.\n")
            .with(CONNECTION, "upgrade")
            .with(UPGRADE, "websocket")
            .with(SEC_WEBSOCKET_VERSION, "13");
    };
    tokio::spawn(serve(hyper::upgrade::on(&mut request), closing));
    let mut response = Response::new(Body::empty()).with(CONNECTION, "upgrade").with(UPGRADE, "websocket");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
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

async fn serve(upgrade: OnUpgrade, closing: CancellationToken) {
    let Ok(upgraded) = upgrade.await else { return };
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    tokio::select! {
        () = send_back(&mut socket) => {}
        // A client that does not answer the close frame is gone already.
        () = closing.cancelled() => { let _ = socket.close(None).await; }
    }
}

async fn send_back(socket: &mut WebSocketStream<TokioIo<Upgraded>>) {
    while let Some(Ok(message)) = socket.next().await {
        // The crate answers pings and the close frame during the next read.
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}
