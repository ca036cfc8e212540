//! Leaving: SIGTERM under load loses no request, a second signal ends at once, and the port is free at once.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use upwarden::body::Body;

use super::Raw;
use super::process::{Sidecar, Start};
use crate::harness::{App, until, within};

/// A client that asks over and over on one connection, as a load balancer's pool does: it opens another where it was told
/// that this one ends, and stops when nobody accepts any more: a connection that the system took into the queue of a socket
/// that was being closed is reset before a byte came, and its request may go elsewhere. Anything else fails.
async fn ask_on(sidecar: std::net::SocketAddr, answered: Arc<AtomicUsize>) {
    while let Ok(stream) = TcpStream::connect(sidecar).await {
        let mut client = Raw(stream);
        let mut fresh = true;
        loop {
            let sent = client.0.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let first = client.0.readable().await.and(client.0.try_read(&mut [0; 9]));
            if fresh && (sent.is_err() || !matches!(first, Ok(9))) {
                break;
            }
            assert!(matches!(first, Ok(9)), "a connection ended without having said so: {first:?}");
            fresh = false;
            let answer = ["HTTP/1.1 ", &client.until("GET /x\n").await].concat();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answered.fetch_add(1, Ordering::Relaxed);
            if answer.contains("connection: close") {
                break;
            }
        }
    }
}

async fn under_load(sidecar: &Sidecar, leave: impl AsyncFnOnce()) -> usize {
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16).map(|_| tokio::spawn(ask_on(sidecar.public, answered.clone()))).collect();
    until("load", async || (answered.load(Ordering::Relaxed) > 200).then_some(())).await;
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
