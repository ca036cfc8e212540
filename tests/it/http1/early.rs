//! Answers that begin before their request has ended, and the connection afterwards.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use upwarden::testing::body::Body;

use crate::harness::{App, Door, OpenDoor, Raw, World, feed, head, within};
use crate::upstream::answers::says_once;

const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Answers without reading the body, except that `/one` reads its first piece.
fn deaf() -> OpenDoor {
    Door::default().open(|request: Request<Body>, _| async move {
        let path = request.uri().path().to_owned();
        if path == "/one" {
            let _ = http_body_util::BodyExt::frame(&mut request.into_body()).await;
        }
        let mut response = Response::new(Body::full(format!("[{path}]")));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    })
}

fn post(path: &str, rest: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{rest}")
}

fn sized(bytes: usize) -> String {
    format!("Content-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_short_unread_body_does_not_close_the_connection() {
    let door = deaf();
    for path in ["/", "/one"] {
        for body in [sized(5), sized(64 << 10), format!("{CHUNKED}3\r\nabc\r\n0\r\n\r\n")] {
            let answers = door.talk(format!("{}{LAST}", post(path, &body))).await;
            assert_eq!(answers.matches("HTTP/1.1 401").count(), 2, "{answers}");
            assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
            assert!(answers.ends_with("[/last]"), "{answers}");
        }
    }
    door.close().await;
}

#[tokio::test]
async fn a_short_body_may_arrive_after_the_answer() {
    let door = deaf();
    let mut client = door.connect().await;
    client.send(post("/", "Content-Length: 5\r\n\r\n")).await;
    let answer = client.until("[/]").await;
    assert!(!answer.contains("connection: close"), "{answer}");
    client.send(format!("hello{LAST}")).await;
    assert!(client.read_to_end().await.ends_with("[/last]"));
    door.close().await;
}

#[tokio::test]
async fn an_answer_before_a_long_body_closes_the_connection() {
    let door = deaf();
    for body in [
        sized((64 << 10) + 1),
        "Content-Length: 65537\r\n\r\nab".to_owned(),
        format!("{CHUNKED}3\r\nabc\r\n"),
        format!("{CHUNKED}fffff\r\n{}", "x".repeat(70_000)),
        format!("{CHUNKED}z\r\n"),
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n".to_owned(),
        format!("Expect: 100-continue\r\n{}", sized(5)),
    ] {
        let mut client = door.connect().await;
        client.send(post("/", &body)).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("[/]"), "{answer}");
    }
    door.close().await;
}

/// An app that reads the head, sends this answer, and reports what came after the head until the connection ended.
pub(super) fn blunt(answer: &'static [u8]) -> (App, UnboundedReceiver<Vec<u8>>) {
    let (sender, after) = unbounded_channel();
    let app = App::raw(move |mut stream| {
        let sender = sender.clone();
        async move {
            if head(&mut stream).await.is_none() {
                return;
            }
            stream.write_all(answer).await.unwrap();
            let mut after = Vec::new();
            // A reset is an end, too.
            let _ = stream.read_to_end(&mut after).await;
            let _ = sender.send(after);
        }
    });
    (app, after)
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_uploading() {
    for (answer, status, text) in [
        (&b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig"[..], 413, "big"),
        (&b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 3\r\n\r\nwho"[..], 401, "who"),
    ] {
        let (app, _) = blunt(answer);
        let world = World::open(app).start();
        // An upload that never ends.
        let (pieces, body) = feed();
        pieces.send("the first of many".into()).await.unwrap();
        let got = world.client().call(http::Method::POST, "/up").body(body).open().await;
        assert_eq!(got.status, status);
        assert_eq!(got.headers["connection"], "close");
        assert_eq!(got.whole().await.text(), text);
        drop(pieces);
    }
    // Also if the app closes at once and leaves the upload unread.
    let last = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo long";
    let world = World::open(says_once(last)).start();
    for _ in 0..5 {
        let answer = world.client().post("/upload", vec![b'x'; 100_000]).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (413, "too long"));
    }
}

#[tokio::test]
async fn an_upload_that_continues_after_its_answer_is_read_and_dropped() {
    let door = Door::default().open(|_, _| async { Response::new(Body::full("enough")) });
    let client = door.connect().await;
    let (mut read, mut write) = client.0.into_split();
    let sending = tokio::spawn(async move {
        // The client can write until the connection is closed.
        write.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await?;
        let piece = vec![b'a'; 1 << 16];
        for _ in 0..64 {
            write.write_all(&piece).await?;
        }
        write.shutdown().await
    });
    let mut answer = String::new();
    within(read.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("enough"), "{answer}");
    within(sending).await.unwrap().unwrap();
    door.close().await;
}

#[tokio::test]
async fn no_upload_is_forwarded_after_the_end_of_its_answer() {
    for framed in ["content-length: 3\r\n\r\nbig", "transfer-encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n"] {
        let answer: &'static [u8] = format!("HTTP/1.1 413 Too Large\r\n{framed}").leak().as_bytes();
        let (app, mut after) = blunt(answer);
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nbegun").await;
        client.until("big").await;
        let _ = client.0.write_all(b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let after = within(after.recv()).await.unwrap();
        assert!(b"begun".starts_with(&after[..]), "{}", String::from_utf8_lossy(&after));
    }
}

#[tokio::test]
async fn a_refusal_by_upwarden_keeps_the_connection_open() {
    let world = World::new().start();
    for door in [world.public_address(), world.neighbour_address()] {
        let mut client = Raw::to(door).await;
        for _ in 0..3 {
            client.send(format!("POST /upwork/graphql HTTP/1.1\r\nHost: {door}\r\nContent-Length: 5\r\n")).await;
            client.send("Authorization: Bearer upwd_nobodys\r\n\r\n").await;
            let got = client.until("request_id").await;
            assert!(got.contains("HTTP/1.1 401") && !got.contains("connection: close"), "{got}");
            client.send("hello").await;
        }
    }
}

#[tokio::test]
async fn a_pause_in_an_upload_does_not_count_as_the_apps_delay() {
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        let mut body = [0; 10];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole").await.unwrap();
        std::future::pending::<()>().await;
    });
    let world = World::open(app).set("app.timeouts.first_byte", "200ms").start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
    let mut space = [0];
    // Several times the app's time-out.
    assert!(tokio::time::timeout(Duration::from_secs(1), client.0.read(&mut space)).await.is_err(), "no 504 yet");
    client.send("later").await;
    assert!(client.until("whole").await.starts_with("HTTP/1.1 200"));
}
