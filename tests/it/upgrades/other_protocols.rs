//! Protocols other than WebSocket: any bytes pass both ways, and each half closes on its own.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upwarden::testing::body::Body;
use upwarden::testing::listener::{Exchange, Peer};

use crate::harness::door::echo;
use crate::harness::{App, Door, Raw, World, access_line, head};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Agrees to any upgrade, echoes, and says goodbye when the client closes or the door drains.
async fn agree(request: Request<Body>, peer: Arc<Peer>) -> Response<Body> {
    let upgrade = request.extensions().get::<Exchange>().unwrap().upgrade();
    let drain = peer.drain.clone();
    peer.tracker.spawn(async move {
        let mut socket = upgrade.await.unwrap();
        let mut space = [0; 1024];
        loop {
            let count = tokio::select! {
                read = socket.read(&mut space) => read.unwrap(),
                () = drain.cancelled() => break,
            };
            if count == 0 {
                break;
            }
            socket.write_all(&space[..count]).await.unwrap();
        }
        socket.write_all(b"goodbye").await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
    response
}

/// An app that switches to any protocol, reads to the end, and then sends back what it read.
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

#[tokio::test]
async fn after_a_101_any_bytes_pass_both_ways_and_a_drain_waits() {
    let door = Door::default().open(agree);
    let mut client = door.connect().await;
    // What follows the request already belongs to the new protocol.
    client.send(format!("{ASK}early\n\r\0")).await;
    let answer = client.until("early\n\r\0").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.send("GET / HTTP/1.1\nno: \0 http").await;
    client.until("no: \0 http").await;
    door.drain.cancel();
    assert_eq!(client.read_to_end().await, "goodbye");
    door.close().await;
}

#[tokio::test]
async fn one_half_may_close_before_the_other() {
    let world = World::open(any_protocol()).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse/2\r\n\r\n").await;
    client.until("hello ").await;
    client.send("\0dot\u{ff}dash").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "after the end: \0dot\u{ff}dash");
}

#[tokio::test]
async fn a_drain_closes_an_upgraded_connection() {
    let world = World::open(any_protocol()).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse\r\n\r\n").await;
    client.until("hello ").await;
    assert!(world.admin().post("/drain", "").await.status.is_success());
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn after_a_declined_upgrade_the_next_message_is_read_strictly() {
    let world = World::open(App::default()).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\nHost: a\n\n")).await;
    let answers = client.read_to_end().await;
    assert!(answers.contains("GET /ws\n") && answers.contains("GET /next\n"), "{answers}");
    let line = access_line(&answers);
    assert!(answers.contains("HTTP/1.1 400 ") && line.contains("\"reason\":\"bare_lf\""), "{answers}{line}");
    // With a body, and the next request only after the answer.
    let mut client = Raw::to(world.public_address()).await;
    let ask = "POST /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n\r\nab";
    client.send(ask).await;
    client.until("POST /ws\nab").await;
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("GET /next\n").await;
}

#[tokio::test]
async fn an_answer_to_an_earlier_request_does_not_end_the_upgrade() {
    let door = Door::default().open(|request, peer| async move {
        if request.uri().path() == "/ws" { agree(request, peer).await } else { echo(request, peer).await }
    });
    let mut client = door.connect().await;
    client.send(format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n{ASK}\n\n\n")).await;
    let answer = client.until("\r\n\r\n\n\n\n").await;
    assert!(answer.contains("GET /1 []") && answer.contains("GET /2 []"), "{answer}");
    drop(client);
    door.counted("upwarden_connections{door=\"public\"} 0").await;
    door.close().await;
}

#[tokio::test]
async fn an_upgrade_to_another_http_or_tls_is_not_forwarded() {
    let world = World::open(App::default()).start();
    // RFC 9113 section 3.1 deprecates h2c; an app may read each of the other spellings as h2c, TLS or HTTP.
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
async fn a_101_before_the_request_was_sent_to_its_end_is_refused() {
    // RFC 9110 section 7.8: the protocol changes behind the request, and the rest of this one never came.
    let world = World::open(any_protocol()).start();
    let mut client = Raw::to(world.public_address()).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    let got = client.until("\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
}

#[tokio::test]
async fn a_protocol_that_was_not_offered_is_refused() {
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
