//! `public.proxy_protocol`: a TCP load balancer in front names its client.

use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::harness::{App, BOTH_VERSIONS, Certificate, Plan, Raw, World, has, listener, logs, program, trusting};
use crate::harness::{until, within};

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xcb\0\x71\x08\x0a\0\0\x01\x12\x34\x01\xbb\x04\0\x04abcd";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn plan() -> Plan {
    World::open(App::default()).set("public.proxy_protocol", true).set("public.trusted_proxies", "127.0.0.1")
}

/// A request that lies about its client.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_client_in_the_header_is_the_client() {
    let world = plan().start();
    for (path, header, client) in [
        ("/by-line", LINE, "203.0.113.7"),
        ("/by-binary", BINARY, "203.0.113.8"),
        ("/by-unknown", b"PROXY UNKNOWN\r\n", ""),
        ("/by-local", LOCAL, ""),
    ] {
        let whole = [header, get(path).as_bytes()].concat();
        let mut at_once = Raw::to(world.public_address()).await;
        at_once.send(&whole).await;
        assert!(at_once.read_to_end().await.starts_with("HTTP/1.1 200 "), "{path}");
        let mut split = TcpStream::connect(world.public_address()).await.unwrap();
        split.set_nodelay(true).unwrap();
        for byte in &whole {
            split.write_all(&[*byte]).await.unwrap();
            split.flush().await.unwrap();
        }
        let mut answer = String::new();
        within(split.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        for seen in world.app.seen().iter().filter(|seen| seen.target == path) {
            assert_eq!((seen.header("x-forwarded-for"), seen.header("x-real-ip")), (client, client), "{path}");
        }
        assert_eq!(world.app.seen().iter().filter(|seen| seen.target == path).count(), 2);
        let logs = logs();
        let line = logs.lines().rfind(|line| line.contains(path)).unwrap();
        assert!(client.is_empty() || line.contains(client), "{line}");
        assert!(!line.contains("6.6.6.6") && !line.contains("127.0.0.1"), "{line}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_in_the_header_is_trusted() {
    let world = plan().set("public.trusted_proxies", "127.0.0.1,203.0.113.7").start();
    let mut client = Raw::to(world.public_address()).await;
    client.send([LINE, get("/").as_bytes()].concat()).await;
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(world.app.last().header("x-forwarded-for"), "6.6.6.6, 203.0.113.7");
}

#[tokio::test]
async fn tls_follows_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let world = plan().tls(&certificate).start();
    let mut socket = TcpStream::connect(world.public_address()).await.unwrap();
    socket.write_all(BINARY).await.unwrap();
    let config = std::sync::Arc::new(trusting(&[&certificate], &BOTH_VERSIONS));
    let connecting = TlsConnector::from(config).connect("localhost".try_into().unwrap(), socket);
    let mut tls = within(connecting).await.unwrap();
    tls.write_all(get("/").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(tls.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(world.app.last().header("x-forwarded-for"), "203.0.113.8");
}

/// Until the public door closes the connection; a reset closes it too.
async fn closed(mut socket: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = within(socket.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn a_connection_without_a_whole_header_is_refused() {
    let get = get("/");
    let oversized = [&BINARY[..14], b"\xff\xff", &[0; 100]].concat();
    let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    for (header, reason) in [
        (get.as_bytes(), "there is no header"),
        (b"PROXY TCP4 203.0.113.7 nowhere 1 2\r\n", "the header cannot be read"),
        (&oversized, "the header is too long"),
        (&endless, "the header is too long"),
        (&LINE[..20], "the header did not come in time"),
        (b"", "the header did not come in time"),
    ] {
        let world = plan().set("public.timeouts.head", "100ms").start();
        let mut socket = TcpStream::connect(world.public_address()).await.unwrap();
        let from = socket.local_addr().unwrap().to_string();
        socket.write_all(header).await.unwrap();
        assert_eq!(closed(socket).await, b"", "{reason}");
        world.refused("proxy_protocol").await;
        let logs = logs();
        let lines: Vec<&str> = logs.lines().filter(|line| line.contains(&from)).collect();
        assert!(lines.len() == 1 && lines[0].contains(reason), "{reason}: {lines:?}");
        assert!(world.app.seen().is_empty());
    }
}

#[tokio::test]
async fn an_address_that_is_not_trusted_may_not_name_a_client() {
    let world = plan().set("public.trusted_proxies", "10.0.0.1").start();
    let mut socket = TcpStream::connect(world.public_address()).await.unwrap();
    // It may be closed before this is written.
    let _ = socket.write_all(&[LINE, get("/").as_bytes()].concat()).await;
    assert_eq!(closed(socket).await, b"");
    world.refused("proxy_protocol").await;
    assert!(world.app.seen().is_empty());
}

#[tokio::test]
async fn connections_count_for_the_client_in_the_header() {
    let world = plan().set("public.limits.connections_per_address", 1).start();
    let open = async |header: &[u8]| {
        let mut client = Raw::to(world.public_address()).await;
        client.send([header, b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
        client
    };
    let mut first = open(LINE).await;
    first.until("GET /open").await;
    let mut second = TcpStream::connect(world.public_address()).await.unwrap();
    second.write_all(LINE).await.unwrap();
    assert_eq!(closed(second).await, b"");
    world.refused("connections_per_address").await;
    open(BINARY).await.until("GET /open").await;
    drop(first);
    until("the place of the first", async || {
        let mut again = TcpStream::connect(world.public_address()).await.unwrap();
        again.write_all(&[LINE, get("/again").as_bytes()].concat()).await.ok()?;
        (!closed(again).await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn haproxy_names_its_client_in_both_versions() {
    let haproxy = program("haproxy")
        .or_else(|| Some("/usr/sbin/haproxy".into()).filter(|path: &std::path::PathBuf| path.is_file()));
    if !has(haproxy.is_some(), "haproxy") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for version in ["send-proxy", "send-proxy-v2"] {
        let world = plan().start();
        let at = listener().local_addr().unwrap();
        let file = folder.path().join(version);
        let config = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen door\n bind {at}\n source 127.0.0.1\n server upwarden {} {version}\n",
            world.public_address()
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(haproxy.as_ref().unwrap());
        command.args(["-q", "-db", "-f"]).arg(&file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("HAProxy", async || TcpStream::connect(at).await.ok()).await;
        let client = TcpSocket::new_v4().unwrap();
        client.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut client = client.connect(at).await.unwrap();
        client.write_all(get("/through").as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(client.read_to_string(&mut answer)).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{version}: {answer}");
        assert_eq!(world.app.last().header("x-forwarded-for"), "127.0.0.2", "{version}");
    }
}
