//! A supervisor that passes sockets and waits for readiness, as systemd does; and what systemd reports about the unit.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use crate::harness::{App, Client, PATIENCE, Raw, Start, command, has, program, until, within};
use crate::stores::world::{Server, Transport};

#[tokio::test]
async fn a_restart_with_passed_sockets_refuses_no_connection_while_a_slow_request_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("neighbour.sock");
    let (public, neighbour) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    let (app, asked, go) = App::slow();
    let old = Start::with(app).passed(&public, &neighbour).start();
    let at = public.local_addr().unwrap();
    assert_eq!((old.public, old.client().get("/").await.status.as_u16()), (at, 200));
    let mut waiting = Raw::to(at).await;
    waiting.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within(asked.notified()).await;
    let by_socket = Client::unix(&path);
    assert_eq!(by_socket.get("/none").await.status, 404);

    old.signal("TERM");
    until("unreadiness", async || (old.admin().get("/readyz").await.status == 503).then_some(())).await;
    // Some may still be accepted by the old process; all others wait in the sockets' queues for the new one.
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Raw::to(at).await;
        client.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        clients.push(client);
    }
    let by_socket = tokio::spawn(by_socket.get("/none").into_future());
    go.notify_one();
    assert!(waiting.until("done").await.starts_with("HTTP/1.1 200"), "the slow request is answered");
    assert_eq!(old.ended().await.code(), Some(0));
    // Between the two processes, connections are neither accepted nor refused.
    let mut between = Raw::to(at).await;
    between.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    clients.push(between);
    assert!(path.exists(), "the supervisor's file is left alone");

    let new = Start::with(App::slow().0).passed(&public, &neighbour).start();
    for mut client in clients {
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    }
    assert_eq!(within(by_socket).await.unwrap().status, 404);
    assert_eq!(new.client().get("/").await.status, 200);
    new.signal("TERM");
    assert_eq!(new.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_unix_socket_for_the_public_door_outlives_the_process_that_it_was_passed_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("public.sock");
    let (public, neighbour) =
        (UnixListener::bind(&at).unwrap(), UnixListener::bind(folder.path().join("neighbour.sock")).unwrap());
    let old = Start::with(App::default()).passed_unix(&public, &neighbour).start();
    assert_eq!(Client::unix(&at).get("/").await.status, 200);
    old.signal("TERM");
    assert_eq!(old.ended().await.code(), Some(0));
    assert!(at.exists(), "the supervisor's file is left alone");
    // Between the two processes, connections are neither accepted nor refused.
    let mut waiting = UnixStream::connect(&at).unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    let new = Start::with(App::default()).passed_unix(&public, &neighbour).start();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    new.signal("TERM");
    assert_eq!(new.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_passed_socket_that_belongs_to_no_door_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (public, neighbour) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(folder.path().join("neighbour.sock")).unwrap());
    let start = Start::with(App::default()).passed(&public, &neighbour).set("neighbour.listen", "127.0.0.1:0");
    let (status, log) = start.refused();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("neighbour.sock was passed by the supervisor, but no door listens there"), "{log}");
}

#[tokio::test]
async fn readiness_is_notified_once_the_store_answers_and_the_drain_when_it_begins() {
    let Some(mut server) = Server::start(Transport::Tcp) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    server.kill();
    let sidecar = Start::with(App::default())
        .after(&format!("export NOTIFY_SOCKET={}", path.display()))
        .set("store.kind", "valkey")
        .set("store.url", server.url.expose())
        .start();
    until("the store's outage", async || (sidecar.admin().get("/readyz").await.status == 503).then_some(())).await;
    supervisor.set_nonblocking(true).unwrap();
    let mut text = [0; 64];
    assert!(supervisor.recv(&mut text).is_err(), "the store does not answer yet");
    server.restart();
    supervisor.set_nonblocking(false).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    for state in ["READY=1", "STOPPING=1"] {
        let length = supervisor.recv(&mut text).unwrap();
        assert_eq!(std::str::from_utf8(&text[..length]), Ok(state));
        if state == "READY=1" {
            sidecar.signal("TERM");
        }
    }
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_health_path_of_the_public_door_follows_readiness() {
    let (app, asked, go) = App::slow();
    let sidecar = Start::with(app)
        .set("public.health_path", "/healthz")
        .set("routes", r#"[{"path":"/slow","public":true}]"#)
        .start();
    let client = sidecar.client();
    let answer = client.get("/healthz").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ready\n".to_owned()));
    assert_eq!(client.named("10.0.0.1:4180").get("/healthz").await.status, 200, "health checks ask by address");
    assert_eq!(client.get("/healthz/x").await.status, 401, "any other path is the app's");
    let (mut held, mut kept) = (Raw::to(sidecar.public).await, Raw::to(sidecar.public).await);
    kept.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    kept.until("ready\n").await;
    held.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within(asked.notified()).await;
    sidecar.signal("TERM");
    until("unreadiness", async || (sidecar.admin().get("/readyz").await.status == 503).then_some(())).await;
    kept.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = kept.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready\n"), "{answer}");
    go.notify_one();
    held.until("done").await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

/// A copy of the units in which the program is this build's, because systemd looks for it.
fn units(folder: &std::path::Path) -> Vec<String> {
    let names = ["upwarden.service", "upwarden.socket"];
    names
        .map(|name| {
            let text = std::fs::read_to_string(format!("deploy/{name}")).unwrap();
            let place = folder.join(name);
            std::fs::write(&place, text.replace("/usr/local/bin/upwarden", env!("CARGO_BIN_EXE_upwarden"))).unwrap();
            place.display().to_string()
        })
        .into()
}

#[test]
fn systemd_accepts_the_units_and_finds_little_exposure() {
    if !has(program("systemd-analyze").is_some(), "systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let units = units(folder.path());
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).args(&units).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (accepted, said) = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    assert!(accepted && !said.contains("upwarden"), "{said}");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15", "--no-pager", &units[0]])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let exposure = said.lines().find(|line| line.contains("Overall exposure")).unwrap_or(&said);
    assert!(output.status.success(), "{exposure}");
    assert!(command(&["--version"]).output().unwrap().status.success());
}
