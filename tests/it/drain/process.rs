//! Leaving: SIGTERM under load loses no request, a second signal ends at once, and the port is free at once.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Response;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use upwarden::testing::body::Body;

use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, frame, get};
use crate::harness::{App, Raw, Sidecar, Start, feed, full, until, within};

/// A client that asks over and over on one connection, as a load balancer's pool does: it opens another where it was told
/// that this one ends, and stops when nobody accepts any more. Anything else fails.
async fn ask_on(sidecar: SocketAddr, answered: Arc<AtomicUsize>) {
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

/// A client with a connection for each request.
async fn ask_afresh(sidecar: SocketAddr, answered: Arc<AtomicUsize>) {
    while let Ok(stream) = TcpStream::connect(sidecar).await {
        let mut client = Raw(stream);
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.until("GET /x\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

async fn under_load(sidecar: &Sidecar, leave: impl AsyncFnOnce()) -> usize {
    let answered = Arc::new(AtomicUsize::new(0));
    let scale = if full() { 8 } else { 1 };
    let mut clients: Vec<_> = (0..16 * scale).map(|_| tokio::spawn(ask_on(sidecar.public, answered.clone()))).collect();
    clients.extend((0..8 * scale).map(|_| tokio::spawn(ask_afresh(sidecar.public, answered.clone()))));
    until("load", async || (answered.load(Ordering::Relaxed) > 200 * scale).then_some(())).await;
    leave().await;
    for client in clients {
        within(client).await.unwrap();
    }
    answered.load(Ordering::Relaxed)
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_and_frees_the_port() {
    let sidecar = Start::with(App::default()).set("drain.delay", "300ms").start();
    let (public, admin) = (sidecar.public, sidecar.admin);
    under_load(&sidecar, async || {
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
async fn upwarden_drain_does_the_same() {
    let sidecar = Start::with(App::default()).set("drain.delay", "300ms").start();
    under_load(&sidecar, async || {
        let admin = sidecar.admin.to_string();
        let begun = Instant::now();
        let told = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_upwarden")).args(["drain", "--admin", &admin]).output().unwrap()
        });
        let told = told.await.unwrap();
        assert!(told.status.success(), "{told:?}");
        assert!(begun.elapsed() >= Duration::from_millis(300), "it returns when the delay is over");
    })
    .await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_http_2_client_that_says_nothing_does_not_hold_the_drain_up() {
    let sidecar = Start::with(App::default()).set("public.h2c", true).set("drain.timeout", "300s").start();
    let mut client = Frames::to(sidecar.public).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    client.body(1).await;
    sidecar.signal("TERM");
    let mut last = Vec::new();
    while let Some(frame) = client.next().await {
        if frame.kind == GOAWAY {
            last.push(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
        }
    }
    // RFC 9113 section 6.8: first that it goes, then what it has taken up.
    assert_eq!(last, [(1 << 31) - 1, 1]);
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn events_flow_through_sigterm_to_their_end() {
    let (events, body) = feed();
    let body = std::sync::Mutex::new(Some(body));
    let app = App::new(move |_| {
        let body = body.lock().unwrap().take().unwrap_or_else(Body::empty);
        async move { Response::new(body) }
    });
    let sidecar = Start::with(app).start();
    let mut client = Raw::to(sidecar.public).await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    events.send("data: 0\n\n".into()).await.unwrap();
    client.until("data: 0\n\n").await;
    sidecar.signal("TERM");
    until("closed doors", async || TcpStream::connect(sidecar.public).await.is_err().then_some(())).await;
    for number in 1..10 {
        events.send(format!("data: {number}\n\n").into()).await.unwrap();
        client.until(&format!("data: {number}\n\n")).await;
    }
    drop(events);
    assert!(client.rest().await.ends_with("0\r\n\r\n"));
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

/// An app whose answer waits until it is let go.
fn patient() -> (App, Arc<AtomicBool>, Arc<Notify>) {
    let (asked, go) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (seen, let_go) = (asked.clone(), go.clone());
    let app = App::new(move |_| {
        let (asked, go) = (asked.clone(), go.clone());
        async move {
            asked.store(true, Ordering::Relaxed);
            go.notified().await;
            Response::new(Body::full("done"))
        }
    });
    (app, seen, let_go)
}

#[tokio::test]
async fn what_is_in_flight_is_finished_before_the_end() {
    let (app, asked, go) = patient();
    let sidecar = Start::with(app).start();
    let mut client = Raw::to(sidecar.public).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the app to be asked", async || asked.load(Ordering::Relaxed).then_some(())).await;
    sidecar.signal("TERM");
    until("closed doors", async || TcpStream::connect(sidecar.public).await.is_err().then_some(())).await;
    go.notify_one();
    let answer = client.rest().await;
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (app, asked, _go) = patient();
    let sidecar = Start::with(app).start();
    let mut client = Raw::to(sidecar.public).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the app to be asked", async || asked.load(Ordering::Relaxed).then_some(())).await;
    sidecar.signal("TERM");
    until("closed doors", async || TcpStream::connect(sidecar.public).await.is_err().then_some(())).await;
    sidecar.signal("TERM");
    let begun = Instant::now();
    assert_eq!(sidecar.ended().await.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(client.rest().await, "", "what was in flight is cut, not answered short");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let (app, asked, _go) = patient();
    let sidecar = Start::with(app).set("drain.timeout", "300ms").start();
    let mut client = Raw::to(sidecar.public).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the app to be asked", async || asked.load(Ordering::Relaxed).then_some(())).await;
    sidecar.signal("TERM");
    assert_eq!(client.rest().await, "");
    assert_eq!(sidecar.ended().await.code(), Some(0));
}
