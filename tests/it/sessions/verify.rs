//! `/upwork/auth/verify` behind a real nginx and a real Caddy, configured by the files under `deploy/`.
//!
//! The tests replace only the addresses in those files, and leave TLS out.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{DAY, ME, SECOND};
use crate::harness::{App, Client, FREELANCER, Plan, Raw, World, has, head, listener, program, until};

const NGINX: &str = include_str!("../../../deploy/nginx/upwarden.conf");
const CADDY: &str = include_str!("../../../deploy/caddy/Caddyfile");

/// A web server in front; dropping this ends it.
struct Front {
    child: Child,
    _folder: tempfile::TempDir,
}

/// Starts a web server at an address, in front of a world.
type Start = fn(&World, SocketAddr) -> Option<Front>;

impl Drop for Front {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text with `from` replaced, which must be there.
fn put(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the file under deploy/ no longer has {from:?}");
    text.replace(from, to)
}

fn nginx(world: &World, at: SocketAddr) -> Option<Front> {
    let mut found = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].iter().map(|path| Path::new(path).to_owned());
    let nginx = program("nginx").or_else(|| found.find(|path| path.is_file()));
    if !has(nginx.is_some(), "nginx") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let site = put(NGINX, "127.0.0.1:4180", &world.address(0).to_string());
    let site = put(&site, "127.0.0.1:3000", &world.app_address().to_string());
    let site = put(&site, "listen 443 ssl;", &format!("listen {at};"));
    let site: Vec<&str> = site.lines().filter(|line| !line.contains("ssl_certificate")).collect();
    let own = folder.path().display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {own}/{kind};")).join("\n");
    let site = site.join("\n");
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}\n{site}\n}}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    let mut command = Command::new(nginx?);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    Some(Front { child: quiet(&mut command), _folder: folder })
}

fn caddy(world: &World, at: SocketAddr) -> Option<Front> {
    let caddy = program("caddy");
    if !has(caddy.is_some(), "caddy") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let site = put(CADDY, "127.0.0.1:4180", &world.address(0).to_string());
    let site = put(&site, "127.0.0.1:3000", &world.app_address().to_string());
    let site = put(&site, "tools.example.com {", &format!("http://{at} {{"));
    let file = folder.path().join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{site}")).unwrap();
    let mut command = Command::new(caddy?);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
    Some(Front { child: quiet(&mut command), _folder: folder })
}

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A world whose public address is the web server's.
async fn fronted(plan: Plan, start: Start) -> Option<(World, Front, Client, SocketAddr)> {
    let at = listener().local_addr().unwrap();
    let plan = plan.set("public_url", format!("http://{at}"));
    let world = plan.set("public.trusted_proxies", "127.0.0.1/32").start();
    let front = start(&world, at)?;
    until("the web server", async || TcpStream::connect(at).await.ok()).await;
    Some((world, front, Client::at(at), at))
}

/// Names that some server could take for one of upwarden's fields: with each separator that a field name may have (RFC 9110
/// section 5.6.2), alone and mixed with the hyphen, which CGI turns into an underscore (RFC 3875 section 4.1.18).
fn spellings(name: &str) -> Vec<String> {
    let separators = "-_.!#$%&'*+^`|~";
    let mixed = |other: char| {
        let swap = |(place, letter): (usize, char)| if letter == '-' && place % 3 == 1 { other } else { letter };
        name.char_indices().map(swap).collect::<String>()
    };
    let alone = separators.chars().map(|other| name.replace('-', &other.to_string()));
    let ends = separators.chars().map(|other| match name.rsplit_once('-') {
        Some((head, tail)) => format!("{head}{other}{tail}"),
        None => name.to_owned(),
    });
    let odd = [name.replacen('-', "-_", 1), name.replacen('-', "_-", 1), name.replace("upwork-", "upwork-_")];
    alone.chain(ends).chain(separators.chars().map(mixed)).chain(odd).collect()
}

/// The app gets upwarden's identity fields, and none that the client claims.
async fn identity_comes_from_upwarden(world: &World, client: &Client, target: &str) {
    let ours = [
        "x-upwork-user-id",
        "x-upwork-user",
        "x-upwork-user-name",
        "x-upwork-organization-id",
        "x-upwork-ticket",
        "x-forwarded-user",
        "x-upwarden-secret",
    ];
    let theirs = [
        "forwarded",
        "x-forwarded-client-cert",
        "x-forwarded-email",
        "x-forwarded-for",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-forwarded-uri",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
    ];
    let theirs = theirs.into_iter().map(|name| vec![name.to_owned(), name.replace('-', "_")]);
    // One name at a time, so that the head does not become too long.
    for spellings in ours.into_iter().map(spellings).chain(theirs) {
        let lies: Vec<_> = spellings.iter().map(|spelling| (spelling.as_str(), "203.0.113.66")).collect();
        let answer = client.navigate(target).headers(&lies).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, format!("GET {target}\n")), "{lies:?}");
        assert_identity(world);
    }
    // A field that `Connection` names ends at the next hop (RFC 9110 section 7.6.1): no client may remove upwarden's fields.
    let answer = client.navigate(target).header("connection", "x-upwork-user-id, X-Forwarded-User").await;
    if answer.status != 400 {
        assert_eq!(answer.text(), format!("GET {target}\n"));
        assert_identity(world);
    }
}

fn assert_identity(world: &World) {
    let seen = world.app.last();
    let expected =
        [("x-upwork-user-id", FREELANCER), ("x-upwork-user", "foofreelancer"), ("x-forwarded-user", "foofreelancer")];
    for (name, value) in expected {
        assert_eq!(seen.headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}: {seen:?}");
    }
    for (name, value) in &seen.headers {
        assert!(!value.to_str().unwrap().contains("203.0.113.66"), "{name}: {value:?}");
    }
}

/// The checks for both servers.
async fn the_round_trip_works(world: &World, client: &Client) {
    // Without a session a navigation is sent to sign in, and everything else gets an error.
    assert_eq!(client.fetch("/data").await.problem(), "sign-in-required");
    assert_eq!(client.post("/form", "typed=1").await.status, 401);
    assert_eq!(client.graphql(ME).await.status, 401);
    assert!(world.app.seen().is_empty(), "nothing of it reached the app");
    let target = "/deep/page?tab=2&q=a%20b";
    assert_eq!(world.sign_in_with(client, FREELANCER, target).await.location(), target);

    identity_comes_from_upwarden(world, client, target).await;
    assert_eq!(client.post("/form", "typed=1").await.text(), "POST /form\ntyped=1");
    // More than nginx's default limit of one megabyte.
    let long = "x".repeat(3 << 20);
    assert_eq!(client.post("/form", long.clone()).await.text().len(), "POST /form\n".len() + long.len());
    assert_eq!(client.graphql(ME).await.json()["data"]["user"]["id"], FREELANCER);
    assert_eq!(client.get("/upwork/auth/session").await.json()["user"]["id"], FREELANCER);

    // The sidecar itself rechecks a session that has to be rechecked.
    world.turn(2 * DAY + SECOND);
    assert_eq!(client.navigate("/later").await.text(), "GET /later\n");
    assert_eq!(world.counters().token.refresh_token, 1);

    // Sign out, and begin another sign-in.
    let ours = client.post("/upwork/auth/logout", "").header("sec-fetch-site", "same-origin").await;
    assert_eq!(ours.location(), "/upwork/auth/logout?done=revoked");
    assert_eq!(client.fetch("/data").await.status, 401);
    assert_eq!(client.navigate("/x").await.status, 303);
}

#[tokio::test]
async fn nginx_asks_and_forwards() {
    let Some((world, _front, client, _)) = fronted(World::new(), nginx).await else { return };
    the_round_trip_works(&world, &client).await;
    assert_eq!(client.get("/upwork/auth/verify").await.status, 404, "only nginx itself asks there");
}

#[tokio::test]
async fn caddy_asks_and_forwards() {
    let Some((world, _front, client, _)) = fronted(World::new(), caddy).await else { return };
    the_round_trip_works(&world, &client).await;
}

/// An app that switches to whatever is asked for, as an app with h2c does, and notes the fields that it was sent.
fn switching(heads: &Arc<Mutex<Vec<String>>>) -> App {
    let heads = heads.clone();
    App::raw(move |mut stream| {
        let heads = heads.clone();
        async move {
            let asked = head(&mut stream).await.unwrap().to_ascii_lowercase();
            let protocol = asked.lines().find_map(|line| line.strip_prefix("upgrade: ")).map(str::to_owned);
            heads.lock().unwrap().push(asked);
            let answer = match protocol {
                Some(protocol) => format!("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"),
                None => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhere".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            // What follows a switch would be requests that no one checks.
            let mut rest = String::new();
            let _ = stream.read_to_string(&mut rest).await;
        }
    })
}

/// h2c would carry requests past the server in front (RFC 9113 section 3.1 withdrew it): only `websocket` is passed on, alone.
async fn only_websockets_are_switched_to(start: Start) {
    let heads = Arc::default();
    let Some((world, _front, client, at)) = fronted(World::new().app(switching(&heads)), start).await else { return };
    assert_eq!(world.sign_in_with(&client, FREELANCER, "/x").await.location(), "/x");
    let cookies = client.jar().field().unwrap();
    for (upgrade, passes) in [
        ("Upgrade: h2c", false),
        ("Upgrade: H2C", false),
        ("Upgrade: TLS/1.2, HTTP/1.1", false),
        ("Upgrade: websocket, h2c", false),
        ("Upgrade: h2c\r\nUpgrade: websocket", false),
        ("Upgrade: websocket\r\nUpgrade: h2c", false),
        ("Upgrade: WebSocket", true),
    ] {
        let mut raw = Raw::to(at).await;
        let fields = format!("Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n{upgrade}");
        raw.send(format!("GET /c HTTP/1.1\r\nHost: {at}\r\nCookie: {cookies}\r\n{fields}\r\n\r\n")).await;
        let answer = raw.until("\r\n\r\n").await.to_ascii_lowercase();
        let seen = heads.lock().unwrap().drain(..).collect::<Vec<_>>().concat();
        let switched = answer.starts_with("http/1.1 101 ") && answer.contains("\r\nupgrade: websocket\r\n");
        assert!(if passes { switched } else { switched || answer.starts_with("http/1.1 200 ") }, "{upgrade}: {answer}");
        assert!(seen.contains("x-upwork-user-id") && !seen.contains("http2-settings"), "{upgrade}: {seen}");
        let asked: Vec<&str> = seen.lines().filter(|line| line.starts_with("upgrade:")).collect();
        assert!(asked.is_empty() || asked == ["upgrade: websocket"], "{upgrade}: {seen}");
    }
}

#[tokio::test]
async fn nginx_switches_to_websockets_only() {
    only_websockets_are_switched_to(nginx).await;
}

#[tokio::test]
async fn caddy_switches_to_websockets_only() {
    only_websockets_are_switched_to(caddy).await;
}

#[tokio::test]
async fn verify_refreshes_nothing_and_sets_no_cookie() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY.saturating_sub(SECOND));
    let answer = client.get("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (204, 0));
    assert_eq!(answer.header("x-upwork-user-id"), FREELANCER);
    world.turn(2 * SECOND);
    let answer = client.get("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (401, 0), "it has to be rechecked");
    assert_eq!(world.counters().token.refresh_token, 0);
    world.turn(14 * DAY);
    let answer = client.navigate("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.header("location"), answer.body.len()), (401, "", 0));
}
