//! Thousands of clients at once: `WebSockets`, idle connections, slow heads, aborts. Fewer if the system allows fewer
//! descriptors; `UPWARDEN_TESTS_QUICK=1` opens two thousand idle connections instead of ten thousand.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Response;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use upwarden::testing::body::Body;

use crate::harness::frames::{CANCEL, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, field, frame, get};
use crate::harness::{App, Raw, Start, full, within};
use crate::upgrades::websockets::echo;

/// How many descriptors this process may have, minus those that other tests need.
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap_or(usize::MAX).saturating_sub(1_000)
}

/// `wanted`, or fewer if each takes `each` descriptors and there are not enough, which is reported.
fn scaled(wanted: usize, each: usize) -> usize {
    let most = descriptors() / each;
    if most < wanted {
        let mut err = std::io::stderr();
        let _ =
            std::io::Write::write_fmt(&mut err, format_args!("left out: {} of {wanted}: ulimit -n\n", wanted - most));
    }
    wanted.min(most)
}

#[tokio::test]
async fn a_thousand_websockets_echo() {
    // Each has two ends in this process: the client's and the app's.
    let count = scaled(1_000, 2);
    let sidecar = Start::with(echo()).start();
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(sidecar.client().websocket("/ws").await.unwrap());
    }
    for round in 0..2 {
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(format!("{round} {number}"))).await.unwrap();
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            let message = within(socket.next()).await.unwrap().unwrap();
            assert_eq!(message, Message::text(format!("{round} {number}")));
        }
    }
    let metrics = sidecar.admin().get("/metrics").await.text();
    assert!(metrics.contains(&format!("upwarden_upgrades {count}\n")), "{metrics}");
}

#[tokio::test]
async fn thousands_of_idle_connections_leave_others_served() {
    let wanted = if full() { 10_000 } else { 2_000 };
    let count = scaled(wanted, 1);
    let sidecar = Start::with(App::default()).set("public.limits.connections", 12_000).start();
    assert_eq!(sidecar.client().get("/first").await.status, 200);
    let before = sidecar.memory();
    let mut idle = Vec::new();
    for _ in 0..count {
        let mut client = Raw::to(sidecar.public).await;
        // Half of them have sent a request before.
        if idle.len() % 2 == 0 {
            client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
            client.until("GET /a\n").await;
        }
        idle.push(client);
    }
    let each = sidecar.memory().saturating_sub(before) / count as u64;
    assert_eq!(sidecar.client().get("/other").await.text(), "GET /other\n");
    let metrics = sidecar.admin().get("/metrics").await.text();
    let line = metrics.lines().find(|line| line.starts_with("upwarden_connections{door=\"public\"} ")).unwrap();
    assert!(line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() >= count, "{line}");
    assert!(each < 64 << 10, "an idle connection costs {each} bytes");
    // They still work.
    for client in idle.iter_mut().step_by(500) {
        client.send("GET /b HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("GET /b\n").await;
    }
}

#[tokio::test]
async fn five_hundred_slow_heads_leave_others_served_and_time_out() {
    let sidecar = Start::with(App::default()).set("public.timeouts.head", "2s").start();
    let mut slow = Vec::new();
    for number in 0..500 {
        let mut client = Raw::to(sidecar.public).await;
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\nx-slow: ")).await;
        slow.push(client);
    }
    for number in 0..20 {
        // A byte now and then does not extend the deadline.
        for client in slow.iter_mut().skip(number).step_by(20) {
            let _ = client.0.write_all(b"y").await;
        }
        let begun = std::time::Instant::now();
        assert_eq!(sidecar.client().get("/other").await.text(), "GET /other\n");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    for mut client in slow {
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

/// An app that answers `/N` with a long text of N and the request's body.
fn numbered() -> App {
    App::new(|request| async move {
        let number = request.uri().path().trim_start_matches('/').to_owned();
        let body = request.into_body().collect(1 << 20).await.unwrap_or_default();
        Response::new(Body::full(format!("<{number} {} {}>", String::from_utf8_lossy(&body), number.repeat(2_000))))
    })
}

#[tokio::test]
async fn aborts_of_all_kinds_mix_up_no_answers() {
    let sidecar = Start::with(numbered()).start();
    let mut tasks = Vec::new();
    for number in 0..500_usize {
        let at = sidecar.public;
        tasks.push(tokio::spawn(async move {
            let mut client = Raw::to(at).await;
            let get = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
            let post = format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n{number:06}");
            match number % 6 {
                // In the head, in the body, after the request, in the answer, at once; one in six stays.
                0 => drop(client.0.write_all(&get.as_bytes()[..20]).await),
                1 => drop(client.0.write_all(&post.as_bytes()[..post.len() - 3]).await),
                2 => drop(client.0.write_all(get.as_bytes()).await),
                3 => {
                    client.send(&post).await;
                    let mut some = [0; 200];
                    let _ = tokio::io::AsyncReadExt::read(&mut client.0, &mut some).await;
                }
                4 => {}
                _ => {
                    for _ in 0..3 {
                        client.send(&post).await;
                        let answer = client.until(">").await;
                        let expected = format!("<{number} {number:06} {}>", number.to_string().repeat(2_000));
                        assert!(answer.ends_with(&expected), "{number}: {}", &answer[..300.min(answer.len())]);
                    }
                }
            }
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
    assert_eq!(sidecar.client().get("/7").await.text(), format!("<7  {}>", "7".repeat(2_000)));
}

#[tokio::test]
async fn aborts_of_all_kinds_mix_up_no_answers_over_http_2() {
    let sidecar = Start::with(numbered()).set("public.h2c", true).start();
    let post = |number: usize| {
        let method = field(":method", "POST");
        [method, field(":scheme", "http"), field(":path", &format!("/{number}")), field(":authority", "a")].concat()
    };
    let mut tasks = Vec::new();
    for hundreds in (0..500_usize).step_by(5) {
        let at = sidecar.public;
        tasks.push(tokio::spawn(async move {
            let mut client = Frames::to(at).await;
            let whole = |number: usize| format!("<{number} {number:06} {}>", number.to_string().repeat(2_000));
            let bytes = [
                // Before the answer, in the body, and in the answer; two requests between them stay.
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &get(&format!("/{hundreds}"))),
                frame(RST_STREAM, 0, 1, &CANCEL),
                frame(HEADERS, END_HEADERS, 3, &post(hundreds + 1)),
                frame(HEADERS, END_HEADERS, 5, &post(hundreds + 2)),
                frame(DATA, 0, 5, b"half"),
                frame(DATA, END_STREAM, 3, format!("{:06}", hundreds + 1).as_bytes()),
                frame(RST_STREAM, 0, 5, &CANCEL),
                frame(HEADERS, END_HEADERS | END_STREAM, 7, &get(&format!("/{}", hundreds + 3))),
            ]
            .concat();
            assert!(client.send(&bytes).await);
            assert_eq!(client.body(3).await, whole(hundreds + 1));
            client.send(&frame(RST_STREAM, 0, 7, &CANCEL)).await;
            client.send(&frame(HEADERS, END_HEADERS, 9, &post(hundreds + 4))).await;
            client.send(&frame(DATA, END_STREAM, 9, format!("{:06}", hundreds + 4).as_bytes())).await;
            if hundreds % 2 == 0 {
                assert_eq!(client.body(9).await, whole(hundreds + 4));
            }
            // In a head, and so in the middle of the connection.
            client.send(&frame(HEADERS, END_HEADERS, 11, &post(hundreds))[..20]).await;
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
    assert_eq!(sidecar.client().get("/7").await.text(), format!("<7  {}>", "7".repeat(2_000)));
}
