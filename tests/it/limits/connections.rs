//! How many connections a door has, and who is at its other end.

use std::sync::Arc;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::{self, Address, DoorSpec, Drain, Limits};
use upwarden::testing::telemetry;
use upwarden::testing::telemetry::metrics::Metrics;

use crate::harness::door::echo;
use crate::harness::{Door, PATIENCE, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn over_the_limit_is_a_503_until_one_leaves() {
    for (limits, reason) in [
        (Limits { connections: 2, ..Limits::default() }, "connections"),
        (Limits { connections_per_address: Some(2), ..Limits::default() }, "connections_per_address"),
    ] {
        let door = Door { limits, workers: 2, ..Door::default() }.open(echo);
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = door.connect().await;
            client.send(GET).await;
            client.until("GET / []").await;
            held.push(client);
        }
        let answer = door.talk(GET).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
        door.counted(&format!("upwarden_refused_total{{door=\"public\",reason=\"{reason}\"}} 1")).await;
        door.counted("upwarden_connections{door=\"public\"} 2").await;
        held.pop();
        door.counted("upwarden_connections{door=\"public\"} 1").await;
        let mut client = door.connect().await;
        client.send(GET).await;
        client.until("GET / []").await;
        drop((held, client));
        door.close().await;
    }
}

#[tokio::test]
async fn connections_are_dealt_to_the_least_loaded_worker() {
    let door = Door { workers: 2, ..Door::default() }
        .open(|_, _| async { Response::new(Body::full(std::thread::current().name().unwrap_or_default().to_owned())) });
    let mut clients = Vec::new();
    let mut first = 0;
    for _ in 0..6 {
        let mut client = door.connect().await;
        client.send(GET).await;
        first += usize::from(client.until("worker-").await.ends_with('0'));
        clients.push(client);
    }
    assert_eq!(first, 3);
    drop(clients);
    door.close().await;
}

#[tokio::test]
async fn a_unix_socket_tells_who_is_there_and_its_file_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door.sock");
    let bound = listener::bind(&Address::Unix { path: path.clone(), mode: 0o600, owner: None }).unwrap();
    let spec = DoorSpec {
        door: telemetry::Door::Neighbour,
        bound,
        tls: None,
        h2c: false,
        limits: Limits::default(),
        exempt: Vec::new(),
        descriptors: upwarden::testing::descriptors::Descriptors::new(None),
    };
    let token = CancellationToken::new();
    let drain = Drain { token: token.clone(), timeout: PATIENCE };
    let make = || {
        |_, peer: Arc<listener::Peer>| async move {
            Response::new(Body::full(format!("{:?} {:?}", peer.address, peer.unix.and_then(|ids| ids.pid))))
        }
    };
    let running = tokio::spawn(listener::run(vec![spec], 1, make, Arc::new(Metrics::new()), drain));
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with(&format!("None Some({})", std::process::id())), "{answer}");
    token.cancel();
    within(running).await.unwrap().unwrap();
    assert!(!path.exists());
}
