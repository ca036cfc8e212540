//! Answers where no body may be, through the whole sidecar.

use tokio::io::AsyncWriteExt;

use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, get};
use crate::harness::{App, Raw, World, head};

/// An app that answers each request with these bytes, whatever the method.
fn says(answer: &'static str) -> App {
    App::raw(move |mut stream| async move {
        while head(&mut stream).await.is_some() {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test]
async fn a_body_after_head_or_304_is_no_answer_to_the_next_request() {
    let smuggled =
        "HTTP/1.1 200 OK\r\ncontent-length: 47\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil good!";
    let unchanged =
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 41\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for (method, answer, status) in [("HEAD", smuggled, "200"), ("GET", unchanged, "304")] {
        let world = World::open(says(answer)).set("workers", 1).start();
        let mut client = Raw::to(world.public_address()).await;
        for _ in 0..10 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            let got = client.until("\r\n\r\n").await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status}")) && !got.contains("evil"), "{got}");
        }
    }
}

#[tokio::test]
async fn the_version_that_an_app_speaks_is_not_told_to_the_client() {
    let closes = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nto the end").await.unwrap();
    });
    for (app, body) in [(says("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"), "ok"), (closes, "to the end")] {
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let got = client.until(body).await;
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        // The connection is the client's, whatever the app does with its own.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.until(body).await.contains("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn a_body_that_is_wrong_from_its_first_byte_is_a_502() {
    let world = World::open(says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n")).start();
    let answer = world.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-broken"));
    // Behind a body that is whole, the rest is not the client's affair.
    let world = World::open(says("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\n\r\n")).start();
    assert_eq!(world.client().get("/").await.text(), "good");
}

#[tokio::test]
async fn a_head_answer_keeps_the_length_that_the_app_says() {
    let world = World::open(says("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n")).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let got = client.rest().await;
    assert!(got.contains("content-length: 12345\r\n") && got.ends_with("\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn early_hints_end_here_and_the_answer_comes() {
    // hyper's server can send 100 and 101 only.
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let world = World::open(says(hints)).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.until("ok").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_cut_answer_is_cut_over_http_2_too() {
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    });
    let world = World::open(app).set("public.h2c", true).start();
    let mut client = Frames::to(world.public_address()).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    loop {
        let frame = client.next().await.expect("a reset");
        if frame.stream == 1 {
            assert_eq!(frame.flags & END_STREAM, 0, "no end of a short success: {frame:?}");
            if frame.kind == RST_STREAM {
                return;
            }
        }
    }
}
