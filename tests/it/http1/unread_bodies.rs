//! Answers that come before their request has ended, and what comes after them on the connection.

use http::{Request, Response, StatusCode};
use upwarden::testing::body::Body;

use crate::harness::{Door, OpenDoor};

const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Answers without a look at the body; from `/one` with a look at its first piece.
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
async fn a_short_body_that_nobody_reads_leaves_the_connection_to_the_next_request() {
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
async fn a_short_body_may_come_after_its_answer() {
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
async fn an_answer_before_a_long_body_says_that_it_is_the_last() {
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

#[tokio::test]
async fn http_1_0_is_told_when_the_end_of_the_connection_ends_the_answer() {
    let door = Door::default().open(|_, _| async {
        let frames = [Ok::<_, upwarden::testing::body::Error>(http_body::Frame::data("no length".into()))];
        Response::new(Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames))))
    });
    let answer = door.talk("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert!(answer.contains("connection: close") && answer.ends_with("no length"), "{answer}");
    door.close().await;
}

#[tokio::test]
async fn http_1_0_names_its_host_in_the_target() {
    let door = Door::default().open(|request: Request<Body>, _| async move {
        let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        Response::new(Body::full(format!("{host:?} {}", request.uri())))
    });
    for (head, seen) in [
        ("GET http://b.example:8080/x HTTP/1.0", "Some(\"b.example:8080\") /x"),
        ("GET /x HTTP/1.0", "None /x"),
        ("GET http://b/x HTTP/1.0\r\nHost: B", "Some(\"B\") /x"),
    ] {
        let answer = door.talk(format!("{head}\r\n\r\n")).await;
        assert!(answer.ends_with(seen), "{answer}");
    }
    door.close().await;
}
