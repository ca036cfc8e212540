//! Leaving under load, over HTTP/2 and over TLS: whatever was taken up is answered, and what was not is said to be so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, frame, get};
use crate::harness::{App, BOTH_VERSIONS, Certificate, Sidecar, Start, connect, full, trusting, until, within};

const ACK: u8 = 1;
/// Requests at a time on a connection.
const TOGETHER: usize = 5;

/// A client that keeps some requests in flight, opens another connection where it was told that this one ends, and stops
/// when nobody accepts any more. RFC 9113 section 6.8: what came after the last that was taken up may go elsewhere; the rest
/// must be answered.
async fn ask_on(sidecar: SocketAddr, answered: Arc<AtomicUsize>) {
    while let Ok(socket) = TcpStream::connect(sidecar).await {
        let mut client = Frames(socket);
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let (mut next, mut open, mut told) = (1, BTreeSet::new(), false);
        while !(told && open.is_empty()) {
            while !told && open.len() < TOGETHER {
                client.send(&frame(HEADERS, END_HEADERS | END_STREAM, next, &get("/x"))).await;
                open.insert(next);
                next += 2;
            }
            let frame = client.next().await.unwrap_or_else(|| unreachable!("ended with {open:?} unanswered"));
            match frame.kind {
                PING if frame.flags & ACK == 0 => {
                    client.send(&self::frame(PING, ACK, 0, &frame.payload)).await;
                }
                GOAWAY => {
                    let last = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
                    open.retain(|stream| *stream <= last);
                    told = true;
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

/// The same with one request after the other over TLS, by HTTP/1.1.
async fn ask_privately(sidecar: SocketAddr, config: Arc<ClientConfig>, answered: Arc<AtomicUsize>) {
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

async fn leave<F>(sidecar: Sidecar, client: impl Fn(SocketAddr, Arc<AtomicUsize>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (scale, answered) = (if full() { 8 } else { 1 }, Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8 * scale).map(|_| tokio::spawn(client(sidecar.public, answered.clone()))).collect();
    until("load", async || (answered.load(Ordering::Relaxed) > 200 * scale).then_some(())).await;
    sidecar.signal("TERM");
    for client in clients {
        within(client).await.unwrap();
    }
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_on_http_2() {
    let start = Start::with(App::default()).set("public.h2c", true).set("drain.delay", "300ms");
    leave(start.start(), ask_on).await;
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_under_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let config = Arc::new(trusting(&[&certificate], &BOTH_VERSIONS));
    let start = Start::with(App::default()).tls(&certificate).set("drain.delay", "300ms");
    leave(start.start(), |at, answered| ask_privately(at, config.clone(), answered)).await;
}
