//! Closing doors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use upwarden::testing::body::Body;
use upwarden::testing::listener;

use crate::harness::door::echo;
use crate::harness::{Door, OpenDoor, PATIENCE, feed, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Until the port is free; nobody connects for it, since who meets the very end is refused a second later only.
async fn closed(door: &OpenDoor) {
    let free = async {
        while listener::bind(&listener::Address::Tcp(door.address)).is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_their_connections_closed() {
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let door = {
        let go = go.clone();
        Door::default().open(move |_, _| {
            let (asked, go) = (asked.clone(), go.clone());
            async move {
                asked.send(()).unwrap();
                go.notified().await;
                Response::new(Body::full("done"))
            }
        })
    };
    let mut client = door.connect().await;
    client.send(GET).await;
    within(arrived.recv()).await.unwrap();
    door.drain.cancel();
    within(async { while TcpStream::connect(door.address).await.is_ok() {} }).await;
    // The port is free at once.
    drop(listener::bind(&listener::Address::Tcp(door.address)).unwrap());
    go.notify_one();
    let answer = client.read_to_end().await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("done"), "{answer}");
    door.close().await;
}

#[tokio::test]
async fn a_request_on_its_way_on_an_idle_connection_is_still_answered() {
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
async fn an_answer_that_ends_in_the_drain_leaves_nothing_to_wait_for() {
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
    assert!(!head.contains("connection: close"), "it does not know that it will be the last: {head}");
    asking.send(GET).await;
    asking.until("after").await;
    door.drain.cancel();
    closed(&door).await;
    drop(pieces);
    last.until("0\r\n\r\n").await;
    // What was on its way has its time, counted from the answer's end.
    last.send(GET).await;
    assert!(last.until("after").await.contains("connection: close"));
    door.close().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let door = Door { drain: Duration::from_millis(100), ..Door::default() }.open(move |_, _| {
        asked.send(()).unwrap();
        std::future::pending::<Response<Body>>()
    });
    let mut client = door.connect().await;
    client.send(GET).await;
    within(arrived.recv()).await.unwrap();
    let began = Instant::now();
    door.close().await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_worker_that_ends_early_ends_all() {
    let bound = listener::bind(&listener::Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let spec = listener::DoorSpec {
        door: upwarden::testing::telemetry::Door::Public,
        bound,
        tls: None,
        h2c: false,
        limits: listener::Limits::default(),
        exempt: Vec::new(),
        descriptors: upwarden::testing::descriptors::Descriptors::new(None),
    };
    let drain = listener::Drain { token: tokio_util::sync::CancellationToken::new(), timeout: Duration::ZERO };
    let make = || {
        assert_eq!(std::thread::current().name(), Some("no worker of ours"), "as this test wants it");
        echo
    };
    let ended = within(listener::run(vec![spec], 2, make, Arc::default(), drain)).await;
    assert!(ended.unwrap_err().to_string().contains("worker"));
}
