//! Connections that become another protocol: bytes both ways, half-close and close codes kept, counted, and an end of
//! their own when nothing moves, the session ends or the sidecar drains.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{App, FREELANCER, Raw, World, head, until, within};

/// An app with a WebSocket that echoes, and says 4321 when it is asked to `leave`.
pub(crate) fn echo() -> App {
    App::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            let sent = match message {
                Message::Text(text) if text == "leave" => {
                    let frame = CloseFrame { code: CloseCode::Library(4321), reason: "as asked".into() };
                    socket.close(Some(frame)).await
                }
                message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await,
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

/// An app that switches to any protocol and then answers each end of the other half with a last word.
fn any_protocol() -> App {
    App::raw(|mut stream| async move {
        let head = head(&mut stream).await.unwrap();
        let protocol = head.lines().find_map(|line| line.strip_prefix("upgrade: ")).unwrap_or_default().to_owned();
        let switch = format!("HTTP/1.1 101 Yes\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\r\nhello ");
        stream.write_all(switch.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let _ = stream.write_all(&[b"after the end: ", &all[..]].concat()).await;
    })
}

/// The code that a WebSocket is closed with, whatever comes before.
async fn close_code<S>(socket: &mut S) -> Option<u16>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test]
async fn a_websocket_echoes_is_counted_and_keeps_its_close_codes() {
    let world = World::open(echo()).start();
    let mut socket = world.client().websocket("/ws").await.unwrap();
    let big = vec![7_u8; 300_000];
    for message in [Message::text("hello"), Message::binary(big), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    }
    assert_eq!(world.metric("upwarden_upgrades").await, 1);
    socket.send(Message::text("leave")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(4321));
    drop(socket);
    until("the gauge to go down", async || (world.metric("upwarden_upgrades").await == 0).then_some(())).await;

    let mut other = world.client().websocket("/ws").await.unwrap();
    let frame = CloseFrame { code: CloseCode::Library(4999), reason: "mine".into() };
    other.close(Some(frame)).await.unwrap();
    // The app's library answers a close with the code that it was sent.
    assert_eq!(close_code(&mut other).await, Some(4999));
}

#[tokio::test]
async fn any_protocol_passes_and_a_half_may_close_before_the_other() {
    let world = World::open(any_protocol()).start();
    let mut client = Raw::to(world.public_address()).await;
    // The first bytes of the new protocol may follow the request at once.
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse/2\r\n\r\n").await;
    client.until("hello ").await;
    client.send("\0dot\u{ff}dash").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "after the end: \0dot\u{ff}dash");
}

#[tokio::test]
async fn an_upgrade_that_the_app_declines_is_a_plain_request() {
    let world = World::open(App::default()).start();
    let mut client = Raw::to(world.public_address()).await;
    let ask = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse\r\n\r\n";
    client.send([ask, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
    // Both may come at once.
    let both = client.until("GET /b\n").await;
    assert!(both.contains("GET /a\n"), "{both}");
}

#[tokio::test]
async fn no_protocol_that_carries_requests_of_its_own_is_asked_for() {
    let world = World::open(App::default()).start();
    // RFC 9113 section 3.1 took h2c back; each other spelling is one that some app may read as h2c, TLS or HTTP.
    for line in [
        &b"h2c"[..],
        b"h2c, \xff",
        b"\xff, H2C",
        b"\xffh2c",
        b"\"h2c\"",
        b"h2",
        b"h2c-14",
        b"HTTP/2.0",
        b"TLS/1.2, HTTP/1.1",
        b"morse, h2c",
        b"morse;h2c",
        b"mor se",
        b"morse/",
        b",",
        b"",
    ] {
        let mut client = Raw::to(world.public_address()).await;
        let ask = [
            b"GET /c HTTP/1.1\r\nHost: a\r\nConnection: \xe9, Upgrade, X-Hop, HTTP2-Settings\r\nX-Hop: 1\r\n\
              HTTP2-Settings: AAMAAABk\r\nUpgrade: ",
            line,
            b"\r\n\r\n",
        ];
        client.send(ask.concat()).await;
        client.until("GET /c\n").await;
        let seen = world.app.last();
        let left = ["upgrade", "http2-settings", "x-hop", "connection"].map(|name| seen.header(name));
        assert_eq!(left, ["", "", "", ""], "{}", line.escape_ascii());
    }
}

#[tokio::test]
async fn a_protocol_that_was_not_offered_is_not_switched_to() {
    for (offered, chosen, status) in [
        ("morse", "smoke", 502),
        ("morse/2", "morse/3", 502),
        ("morse", "morse, smoke", 502),
        ("morse", "", 502),
        ("smoke/1, Morse/2", "morse/2", 101),
    ] {
        let app = App::raw(move |mut stream| async move {
            head(&mut stream).await.unwrap();
            let line = if chosen.is_empty() { String::new() } else { format!("upgrade: {chosen}\r\n") };
            let switch = format!("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\n{line}\r\n");
            stream.write_all(switch.as_bytes()).await.unwrap();
        });
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {offered}\r\n\r\n")).await;
        let got = client.until("\r\n\r\n").await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{offered} → {chosen}: {got}");
    }
}

#[tokio::test]
async fn an_upgraded_connection_on_which_nothing_moves_ends() {
    let world = World::open(echo()).set("public.timeouts.upgrade_idle", "300ms").start();
    let mut socket = world.client().websocket("/ws").await.unwrap();
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok());
    // No close frame: which side was at fault, nobody knows.
    assert_eq!(close_code(&mut socket).await, None);
}

#[tokio::test]
async fn a_drain_says_1001_to_a_websocket_and_closes_others() {
    let world = World::open(echo()).start();
    let mut socket = world.client().websocket("/ws").await.unwrap();
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok());
    assert!(world.admin().post("/drain", "").await.status.is_success());
    assert_eq!(close_code(&mut socket).await, Some(1001));

    let world = World::open(any_protocol()).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse\r\n\r\n").await;
    client.until("hello ").await;
    assert!(world.admin().post("/drain", "").await.status.is_success());
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_socket_ends_when_its_session_does() {
    let world = World::new().app(echo()).start();
    let person = world.sign_in(FREELANCER).await;
    let mut socket = person.websocket("/ws").await.unwrap();
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok());
    let out = person.post("/upwork/auth/logout", "").header("sec-fetch-site", "same-origin").await;
    assert_eq!(out.status, 303);
    assert_eq!(close_code(&mut socket).await, Some(1001));
}

#[tokio::test]
async fn a_socket_ends_when_its_session_runs_out() {
    let world = World::new().app(echo()).set("session.lifetime", "2d").start();
    let person = world.sign_in(FREELANCER).await;
    let mut socket = person.websocket("/ws").await.unwrap();
    world.turn(Duration::from_hours(47));
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok(), "not yet");
    world.turn(Duration::from_hours(2));
    assert_eq!(close_code(&mut socket).await, Some(1001));
}
