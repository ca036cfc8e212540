//! The number of connections and of requests, per door and per client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::{self, Address, DoorSpec, Drain, Limits};
use upwarden::testing::telemetry;
use upwarden::testing::telemetry::Metrics;

use crate::harness::door::echo;
use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, frame, get};
use crate::harness::{App, Door, PATIENCE, Raw, World, head, talk, until, within};
use crate::http2::requests::{connect, tls};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Clients that have been answered and stay connected.
async fn connected(world: &World, count: usize) -> Vec<Raw> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Raw::to(world.public_address()).await;
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("GET /held\n").await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn a_connection_over_the_limit_is_a_503_until_another_one_closes() {
    for reason in ["connections", "connections_per_address"] {
        let world = World::open(App::default()).set(&format!("public.limits.{reason}"), 2).start();
        let open = async |count: u64| {
            let name = "upwarden_connections{door=\"public\"}";
            until("the gauge", async || (world.metric(name).await == count).then_some(())).await;
        };
        let mut clients = connected(&world, 2).await;
        let answer = talk(world.public_address(), GET).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
        let name = format!("upwarden_refused_total{{door=\"public\",reason=\"{reason}\"}}");
        until(reason, async || (world.metric(&name).await == 1).then_some(())).await;
        open(2).await;
        assert_eq!(world.admin().get("/readyz").await.status, 200, "the admin door has its own limit");
        clients.pop();
        open(1).await;
        clients.extend(connected(&world, 1).await);
    }
}

#[tokio::test]
async fn a_trusted_proxy_has_no_limit_per_address() {
    let plan = World::open(App::default()).set("public.limits.connections_per_address", 2);
    let world = plan.set("public.trusted_proxies", "127.0.0.0/8").start();
    connected(&world, 3).await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_a_503_under_tls_too() {
    let (server, client) = tls();
    let limits = Limits { connections: 1, ..Limits::default() };
    let door = Door { tls: Some(server), limits, ..Door::default() }.open(echo);
    let mut first = connect(&door, &client, &[b"http/1.1"]).await;
    first.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    within(first.read_exact(&mut some)).await.unwrap();
    // ALPN as a browser offers it.
    let mut second = connect(&door, &client, &[b"h2", b"http/1.1"]).await;
    second.write_all(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(second.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
    drop(first);
    door.close().await;
}

#[tokio::test]
async fn a_connection_goes_to_the_least_loaded_worker() {
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
async fn a_unix_socket_knows_its_peer_and_its_file_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door.sock");
    let bound = listener::bind(&Address::Unix { path: path.clone(), mode: 0o600, owner: None }).unwrap();
    let spec = DoorSpec {
        door: telemetry::Door::Neighbour,
        bound,
        tls: None,
        h2c: false,
        proxy_protocol: false,
        limits: Limits::default(),
        exempt: Vec::new(),
        descriptors: upwarden::testing::descriptors::Descriptors::new(None),
    };
    let token = CancellationToken::new();
    let drain = Drain { token: token.clone(), neighbour: token.clone(), timeout: PATIENCE };
    let make = || {
        |_, peer: Arc<listener::Peer>| {
            let shown = format!("{:?} {:?}", peer.address, peer.unix.and_then(|ids| ids.pid));
            std::future::ready(Response::new(Body::full(shown)).into())
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

/// An app that switches to any protocol and then waits for its client to leave.
fn switching() -> App {
    App::raw(|mut stream| async move {
        let Some(asked) = head(&mut stream).await else { return };
        let answer = if asked.contains("upgrade: echo") {
            "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
}

#[tokio::test]
async fn an_open_websocket_behind_a_trusted_proxy_counts_for_its_client() {
    let world = World::open(switching())
        .set("public.limits.connections_per_address", 2)
        .set("public.trusted_proxies", "127.0.0.0/8")
        .start();
    let ask =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = Raw::to(world.public_address()).await;
        client.send(ask).await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
        open.push(client);
    }
    let get = |client: &'static str| world.client().get("/").header("x-forwarded-for", client);
    assert_eq!(get("203.0.113.9").await.status, 503);
    assert_eq!(get("203.0.113.10").await.status, 200);
    open.pop();
    until("a free place", async || (get("203.0.113.9").await.status == 200).then_some(())).await;
}

/// Each stream is a request, and may hold a connection to the app.
#[tokio::test]
async fn the_streams_of_a_client_count_for_its_address() {
    let silent = App::raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let world = World::open(silent).set("public.limits.connections_per_address", 2).set("public.h2c", true).start();
    let mut client = Frames::to(world.public_address()).await;
    for stream in [1, 3, 5] {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/"))).await;
    }
    // The app answers neither of the first two.
    let mut answered = client.next().await.unwrap();
    while answered.kind != HEADERS {
        answered = client.next().await.unwrap();
    }
    assert_eq!(answered.stream, 5);
    world.refused("connections_per_address").await;
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_has_a_limit_of_requests() {
    let (go, at_work) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let app = {
        let (go, at_work) = (go.clone(), at_work.clone());
        App::new(move |request| {
            let (go, at_work) = (go.clone(), at_work.clone());
            async move {
                if request.uri().path() == "/slow" {
                    let go = go.notified();
                    at_work.fetch_add(1, Ordering::Relaxed);
                    go.await;
                }
                Response::new(Body::empty())
            }
        })
    };
    let world = World::open(app)
        .set("public.limits.connections_per_address", 2)
        .set("public.trusted_proxies", "127.0.0.0/8")
        .start();
    let ask = |path: &str, client: &str| {
        let call = world.client().get(path);
        if client.is_empty() { call } else { call.header("x-forwarded-for", client) }
    };
    let slow: Vec<_> = (0..2).map(|_| tokio::spawn(ask("/slow", "203.0.113.9").open())).collect();
    until("both to be at the app", async || (at_work.load(Ordering::Relaxed) == 2).then_some(())).await;
    let third = ask("/", "203.0.113.9").await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (503, "2"));
    world.refused("connections_per_address").await;
    for other in ["203.0.113.10", ""] {
        assert_eq!(ask("/", other).await.status, 200, "{other:?}");
    }
    go.notify_waiters();
    for slow in slow {
        assert_eq!(slow.await.unwrap().whole().await.status, 200);
    }
    until("a free place", async || (ask("/", "203.0.113.9").await.status == 200).then_some(())).await;
}
