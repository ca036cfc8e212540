//! The reverse proxy: streams, sockets, cuts.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use upwarden::testing::body::Body;

use crate::harness::{App, FREELANCER, World, feed, within};

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    // Says back each piece as it comes.
    let app = App::new(|request| async { Response::new(request.into_body()) });
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    let (pieces, body) = feed();
    let asking = client.call(Method::POST, "/echo").body(body).open();
    pieces.send(Bytes::from_static(b"one")).await.unwrap();
    let mut answer = within(asking).await;
    assert_eq!(answer.text().await, "one", "the answer begins before the request has ended");
    for piece in ["two", "three"] {
        pieces.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        assert_eq!(answer.text().await, piece);
    }
    drop(pieces);
    let rest = answer.whole().await;
    assert!(rest.body.is_empty() && !rest.broken);
}

#[tokio::test]
async fn large_bodies_come_through_whole() {
    let app = App::new(|request| async { Response::new(request.into_body()) });
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|place| u8::try_from(place % 251).unwrap()).collect();
    let answer = client.post("/", large.clone()).await;
    assert!(answer.body == large, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn websockets_speak_through_the_gate_and_only_with_a_session() {
    let world = World::new().app(App::sample()).start();
    let refused = world.client().websocket("/echo").await.map(drop).expect_err("nobody is signed in");
    assert!(refused.to_string().contains("401"), "{refused}");
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/echo").await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![0; 60_000]), Message::text("bye")] {
        within(socket.send(message.clone())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    }
    assert_eq!(world.metric("upwarden_upgrades").await, 1);
    within(socket.close(None)).await.unwrap();
}

#[tokio::test]
async fn events_come_one_by_one() {
    let world = World::new().app(App::sample()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut events = client.get("/events").header("accept", "text/event-stream").open().await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    for id in 1..=2 {
        assert!(events.text().await.starts_with(&format!("id: {id}\n")));
    }
}

#[tokio::test]
async fn an_app_behind_a_unix_socket_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().app(App::default().on(&folder.path().join("app.sock"))).start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.post("/x?y=1", "body").await.text(), "POST /x?y=1\nbody");
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
}

/// Answers every request with these bytes and closes.
fn saying(bytes: &'static [u8]) -> App {
    App::raw(move |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        // Whoever has gone has gone.
        let _ = stream.write_all(bytes).await;
    })
}

#[tokio::test]
async fn a_cut_answer_is_cut_for_the_client_too() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let world = World::new().app(saying(bytes)).start();
        let client = world.sign_in(FREELANCER).await;
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.broken), (200, true), "{answer:?}");
        assert!(b"only this".starts_with(&answer.body));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_502() {
    for bytes in [b"".as_slice(), b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"SSH-2.0-OpenSSH_9\r\n"] {
        let world = World::new().app(saying(bytes)).start();
        let client = world.sign_in(FREELANCER).await;
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-broken"), "{bytes:?}");
        assert_eq!(client.navigate("/").await.page(), "The app broke off");
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_uploading() {
    let app = saying(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo long");
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    for _ in 0..5 {
        let answer = client.post("/upload", vec![b'x'; 100_000]).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (413, "too long"));
    }
}

#[tokio::test]
async fn the_app_sees_what_it_should_and_nothing_more() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    client
        .get("/x")
        .header("x-upwork-user-id", "1")
        .header("x_upwork_user_id", "1")
        .header("X-Forwarded-User", "root")
        .header("x-upwork-ticket", "upwt_mine")
        .header("authorization", "Bearer of-the-app")
        .header("connection", "x-one")
        .also("connection", "x-two, keep-alive")
        .header("x-one", "1")
        .header("x-two", "2")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=203.0.113.9")
        .header("proxy-authorization", "Basic eA==")
        .header("te", "gzip")
        .header("accept-encoding", "br")
        .await;
    let seen = world.app.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/x"));
    for gone in ["x_upwork_user_id", "x-upwork-ticket", "x-one", "x-two", "proxy-authorization", "te", "cookie"] {
        assert_eq!(seen.header(gone), "", "{gone}: {seen:?}");
    }
    for (name, value) in [
        ("x-upwork-user-id", FREELANCER),
        ("x-forwarded-user", "foofreelancer"),
        ("authorization", "Bearer of-the-app"),
        ("accept-encoding", "br"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(seen.header(name), value, "{name}: {seen:?}");
    }
    assert!(!seen.header("forwarded").contains("203.0.113.9"));
    assert_eq!(seen.header("x-request-id").len(), 32);
    for token in ["upwd_0123456789", "upwt_0123456789"] {
        client.get("/x").header("authorization", &format!("Bearer {token}")).await;
        assert_eq!(world.app.last().header("authorization"), "", "a token of ours is not the app's business");
    }
}

#[tokio::test]
async fn an_apps_own_answers_pass_as_they_came() {
    let app = App::new(|_| async {
        Response::builder()
            .status(418)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("content-encoding", "gzip")
            .header("x-own", "kept")
            .body(Body::full(&b"\x1f\x8b not really"[..]))
            .expect("an answer")
    });
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-own")), (418, "kept"));
    assert_eq!(answer.set_cookies(), ["a=1", "b=2"]);
    assert_eq!(&answer.body[..], b"\x1f\x8b not really");
}

#[tokio::test]
async fn trailers_come_through_to_who_asks_for_them() {
    let app = saying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
    );
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    let answer = client.fetch("/").header("te", "trailers").header("connection", "te").await;
    assert_eq!((answer.text().as_str(), answer.broken), ("abc", false));
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "6");
}
