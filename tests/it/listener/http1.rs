//! HTTP/1 on raw sockets.

use super::Door;
use super::door::echo;

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_a_refusal_comes_last() {
    let door = Door::default().open(echo);
    let answer = door
        .talk(
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             PUT /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy\
             GET /4 HTTP/1.1\r\nHost : a\r\n\r\n\
             GET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    let found: Vec<_> =
        ["GET /1 []", "POST /2 [abc]", "PUT /3 [xy]", "HTTP/1.1 400", "connection: close", "space_before_colon"]
            .iter()
            .map(|part| answer.find(part).unwrap_or_else(|| panic!("{part} in {answer}")))
            .collect();
    assert!(found.is_sorted(), "{answer}");
    assert!(!answer.contains("/5"), "{answer}");
    assert!(door.counted("upwarden_refused_total{door=\"public\",reason=\"bad_message\"} 1"));
    door.close().await;
}
