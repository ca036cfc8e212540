//! The drain of a door.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Response;
use upwarden::testing::body::Body;
use upwarden::testing::listener;

use crate::harness::door::{echo, in_extensions};
use crate::harness::{Door, OpenDoor, PATIENCE, feed, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Waits until the port is free, without a connection: one that arrives at the very end is refused only a second later.
async fn closed(door: &OpenDoor) {
    let free = async {
        while listener::bind(&listener::Address::Tcp(door.address)).is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_drain_starts_is_answered() {
    let door = Door::default().open(echo);
    let (mut asking, mut idle) = (door.connect().await, door.connect().await);
    for client in [&mut asking, &mut idle] {
        client.send(GET).await;
        client.until("GET / []").await;
    }
    door.drain.cancel();
    closed(&door).await;
    asking.send(GET).await;
    let answer = asking.read_to_end().await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("GET / []"), "{answer}");
    assert_eq!(idle.read_to_end().await, "");
    door.close().await;
}

#[tokio::test]
async fn a_connection_whose_answer_ends_during_the_drain_is_not_waited_for() {
    let (pieces, body) = feed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let door = Door { drain: PATIENCE * 10, ..Door::default() }.open(move |_, _| {
        let body = body.lock().unwrap().take().unwrap_or_else(|| Body::full("after"));
        async move { Response::new(body) }
    });
    let (mut last, mut asking) = (door.connect().await, door.connect().await);
    last.send(GET).await;
    pieces.send("begun".into()).await.unwrap();
    let head = last.until("begun").await;
    assert!(!head.contains("connection: close"), "when the answer began, it was not the last one: {head}");
    asking.send(GET).await;
    asking.until("after").await;
    door.drain.cancel();
    closed(&door).await;
    drop(pieces);
    last.until("0\r\n\r\n").await;
    // A request that is on its way still has its time, counted from the end of the answer.
    last.send(GET).await;
    assert!(last.until("after").await.contains("connection: close"));
    door.close().await;
}

#[tokio::test]
async fn a_worker_that_fails_ends_the_process() {
    let bound = listener::bind(&listener::Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let spec = listener::DoorSpec {
        door: upwarden::testing::telemetry::Door::Public,
        bound,
        tls: None,
        h2c: false,
        proxy_protocol: false,
        limits: listener::Limits::default(),
        exempt: Vec::new(),
        descriptors: upwarden::testing::descriptors::Descriptors::new(None),
    };
    let drain = listener::Drain {
        token: tokio_util::sync::CancellationToken::new(),
        neighbour: tokio_util::sync::CancellationToken::new(),
        timeout: Duration::ZERO,
    };
    let make = || {
        assert_eq!(std::thread::current().name(), Some("no worker of ours"), "as this test wants it");
        |incoming, peer| Box::pin(echo(in_extensions(incoming), peer).map(Into::into))
    };
    let ended = within(listener::run(vec![spec], 2, make, Arc::default(), drain)).await;
    assert!(ended.unwrap_err().to_string().contains("worker"));
}
