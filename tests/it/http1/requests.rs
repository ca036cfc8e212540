//! HTTP/1 requests at a door: refusals, bodies, pieces, HTTP/1.0.

use std::fmt::Write as _;

use http::{Request, Response};
use tokio::io::AsyncWriteExt;
use upwarden::testing::body::Body;
use upwarden::testing::listener::{Exchange, Limits};

use crate::harness::Door;
use crate::harness::door::echo;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_refused_body_leaves_earlier_answers_intact() {
    let door = Door::default().open(echo);
    let bad = "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n";
    for times in [1, 2, 5] {
        let answer = door.talk(format!("{}{bad}", GET.repeat(times))).await;
        let answers: Vec<_> = answer.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(answers.len(), times + 1, "{answer}");
        let (last, before) = answers.split_last().unwrap();
        assert!(before.iter().all(|one| one.starts_with("200 ") && !one.contains("connection: close")), "{answer}");
        assert!(last.contains("connection: close"), "{answer}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_refused_request_is_answered_and_its_connection_closed() {
    let limits = Limits { head_bytes: 2000, head_fields: 5, body_bytes: Some(4), ..Limits::default() };
    let door = Door { limits, ..Door::default() }.open(echo);
    for (message, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "host_missing"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "method_not_supported"),
        ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_fragment"),
        ("\x16\x03\x01", 400, "tls_on_a_plain_door"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "transfer_encoding_not_supported"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n", 431, "too_many_fields"),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "a".repeat(2000)), 431, "head_too_large"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde", 413, "body_too_large"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            413,
            "body_too_large",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", 400, "chunk_end"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "chunk_size"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
            400,
            "trailer_field",
        ),
    ] {
        let answer = door.talk(format!("{message}{GET}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{message:?} {answer}");
        assert!(answer.ends_with(reason), "{message:?} {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{message:?} {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{message:?} {answer}");
    }
    door.counted("upwarden_refused_total{door=\"public\",reason=\"head_too_large\"} 2").await;
    door.counted("upwarden_refused_total{door=\"public\",reason=\"body_too_large\"} 2").await;
    let head = door.talk("HEAD / HTTP/1.1\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400") && head.ends_with("\r\n\r\n"), "{head}");
    door.close().await;
}

#[tokio::test]
async fn requests_may_arrive_one_byte_at_a_time() {
    let door = Door::default().open(echo);
    let mut client = door.connect().await;
    let message = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for byte in message.as_bytes() {
        client.send([*byte]).await;
        client.0.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = client.read_to_end().await;
    assert!(answer.contains("POST /a [abcde]") && answer.ends_with("GET /b []"), "{answer}");
    door.close().await;
}

#[tokio::test]
async fn a_head_of_the_maximum_size_is_accepted() {
    let limits = Limits::default();
    let mut head = "GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".to_owned();
    for number in 3..limits.head_fields {
        write!(head, "A{number}: b\r\n").unwrap();
    }
    let left = limits.head_bytes - head.len() - "C: \r\n\r\n".len();
    write!(head, "C: {}\r\n\r\n", "c".repeat(left)).unwrap();
    assert_eq!(head.len(), limits.head_bytes);
    let door = Door::default().open(echo);
    let answer = door.talk(&head).await;
    assert!(answer.ends_with("GET /long []"), "{answer}");
    // Behind another request, and in two pieces.
    let (first, second) = head.split_at(40_000);
    let mut client = door.connect().await;
    client.send(format!("{GET}{first}")).await;
    client.until("GET / []").await;
    client.send(second).await;
    assert!(client.read_to_end().await.ends_with("GET /long []"));
    door.close().await;
}

#[tokio::test]
async fn an_absolute_target_reaches_the_handler_as_a_path() {
    let door = Door::default().open(echo);
    let answer = door.talk("GET http://A/b?c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("GET /b?c []"), "{answer}");
    let answer = door.talk("GET http://a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("GET / []"), "{answer}");
    door.close().await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_for_the_handler() {
    let door = Door::default().open(echo);
    for body in
        ["Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nab", "Content-Length: 5\r\n\r\n"]
    {
        let mut client = door.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}")).await;
        client.0.shutdown().await.unwrap();
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("message_cut"), "{body:?} {answer}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_handler_can_ask_why_a_body_was_refused() {
    let door = Door::default().open(|request, _| async move {
        let watch = request.extensions().get::<Exchange>().cloned().unwrap();
        assert!(request.into_body().collect(100).await.is_err());
        Response::new(Body::full(watch.refused().unwrap().reason))
    });
    let message = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz";
    assert!(door.talk(message).await.ends_with("chunk_size"));
    door.close().await;
}

#[tokio::test]
async fn an_answer_of_unknown_length_closes_an_http_1_0_connection() {
    let door = Door::default().open(|_, _| async {
        let frames = [Ok::<_, upwarden::testing::body::Error>(http_body::Frame::data("no length".into()))];
        Response::new(Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames))))
    });
    let answer = door.talk("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert!(answer.contains("connection: close") && answer.ends_with("no length"), "{answer}");
    door.close().await;
}

#[tokio::test]
async fn an_http_1_0_request_is_answered_and_may_name_its_host_in_the_target() {
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
