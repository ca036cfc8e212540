//! The end of a process: signals, exit codes, and what is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Response;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use upwarden::testing::body::Body;
use upwarden::testing::listener;

use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, frame, get};
use crate::harness::{App, Raw, Start, feed, until};

#[tokio::test]
async fn a_silent_http_2_client_does_not_delay_the_drain() {
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
    // RFC 9113 section 6.8: the first announces the end, the second names the last request that was accepted.
    assert_eq!(last, [(1 << 31) - 1, 1]);
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_of_events_flows_on_after_sigterm() {
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

/// An app that answers when it is notified.
fn patient() -> (App, Arc<AtomicBool>, Arc<Notify>) {
    let (asked, go) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (seen, release) = (asked.clone(), go.clone());
    let app = App::new(move |_| {
        let (asked, go) = (asked.clone(), go.clone());
        async move {
            asked.store(true, Ordering::Relaxed);
            go.notified().await;
            Response::new(Body::full("done"))
        }
    });
    (app, seen, release)
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_end() {
    let (app, asked, go) = patient();
    let sidecar = Start::with(app).start();
    let mut client = Raw::to(sidecar.public).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the app to be asked", async || asked.load(Ordering::Relaxed).then_some(())).await;
    sidecar.signal("TERM");
    until("closed doors", async || TcpStream::connect(sidecar.public).await.is_err().then_some(())).await;
    // The port is free at once.
    drop(listener::bind(&listener::Address::Tcp(sidecar.public)).unwrap());
    go.notify_one();
    let answer = client.read_to_end().await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("done"), "{answer}");
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
    assert_eq!(client.rest().await, "", "the request in flight is cut, not answered in part");
}

#[tokio::test]
async fn a_request_that_does_not_end_in_time_is_cut() {
    let (app, asked, _go) = patient();
    let sidecar = Start::with(app).set("drain.timeout", "300ms").start();
    let mut client = Raw::to(sidecar.public).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the app to be asked", async || asked.load(Ordering::Relaxed).then_some(())).await;
    let begun = Instant::now();
    sidecar.signal("TERM");
    assert_eq!(client.rest().await, "");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(sidecar.ended().await.code(), Some(0));
}
