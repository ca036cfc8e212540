//! The answers that an app may send, and what the client gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderValue, Method, Response};
use tokio::io::AsyncWriteExt;
use upwarden::testing::body::Body;

use crate::harness::{App, Raw, World, head};

/// An app that answers each request of a connection with these bytes.
fn says(answer: &'static str) -> App {
    App::raw(move |mut stream| async move {
        while head(&mut stream).await.is_some() {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
}

/// An app that answers the first request of a connection with these bytes and closes.
pub(crate) fn says_once(answer: &'static str) -> App {
    App::raw(move |mut stream| async move {
        if head(&mut stream).await.is_some() {
            // The client may have left.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
}

#[tokio::test]
async fn a_body_after_a_head_or_304_answer_is_not_taken_for_the_next_answer() {
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
            let length = answer.split("\r\n").find(|line| line.starts_with("content-length: ")).unwrap();
            assert!(got.contains(&format!("{length}\r\n")), "the length of what is not sent stays: {got}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_body_loses_the_fields_that_frame_one_and_its_connection_is_not_used_again() {
    for fields in ["transfer-encoding: chunked", "content-length: 5", "content-length: 5\r\ntransfer-encoding: chunked"]
    {
        for rest in ["", "0\r\n\r\n", "hello", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"] {
            for interim in [false, true] {
                let answers = format!("HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n{rest}");
                let answers = if interim {
                    format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n{rest}")
                } else {
                    answers
                };
                let (connections, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(answers));
                let opened = connections.clone();
                let app = App::raw(move |mut stream| {
                    opened.fetch_add(1, Ordering::Relaxed);
                    let answers = counted.clone();
                    async move {
                        while head(&mut stream).await.is_some() && stream.write_all(answers.as_bytes()).await.is_ok() {}
                    }
                });
                let world = World::open(app).set("workers", 1).start();
                for count in 1..4 {
                    let answer = world.client().call(Method::DELETE, "/x").await;
                    assert_eq!(
                        (answer.status.as_u16(), answer.body.len()),
                        (204, 0),
                        "{fields:?} {rest:?}: {answer:?}"
                    );
                    let left = ["transfer-encoding", "content-length"].map(|name| answer.header(name));
                    assert_eq!(left, ["", ""], "{fields:?}");
                    assert_eq!(connections.load(Ordering::Relaxed), count, "{fields:?} {rest:?}: it is closed");
                }
            }
        }
    }
}

#[tokio::test]
async fn one_length_is_passed_on_where_the_app_says_it_in_several_ways() {
    for lengths in ["content-length: 2\r\ncontent-length: 2", "content-length: 2, 02", "content-length \t: 2"] {
        let world = World::open(says(format!("HTTP/1.1 200 OK\r\nA : b\r\n{lengths}\r\n\r\nok").leak())).start();
        let mut client = Raw::to(world.public_address()).await;
        for method in ["GET", "GET"] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            let got = client.until("\r\n\r\nok").await;
            assert_eq!(got.matches("content-length").count(), 1, "{got}");
            assert!(got.contains("content-length: 2\r\n") && got.contains("\r\nA: b\r\n"), "{got}");
        }
    }
}

#[tokio::test]
async fn an_apps_fields_keep_their_order_and_spelling() {
    let theirs = "X-Again: 1\r\nETag: \"a\"\r\nx-AGAIN: 2\r\nCONTENT-LENGTH: 2\r\nSet-Cookie: b=1\r\nX-Last: 3\r\n";
    let hop_by_hop = "Connection: keep-alive, X-Named\r\nX-Named: 1\r\nX-Request-ID: theirs\r\n";
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let world = World::open(says(format!("{early}HTTP/1.1 200 OK\r\n{hop_by_hop}{theirs}\r\nok").leak())).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let got = client.until("\r\n\r\nok").await;
    let begins = format!("{early}HTTP/1.1 200 OK\r\n{theirs}");
    assert!(got.starts_with(&begins) && !got.contains("Named") && !got.contains("theirs"), "{got}");
}

#[tokio::test]
async fn a_status_of_no_known_class_is_passed_on() {
    let world = World::open(says("HTTP/1.1 799 Odd\r\ncontent-length: 2\r\n\r\nok")).start();
    let answer = world.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (799, "ok"));
}

#[tokio::test]
async fn the_apps_http_version_is_not_passed_on() {
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
        // The client's connection stays open, whatever the app does with its own.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.until(body).await.contains("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn an_invalid_answer_is_a_502() {
    let zz = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n";
    for app in [
        says_once(""),
        says_once("nonsense\r\n\r\n"),
        says_once("HTTP/1.1 200 OK\r\nContent-Le"),
        says_once("SSH-2.0-OpenSSH_9\r\n"),
        says(zz),
    ] {
        let world = World::open(app).start();
        let answer = world.client().get("/").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-broken"));
        assert_eq!(world.client().navigate("/").await.page(), "The app broke off");
    }
    // Bytes after a whole body do not concern the client.
    let world = World::open(says("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\n\r\n")).start();
    assert_eq!(world.client().get("/").await.text(), "good");
}

#[tokio::test]
async fn an_answer_to_head_keeps_the_apps_content_length() {
    let world = World::open(says("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n")).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let got = client.rest().await;
    assert!(got.contains("content-length: 12345\r\n") && got.ends_with("\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn interim_answers_pass_to_an_http_1_1_client() {
    let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nkeep-alive: x\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let world = World::open(says(hints)).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let got = client.until("ok").await;
    let expected =
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert!(got.starts_with(expected), "{got}");
    // RFC 9110 section 15.2: HTTP/1.0 has none.
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.0 200 "));
}

#[tokio::test]
async fn ranges_conditions_and_codings_pass_unchanged() {
    let app = App::new(|request| async move {
        let mut response = Response::new(Body::full(&b"\x1f\x8b\x08\x00raw"[..]));
        *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
        for (name, value) in [
            ("content-range", "bytes 0-6/100"),
            ("content-encoding", "gzip"),
            ("etag", "W/\"x\""),
            ("vary", "accept-encoding"),
            ("last-modified", "Tue, 24 Nov 2026 00:00:00 GMT"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        response
    });
    let world = World::open(app).start();
    let asked = [
        ("range", "bytes=0-6"),
        ("if-range", "W/\"x\""),
        ("accept-encoding", "zstd, br;q=0.5"),
        ("if-modified-since", "Tue, 24 Nov 2026 00:00:00 GMT"),
    ];
    let got = world.client().get("/file").headers(&asked).await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (206, &b"\x1f\x8b\x08\x00raw"[..]));
    assert_eq!((got.header("content-range"), got.header("content-encoding")), ("bytes 0-6/100", "gzip"));
    assert_eq!((got.header("etag"), got.header("content-length")), ("W/\"x\"", "7"));
    for (name, value) in asked {
        assert_eq!(world.app.last().header(name), value);
    }
    let unchanged = world.client().get("/file").header("if-none-match", "W/\"x\"").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("etag"), unchanged.body.len()), (304, "W/\"x\"", 0));
}

#[tokio::test]
async fn any_status_cookie_and_field_of_the_app_passes_unchanged() {
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
    let world = World::open(app).start();
    let answer = world.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-own")), (418, "kept"));
    assert_eq!(answer.set_cookies(), ["a=1", "b=2"]);
    assert_eq!(&answer.body[..], b"\x1f\x8b not really");
}
