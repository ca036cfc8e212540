//! Draining under load: every request that was accepted is answered, over HTTP/1, HTTP/2 and TLS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, frame, get};
use crate::harness::{App, BOTH_VERSIONS, Certificate, Raw, Start, connect, full, trusting, until, within};

const ACK: u8 = 1;
/// Requests in flight on one HTTP/2 connection.
const IN_FLIGHT: usize = 5;

/// A client that repeats its request on one connection, as the pool of a load balancer does. It opens another connection when
/// this one is announced to end, and stops when the door is closed. Anything else fails.
async fn over_http_1(sidecar: SocketAddr, answered: Answered) {
    while let Ok(stream) = TcpStream::connect(sidecar).await {
        let mut client = Raw(stream);
        loop {
            client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = client.until("GET /x\n").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answered.fetch_add(1, Ordering::Relaxed);
            if answer.contains("connection: close") {
                break;
            }
        }
    }
}

/// The same with a connection for each request.
async fn over_fresh_connections(sidecar: SocketAddr, answered: Answered) {
    while let Ok(stream) = TcpStream::connect(sidecar).await {
        let mut client = Raw(stream);
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.until("GET /x\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same with several requests in flight over HTTP/2. RFC 9113 section 6.8: requests after the last one that a GOAWAY
/// names may be sent elsewhere; the others must be answered.
async fn over_http_2(sidecar: SocketAddr, answered: Answered) {
    while let Ok(socket) = TcpStream::connect(sidecar).await {
        let mut client = Frames(socket);
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let (mut next, mut open, mut ending) = (1, BTreeSet::new(), false);
        while !(ending && open.is_empty()) {
            while !ending && open.len() < IN_FLIGHT {
                client.send(&frame(HEADERS, END_HEADERS | END_STREAM, next, &get("/x"))).await;
                open.insert(next);
                next += 2;
            }
            let frame = client.next().await.unwrap_or_else(|| panic!("ended with {open:?} unanswered"));
            match frame.kind {
                PING if frame.flags & ACK == 0 => {
                    client.send(&self::frame(PING, ACK, 0, &frame.payload)).await;
                }
                GOAWAY => {
                    let last = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
                    open.retain(|stream| *stream <= last);
                    ending = true;
                }
                DATA if frame.flags & END_STREAM != 0 => {
                    assert!(open.remove(&frame.stream), "{frame:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                kind => assert_ne!(kind, RST_STREAM, "{frame:?}"),
            }
        }
    }
}

/// The same over HTTP/1.1 under TLS.
async fn under_tls(sidecar: SocketAddr, config: Arc<ClientConfig>, answered: Answered) {
    while let Ok(mut stream) = connect(sidecar, &config, "localhost").await {
        loop {
            stream.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            while !answer.ends_with("GET /x\n") {
                let mut space = [0; 1024];
                let count = within(stream.read(&mut space)).await.unwrap();
                assert_ne!(count, 0, "ended after {answer:?}");
                answer.push_str(std::str::from_utf8(&space[..count]).unwrap());
            }
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answered.fetch_add(1, Ordering::Relaxed);
            if answer.contains("connection: close") {
                break;
            }
        }
    }
}

type Answered = Arc<AtomicUsize>;

/// Starts clients by calling `start` several times, and drains while they are busy. Every client must end without an error.
async fn under_load(start: impl Fn(Answered) -> Vec<JoinHandle<()>>, drain: impl AsyncFnOnce()) {
    let (scale, answered) = (if full() { 8 } else { 1 }, Answered::default());
    let clients: Vec<_> = (0..8 * scale).flat_map(|_| start(answered.clone())).collect();
    until("load", async || (answered.load(Ordering::Relaxed) > 200 * scale).then_some(())).await;
    drain().await;
    for client in clients {
        within(client).await.unwrap();
    }
}

/// Two clients that keep their connection, and one that does not.
fn http_1(at: SocketAddr) -> impl Fn(Answered) -> Vec<JoinHandle<()>> {
    move |answered| {
        let kept = [(); 2].map(|()| tokio::spawn(over_http_1(at, answered.clone())));
        kept.into_iter().chain([tokio::spawn(over_fresh_connections(at, answered.clone()))]).collect()
    }
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_and_frees_the_port() {
    let sidecar = Start::with(App::default()).set("drain.delay", "300ms").start();
    let (public, admin) = (sidecar.public, sidecar.admin);
    under_load(http_1(public), async || {
        sidecar.signal("TERM");
        // Readiness drops first, while the doors still serve.
        until("unreadiness", async || (sidecar.admin().get("/readyz").await.status == 503).then_some(())).await;
        assert_eq!(sidecar.client().get("/still").await.status, 200);
    })
    .await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
    let again = Start::with(App::default()).set("public.listen", public).set("admin.listen", admin).start();
    assert_eq!((again.public, again.client().get("/again").await.status.as_u16()), (public, 200));
}

#[tokio::test]
async fn the_drain_command_under_load_loses_no_request() {
    let sidecar = Start::with(App::default()).set("drain.delay", "300ms").start();
    under_load(http_1(sidecar.public), async || {
        let admin = sidecar.admin.to_string();
        let begun = Instant::now();
        let drain = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_upwarden")).args(["drain", "--admin", &admin]).output().unwrap()
        });
        let output = drain.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(begun.elapsed() >= Duration::from_millis(300), "it returns when the delay is over");
    })
    .await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_over_http_2() {
    let sidecar = Start::with(App::default()).set("public.h2c", true).set("drain.delay", "300ms").start();
    let clients = |answered| vec![tokio::spawn(over_http_2(sidecar.public, answered))];
    under_load(clients, async || sidecar.signal("TERM")).await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_under_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let config = Arc::new(trusting(&[&certificate], &BOTH_VERSIONS));
    let sidecar = Start::with(App::default()).tls(&certificate).set("drain.delay", "300ms").start();
    let clients = |answered| vec![tokio::spawn(under_tls(sidecar.public, config.clone(), answered))];
    under_load(clients, async || sidecar.signal("TERM")).await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}
