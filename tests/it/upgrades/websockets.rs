//! `WebSocket` connections through the whole sidecar.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{App, FREELANCER, World, until, within};

/// An app with a WebSocket that echoes, and that closes with 4321 on `leave`.
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

/// The code that a WebSocket is closed with, after any other messages.
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
async fn a_websocket_needs_a_session_echoes_is_counted_and_keeps_its_close_codes() {
    let world = World::new().app(echo()).start();
    let refused = world.client().websocket("/ws").await.map(drop).expect_err("no one is signed in");
    assert!(refused.to_string().contains("401"), "{refused}");
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/ws").await.unwrap();
    let (big, zeros) = (Message::binary(vec![7_u8; 300_000]), Message::binary(vec![0; 60_000]));
    for message in [Message::text("hello"), big, Message::text(""), zeros, Message::text("bye")] {
        within(socket.send(message.clone())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    }
    assert_eq!(world.metric("upwarden_upgrades").await, 1);
    socket.send(Message::text("leave")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(4321));
    drop(socket);
    until("the gauge to go down", async || (world.metric("upwarden_upgrades").await == 0).then_some(())).await;

    let mut other = client.websocket("/ws").await.unwrap();
    let frame = CloseFrame { code: CloseCode::Library(4999), reason: "mine".into() };
    other.close(Some(frame)).await.unwrap();
    // The app's library answers a close with the code that it was sent.
    assert_eq!(close_code(&mut other).await, Some(4999));
}

#[tokio::test]
async fn an_idle_websocket_is_closed() {
    let world = World::open(echo()).set("public.timeouts.upgrade_idle", "300ms").start();
    let mut socket = world.client().websocket("/ws").await.unwrap();
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok());
    // No close frame: it is not known which side was at fault.
    assert_eq!(close_code(&mut socket).await, None);
}

#[tokio::test]
async fn a_drain_closes_a_websocket_with_1001() {
    let world = World::open(echo()).start();
    let mut socket = world.client().websocket("/ws").await.unwrap();
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok());
    assert!(world.admin().post("/drain", "").await.status.is_success());
    assert_eq!(close_code(&mut socket).await, Some(1001));
}

#[tokio::test]
async fn a_websocket_ends_with_its_session() {
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
async fn a_websocket_ends_when_its_session_expires() {
    let world = World::new().app(echo()).set("session.lifetime", "2d").start();
    let person = world.sign_in(FREELANCER).await;
    let mut socket = person.websocket("/ws").await.unwrap();
    world.turn(Duration::from_hours(47));
    socket.send(Message::text("a")).await.unwrap();
    assert!(within(socket.next()).await.unwrap().is_ok(), "not yet");
    world.turn(Duration::from_hours(2));
    assert_eq!(close_code(&mut socket).await, Some(1001));
}
