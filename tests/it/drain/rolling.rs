//! A rolling restart of two replicas under load, in the order of a Kubernetes pod with a native sidecar: the sidecar's
//! preStop hook (`upwarden drain`) runs first, while the app still does; SIGTERM follows once the app has ended.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{App, Sidecar, Start, World, full, until, within};

/// What a client does with its connection between two requests.
#[derive(Clone, Copy)]
enum Connections {
    Kept,
    Fresh,
}

/// Sends GET requests to what `target` names at each new connection, until `end`. Every request must get a 200.
async fn load(
    target: impl Fn() -> SocketAddr,
    path: &str,
    connections: Connections,
    end: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    while !end.load(Relaxed) {
        let mut stream = TcpStream::connect(target()).await.expect("the door is open");
        loop {
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = answer(&mut stream).await;
            assert!(answer.starts_with("http/1.1 200"), "{answer}");
            answered.fetch_add(1, Relaxed);
            let closes = answer.contains("connection: close") || matches!(connections, Connections::Fresh);
            if closes || end.load(Relaxed) {
                break;
            }
        }
    }
}

/// The head of an answer, in lower case; its body is read and dropped.
async fn answer(stream: &mut TcpStream) -> String {
    let (mut read, mut space) = (Vec::new(), [0; 4096]);
    loop {
        let count = within(stream.read(&mut space)).await.unwrap();
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        assert_ne!(count, 0, "ended after {text:?}");
        read.extend_from_slice(&space[..count]);
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if body.len() >= length.parse().unwrap() {
            return head.to_owned();
        }
    }
}

/// A sidecar and its app, which calls the neighbour door all the time.
struct Pod {
    sidecar: Sidecar,
    neighbour: SocketAddr,
    app_ends: Arc<AtomicBool>,
    called: Arc<AtomicUsize>,
    calls: Vec<JoinHandle<()>>,
}

impl Pod {
    async fn start(upwork: &[String]) -> Self {
        let mut start = Start::with(App::default()).set("drain.delay", "3s").set("neighbour.listen", "127.0.0.1:0");
        for line in upwork {
            let (key, value) = line.split_once('=').unwrap();
            start = start.set(key, value);
        }
        let sidecar = start.start();
        let neighbour = sidecar.neighbour.expect("a neighbour door");
        until("readiness", async || (sidecar.admin().get("/readyz").await.status == 200).then_some(())).await;
        let (app_ends, called) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let calls = [Connections::Kept, Connections::Fresh].map(|connections| {
            let (end, called) = (app_ends.clone(), called.clone());
            tokio::spawn(load(move || neighbour, "/upwork/api/auth/v1/info.json", connections, end, called))
        });
        Self { sidecar, neighbour, app_ends, called, calls: calls.into() }
    }

    async fn connections(&self, door: &str) -> u64 {
        let metrics = self.sidecar.admin().get("/metrics").await.text();
        let name = format!("upwarden_connections{{door=\"{door}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }

    /// Waits until the app has called the API as often again.
    async fn calls_on(&self) {
        let before = self.called.load(Relaxed);
        until("calls of the app", async || (self.called.load(Relaxed) > before + 20).then_some(())).await;
    }

    /// Does what Kubernetes does to delete a pod. Returns the number of calls that the app made.
    async fn delete(mut self, endpoints: &Mutex<Vec<SocketAddr>>) -> usize {
        let admin = self.sidecar.admin.to_string();
        let hook = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_upwarden")).args(["drain", "--admin", &admin]).output().unwrap()
        });
        until("unreadiness", async || (self.sidecar.admin().get("/readyz").await.status == 503).then_some(())).await;
        endpoints.lock().unwrap().retain(|endpoint| *endpoint != self.sidecar.public);
        let hook = hook.await.unwrap();
        assert!(hook.status.success(), "{hook:?}");
        until("no clients", async || (self.connections("public").await == 0).then_some(())).await;
        self.calls_on().await;
        assert!(TcpStream::connect(self.sidecar.public).await.is_err(), "the public door is closed");
        self.app_ends.store(true, Relaxed);
        for call in self.calls.drain(..) {
            within(call).await.unwrap();
        }
        self.sidecar.end_app();
        self.sidecar.signal("TERM");
        let (neighbour, called) = (self.neighbour, self.called.load(Relaxed));
        assert_eq!(self.sidecar.ended().await.code(), Some(0));
        assert!(TcpStream::connect(neighbour).await.is_err());
        called
    }
}

#[tokio::test]
async fn a_rolling_restart_of_two_replicas_loses_no_request_at_either_door() {
    let world = World::new().start();
    let upwork: Vec<String> = world
        .settings()
        .iter()
        .filter(|line| ["upwork.", "service.", "pace."].iter().any(|group| line.starts_with(group)))
        .cloned()
        .collect();
    let mut pods = vec![Pod::start(&upwork).await, Pod::start(&upwork).await];
    let endpoints = Arc::new(Mutex::new(pods.iter().map(|pod| pod.sidecar.public).collect::<Vec<_>>()));
    let (end, answered, turn) =
        (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let scale = if full() { 8 } else { 2 };
    let clients: Vec<_> = (0..scale * 3)
        .map(|number| {
            let (endpoints, turn) = (endpoints.clone(), turn.clone());
            // As kube-proxy does: it chooses a replica for each new connection.
            let target = move || {
                let ready = endpoints.lock().unwrap();
                ready[turn.fetch_add(1, Relaxed) % ready.len()]
            };
            let connections = if number % 3 == 0 { Connections::Fresh } else { Connections::Kept };
            tokio::spawn(load(target, "/x", connections, end.clone(), answered.clone()))
        })
        .collect();
    let mut called = 0;
    for _ in 0..2 {
        let new = Pod::start(&upwork).await;
        endpoints.lock().unwrap().push(new.sidecar.public);
        new.calls_on().await;
        pods.push(new);
        called += pods.remove(0).delete(&endpoints).await;
    }
    end.store(true, Relaxed);
    for client in clients {
        within(client).await.unwrap();
    }
    let answered = answered.load(Relaxed);
    assert!(answered > 200 && called > 80, "{answered} requests, {called} calls");
}

#[tokio::test]
async fn the_neighbour_door_closes_after_the_drain_timeout_if_no_signal_follows() {
    let start = Start::with(App::default()).set("neighbour.listen", "127.0.0.1:0").set("drain.timeout", "300ms");
    let sidecar = start.start();
    assert_eq!(sidecar.admin().call(http::Method::POST, "/drain").await.status, 200);
    assert_eq!(sidecar.ended().await.code(), Some(0));
}
