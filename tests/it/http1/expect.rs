//! `Expect: 100-continue`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::early::blunt;
use crate::harness::{App, Raw, World, head, within};

#[tokio::test]
async fn no_body_is_forwarded_when_the_app_refuses_the_expectation() {
    // A body that is sent all the same would be a request to a server that takes the refusal for the end.
    let body = "POST /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let ask = "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    let ask = format!("{ask}Content-Length: {}\r\n\r\n", body.len());
    for status in ["413 Too Large", "417 Expectation Failed", "401 No"] {
        let answer: &'static [u8] = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nno.\n").leak().as_bytes();
        let (app, mut after) = blunt(answer);
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send(&ask).await;
        let got = client.until("no.\n").await;
        assert!(got.starts_with(&format!("HTTP/1.1 {}", &status[..3])), "no 100 comes first: {got}");
        assert!(got.contains("connection: close\r\n"), "what the client sends next may be the body: {got}");
        client.send(body).await;
        let after = within(after.recv()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&after), "", "no body was forwarded, and the connection was closed");
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn a_client_that_got_no_100_gets_connection_close() {
    // The app's 100 and its answer come at once: the body is asked for, and answered, before the client can be told.
    let (app, _) = blunt(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\ncontent-length: 4\r\n\r\nno.\n");
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 37\r\n\r\n").await;
    let got = client.until("no.\n").await;
    let continued = got.starts_with("HTTP/1.1 100 ");
    assert_ne!(continued, got.contains("connection: close\r\n"), "what follows is either the body or nothing: {got}");
}

#[tokio::test]
async fn http_1_0_neither_expects_100_nor_upgrades() {
    let world = World::open(App::default()).start();
    let mut client = Raw::to(world.public_address()).await;
    client
        .send(
            "POST /up HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: 2\r\n\r\nhi",
        )
        .await;
    let got = client.rest().await;
    assert!(got.starts_with("HTTP/1.0 200") || got.starts_with("HTTP/1.1 200"), "no 100 comes first: {got}");
    let seen = world.app.last();
    assert_eq!((seen.header("expect"), seen.header("upgrade"), seen.header("connection")), ("", "", ""));
}

/// An app that is sent the expectation, sends this, and then sends a body of five bytes back.
fn echoes_five(first: &'static [u8]) -> App {
    App::raw(move |mut stream| async move {
        let head = head(&mut stream).await.unwrap();
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
        stream.write_all(first).await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
    })
}

#[tokio::test]
async fn the_apps_100_releases_the_body() {
    let world = World::open(echoes_five(b"HTTP/1.1 100 Continue\r\n\r\n")).start();
    let mut client = Raw::to(world.public_address()).await;
    let begun = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert!(client.until("hello").await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < Duration::from_millis(900), "there was no wait for a time-out");
}

#[tokio::test]
async fn an_app_that_sends_no_100_gets_the_body_after_a_second() {
    let world = World::open(echoes_five(b"")).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hello").await;
    assert!(client.until("hello").await.starts_with("HTTP/1.1 200"));
}

/// An app that answers finally without a 100, and takes what follows for the next request.
fn reads_on(notes: &Arc<Mutex<Vec<String>>>) -> App {
    let notes = notes.clone();
    App::raw(move |mut stream| {
        let notes = notes.clone();
        async move {
            while let Some(head) = head(&mut stream).await {
                notes.lock().unwrap().push(head.clone());
                if head.starts_with("POST /slow ") {
                    // The body comes only after the wait for a 100, and here without one.
                    let mut first = [0; 1];
                    stream.read_exact(&mut first).await.unwrap();
                }
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
}

#[tokio::test]
async fn a_connection_whose_upstream_sent_no_100_is_used_for_no_other_request() {
    for target in ["/quick", "/slow"] {
        let notes = Arc::default();
        let world = World::open(reads_on(&notes)).start();
        let mut client = Raw::to(world.public_address()).await;
        let hidden = "XGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = hidden.len();
        client
            .send(format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{hidden}"
            ))
            .await;
        client.until(&format!("POST {target} ")).await;
        // The next client gets its own answer.
        let mut victim = Raw::to(world.public_address()).await;
        victim.send("GET /victim HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let got = victim.rest().await;
        assert!(got.contains("GET /victim ") && !got.contains("/hidden"), "{target}: {got}");
    }
}

#[tokio::test]
async fn no_other_form_of_the_expectation_reaches_the_app() {
    for expect in
        ["y 100-continue", "100-continue, x", "100-continue\r\nExpect: x", "x", "100-continue\r\nExpect: 100-continue"]
    {
        let world = World::open(App::default()).start();
        let mut client = Raw::to(world.public_address()).await;
        client
            .send(format!(
                "POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: {expect}\r\nContent-Length: 2\r\n\r\nhi"
            ))
            .await;
        let got = client.rest().await;
        assert!(got.contains("HTTP/1.1 200") && got.ends_with("hi"), "{expect}: {got}");
        assert_eq!(world.app.last().header("expect"), "", "{expect}");
    }
}
