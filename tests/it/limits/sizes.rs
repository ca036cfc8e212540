//! The sizes of heads and bodies, by their settings.

use crate::harness::{App, World, talk};

#[tokio::test]
async fn a_head_or_body_over_its_limit_is_refused() {
    let world = World::open(App::default())
        .set("public.limits.head_bytes", "16KiB")
        .set("public.limits.head_fields", 20)
        .set("public.limits.body_bytes", "1KiB")
        .start();
    let at = world.public_address();
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(17 << 10));
    assert!(talk(at, long).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(20));
    assert!(talk(at, many).await.starts_with("HTTP/1.1 431 "));
    world.refused("head_too_large").await;
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
    assert!(talk(at, sized).await.starts_with("HTTP/1.1 413 "));
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("100\r\n{}\r\n", "z".repeat(256)).repeat(5)
    );
    let answer = talk(at, chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    world.refused("body_too_large").await;
    assert!(world.app.seen().iter().all(|seen| seen.method != "GET"), "no refused head reached the app");
}
