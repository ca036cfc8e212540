//! Connections that become another protocol.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upwarden::testing::body::Body;
use upwarden::testing::listener::Peer;

use crate::harness::Door;
use crate::harness::door::echo;

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Agrees to any upgrade, then sends back what comes, and says goodbye when the door drains.
async fn agree(mut request: Request<Body>, peer: Arc<Peer>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let drain = peer.drain.clone();
    peer.tracker.spawn(async move {
        let mut socket = TokioIo::new(upgrade.await.unwrap());
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

#[tokio::test]
async fn after_a_101_any_bytes_pass_both_ways_and_the_drain_waits() {
    let door = Door::default().open(agree);
    let mut client = door.connect().await;
    // What comes right behind the request belongs to the new protocol already.
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
async fn an_upgraded_client_closes_its_half_and_still_reads() {
    let door = Door::default().open(agree);
    let mut client = door.connect().await;
    client.send(ASK).await;
    client.until("\r\n\r\n").await;
    client.send("last").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.read_to_end().await, "lastgoodbye");
    door.close().await;
}

#[tokio::test]
async fn where_the_upgrade_is_declined_the_next_message_is_read_strictly() {
    let door = Door::default().open(echo);
    let answer = door.talk(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\nHost: a\n\n")).await;
    assert!(answer.contains("GET /ws []") && answer.contains("GET /next []"), "{answer}");
    assert!(answer.ends_with("bare_lf"), "{answer}");
    // With a body, and the next request only after the answer.
    let mut client = door.connect().await;
    let ask = "POST /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n\r\nab";
    client.send(ask).await;
    client.until("POST /ws [ab]").await;
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("GET /next []").await;
    drop(client);
    door.close().await;
}

#[tokio::test]
async fn an_answer_to_an_earlier_request_decides_nothing_about_the_upgrade() {
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
