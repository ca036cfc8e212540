//! `public.listen = "unix:…"`: a proxy on this machine in front of the public door.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    App, Certificate, Client, FREELANCER, Plan, Start, World, command, has, listener, logs, program, setting, until,
    within,
};
use crate::upgrades::websockets::echo;

fn plan(folder: &Path) -> Plan {
    World::new().public("/open").set("public.listen", format!("unix:{}/public.sock", folder.display()))
}

fn trusting(folder: &Path) -> Plan {
    plan(folder).set("public.trusted_proxies", "unix")
}

/// The answer to exactly these bytes.
async fn raw(folder: &Path, bytes: &str) -> String {
    String::from_utf8(Client::unix(&folder.join("public.sock")).raw(bytes.as_bytes()).await).unwrap()
}

#[tokio::test]
async fn a_user_signs_in_and_opens_a_websocket() {
    let folder = tempfile::tempdir().unwrap();
    let world = trusting(folder.path()).start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/app").await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
    assert_eq!(client.named("elsewhere.example").get("/open").await.status, 200, "public for every host");
    drop(world);
    let world = trusting(folder.path()).app(echo()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/ws").await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    let echo = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(echo, Message::text("hello"));
}

#[tokio::test]
async fn claims_are_used_only_if_the_socket_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    for (trusted, address, forwarded, proto, host) in [
        ("unix", "203.0.113.7", "for=203.0.113.7, for=unknown", "https", "tools.example"),
        (
            "unix,203.0.113.7",
            "198.51.100.1",
            "for=198.51.100.1, for=203.0.113.7, for=unknown",
            "https",
            "tools.example",
        ),
        ("", "", "for=unknown", "http", ""),
        ("203.0.113.7", "", "for=unknown", "http", ""),
    ] {
        let world = plan(folder.path()).set("public.trusted_proxies", trusted).start();
        let chain = if trusted.contains(',') { "198.51.100.1, 203.0.113.7" } else { "203.0.113.7" };
        let request = world.client().get("/open").header("x-forwarded-for", chain);
        let request = request.header("x-forwarded-proto", "https").header("x-forwarded-host", "tools.example");
        let answer = request.await;
        assert_eq!(answer.status, 200);
        let seen = world.app.last();
        assert_eq!(seen.header("x-real-ip"), address, "{trusted}");
        assert_eq!(seen.header("x-forwarded-for"), if address.is_empty() { "" } else { chain }, "{trusted}");
        assert!(seen.header("forwarded").starts_with(forwarded), "{trusted}: {}", seen.header("forwarded"));
        assert_eq!(seen.header("x-forwarded-proto"), proto, "{trusted}");
        assert!(host.is_empty() || seen.header("x-forwarded-host") == host, "{trusted}");
        let logs = logs();
        let line = logs.lines().rfind(|line| line.contains(answer.header("x-request-id"))).unwrap();
        assert!(line.contains("peer_uid") && line.contains(address), "{line}");
        assert!(!address.is_empty() || !line.contains("203.0.113.7"), "{line}");
    }
}

#[tokio::test]
async fn clients_without_an_address_share_no_limit() {
    let folder = tempfile::tempdir().unwrap();
    let limited =
        |plan: Plan| plan.set("public.limits.sign_ins_per_address", 2).set("public.limits.connections_per_address", 1);
    let begin = async |world: &World, chain: &str| {
        // The only slot of an address is free a moment after its last answer was read.
        until("a free place", async || {
            let begun = world.client().navigate("/app").header("x-forwarded-for", chain).await;
            Some(begun.status.as_u16()).filter(|status| *status != 503)
        })
        .await
    };
    let untrusted = limited(plan(folder.path())).start();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(UnixStream::connect(folder.path().join("public.sock")).await.unwrap());
        assert_eq!(begin(&untrusted, "203.0.113.7").await, 303);
    }
    drop((held, untrusted));
    let trusted = limited(trusting(folder.path())).start();
    for (chain, statuses) in
        [("203.0.113.7", [303, 303, 429]), ("203.0.113.8", [303, 303, 429]), ("unix:", [303, 303, 303])]
    {
        for status in statuses {
            assert_eq!(begin(&trusted, chain).await, status, "{chain}");
        }
    }
    drop(trusted);
    let _named = limited(trusting(folder.path())).set("public.proxy_protocol", true).start();
    let request = "GET /app HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n";
    for _ in 0..5 {
        let answer = raw(folder.path(), &format!("PROXY UNKNOWN\r\n{request}")).await;
        assert!(!answer.starts_with("HTTP/1.1 429") && answer.starts_with("HTTP/1.1 "), "{answer}");
    }
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client_and_its_headers_are_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let world = trusting(folder.path()).set("public.proxy_protocol", true).start();
    let request = "GET /open HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    for (line, client) in [("PROXY TCP4 203.0.113.7 10.0.0.1 4660 443", "203.0.113.7"), ("PROXY UNKNOWN", "")] {
        let answer = raw(folder.path(), &format!("{line}\r\n{request}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(world.app.last().header("x-forwarded-for"), client);
    }
    assert_eq!(raw(folder.path(), request).await, "");
    world.refused("proxy_protocol").await;
}

#[tokio::test]
async fn the_socket_has_its_mode_replaces_a_stale_one_and_drains() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("public.sock");
    drop(UnixListener::bind(&path).unwrap());
    let group = std::fs::metadata(&path).unwrap().gid();
    let start = |app: App| {
        let start = Start::with(app).set("public.listen", format!("unix:{}", path.display()));
        start.set("public.trusted_proxies", "unix")
    };
    let (app, asked, go) = App::slow();
    let sidecar = start(app).set("public.mode", "0600").set("public.owner", format!(":{group}")).start();
    let placed = std::fs::metadata(&path).unwrap();
    assert!(placed.file_type().is_socket());
    assert_eq!((placed.permissions().mode() & 0o777, placed.gid()), (0o600, group));
    // Another process does not take it over.
    let (status, log) = start(App::default()).refused();
    assert!(status.code() == Some(1) && log.contains("another process is listening there"), "{log}");
    let waiting = tokio::spawn(Client::unix(&path).get("/slow").into_future());
    within(asked.notified()).await;
    sidecar.signal("TERM");
    until("the end of the socket", async || (!path.exists()).then_some(())).await;
    assert_eq!(sidecar.admin().get("/readyz").await.status, 503);
    go.notify_one();
    let answer = within(waiting).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "done"));
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[test]
fn a_regular_file_is_not_replaced_and_a_foreign_owner_is_named_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("public.sock");
    let start = || Start::with(App::default()).set("public.listen", format!("unix:{}", path.display()));
    std::fs::write(&path, "a file").unwrap();
    let (status, log) = start().refused();
    assert!(status.code() == Some(1) && log.contains("public door") && log.contains("not a socket"), "{log}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    std::fs::remove_file(&path).unwrap();
    // Root may give it to anyone.
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        let (status, log) = start().set("public.owner", "0:0").refused();
        assert!(status.code() == Some(1) && log.contains("0:0 (public.owner)"), "{log}");
    }
}

#[test]
fn check_warns_of_a_socket_that_is_not_trusted_and_refuses_tls_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let check = |more: &str| {
        let mut command = command(&["check"]);
        for set in [
            "public_url=https://localhost",
            "app.url=http://127.0.0.1:9",
            "public.listen=unix:/run/p.sock",
            "upwork.client_id=0123456789abcdef0123456789abcdef",
            "upwork.client_secret=0123456789abcdef",
            "access.users=1",
            "session.keys=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
            more,
        ] {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, text) = check("public.mode=0660");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning: public.listen") && text.contains("limits by address do not apply"), "{text}");
    assert!(text.contains("unix:/run/p.sock (mode 0660) (plain HTTP)") && text.contains("trusts no proxy"), "{text}");
    let (code, text) = check("public.trusted_proxies=unix");
    assert!(code == Some(0) && !text.contains("warning"), "{text}");
    assert!(text.contains("trusts X-Forwarded-* or Forwarded from the Unix socket"), "{text}");
    let (code, text) = check(&format!("public.tls.certificates={}", setting(&[&certificate])));
    assert!(code == Some(78) && text.contains("public.tls.certificates") && text.contains("Unix socket"), "{text}");
}

#[tokio::test]
async fn nginx_in_front_names_its_clients() {
    let nginx = program("nginx").or_else(|| Some("/usr/sbin/nginx".into()).filter(|path: &PathBuf| path.is_file()));
    if !has(nginx.is_some(), "nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = listener().local_addr().unwrap();
    let world = trusting(folder.path()).set("public_url", format!("http://{at}")).start();
    let own = folder.path().display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {own}/{kind};")).join("\n");
    let config = format!(
        "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}\nserver {{ listen {at}; location / {{\n\
         proxy_pass http://unix:{own}/public.sock;\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $remote_addr;\nproxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Host $http_host;\n}} }} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(nginx.unwrap());
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("nginx", async || TcpStream::connect(at).await.ok()).await;
    let client = Client::at(at);
    let signed_in = world.sign_in_with(&client, FREELANCER, "/app").await;
    let answer = client.get("/app").header("x-forwarded-for", "6.6.6.6").await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((signed_in.status.as_u16(), signed_in.header("location")), (303, "/app"));
    assert_eq!(answer.status, 200);
    assert_eq!(world.app.last().header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
}
