//! `/upwork/auth/verify` behind real servers, configured by the files under `deploy/`.

mod asked;
mod fronts;

use std::sync::{Arc, Mutex};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use upwarden::testing::body::Body;

use super::{DAY, ME, SECOND};
use crate::harness::{AGENCY, App, Client, FREELANCER, Raw, World, head, listener, logs, until};
use fronts::{Behind, Start, caddy, envoy, fronted, haproxy, nginx};

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
        "x-upwork-assertion",
        "x-upwork-ticket",
        "x-forwarded-user",
        "x-upwarden-secret",
    ];
    let theirs = [
        "forwarded",
        "proxy",
        "x-forwarded-access-token",
        "x-forwarded-by",
        "x-forwarded-client-cert",
        "x-forwarded-method",
        "x-forwarded-path",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-forwarded-tls-client-cert",
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
    let assertions: Vec<_> = seen.headers.get_all("x-upwork-assertion").iter().collect();
    assert_eq!((assertions.len(), seen.header("x-upwork-assertion").split('.').count()), (1, 3), "{seen:?}");
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
    assert_eq!(client.get("/.well-known/upwarden/jwks.json").await.json()["keys"][0]["alg"], "ES256");
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
    let mut later = client.navigate("/later").await;
    if later.status == 303 {
        // A front that gives the client our answer cannot give it our cookie with the app's.
        assert!(later.location().ends_with("/later") && !later.set_cookies().is_empty(), "{later:?}");
        later = client.navigate("/later").await;
    }
    assert_eq!(later.text(), "GET /later\n");
    assert_eq!(world.counters().token.refresh_token, 1);

    // Sign out, and begin another sign-in.
    let ours = client.post("/upwork/auth/logout", "").header("sec-fetch-site", "same-origin").await;
    assert_eq!(ours.location(), "/upwork/auth/logout?done=revoked");
    assert_eq!(client.fetch("/data").await.status, 401);
    assert_eq!(client.navigate("/x").await.status, 303);
}

/// The server in front names the request, for upwarden and the app alike.
async fn one_id_ties_the_logs(world: &World, client: &Client) {
    assert_eq!(world.sign_in_with(client, FREELANCER, "/named").await.location(), "/named");
    assert_eq!(client.get("/named").header("x-request-id", "203.0.113.66").await.status, 200);
    let seen = world.app.last();
    let id = seen.header("x-request-id");
    assert!(id.len() >= 32 && !id.contains("203.0.113.66"), "{id}");
    let asked = format!("\"request_id\":\"{id}\"");
    let logs = logs();
    assert!(logs.lines().any(|line| line.contains(&asked) && line.contains("\"route\":\"verify\"")), "{id}");
}

async fn a_401_has_one_challenge(client: &Client) {
    let refused = client.fetch("/data").await;
    assert_eq!(refused.problem(), "sign-in-required");
    assert_eq!(refused.headers.get_all("www-authenticate").iter().count(), 1, "{refused:?}");
}

/// What the client says about the address it asks for does not reach upwarden.
async fn the_question_is_the_servers_own(start: Start) {
    let (upwarden, app) = (App::new(|_| async { Response::new(Body::empty()) }), App::default());
    let serve = |app: &App| {
        let listener = tokio::net::TcpListener::from_std(listener()).unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(app.clone().serve(listener, String::new()));
        at
    };
    let behind = Behind { upwarden: serve(&upwarden), app: serve(&app) };
    let at = listener().local_addr().unwrap();
    let Some(_front) = start(&behind, at) else { return };
    until("the web server", async || TcpStream::connect(at).await.ok()).await;
    let names = ["x-forwarded-uri", "x-forwarded-method", "x-forwarded-host", "x-original-url", "x-rewrite-url"];
    let lies = names.map(|name| (name, "/203.0.113.66"));
    assert_eq!(Client::at(at).get("/asked").headers(&lies).await.text(), "GET /asked\n");
    let asked = upwarden.last();
    assert_eq!(asked.target, "/upwork/auth/verify");
    for (name, value) in &asked.headers {
        assert!(!value.to_str().unwrap().contains("203.0.113.66"), "{name}: {value:?}");
    }
}

#[tokio::test]
async fn nginx_names_the_request_and_asks_without_the_clients_claims() {
    the_question_is_the_servers_own(nginx).await;
    let Some((world, _front, client, _)) = fronted(World::new(), nginx).await else { return };
    a_401_has_one_challenge(&client).await;
    one_id_ties_the_logs(&world, &client).await;
}

#[tokio::test]
async fn caddy_names_the_request_and_asks_without_the_clients_claims() {
    the_question_is_the_servers_own(caddy).await;
    let Some((world, _front, client, _)) = fronted(World::new(), caddy).await else { return };
    a_401_has_one_challenge(&client).await;
    one_id_ties_the_logs(&world, &client).await;
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

#[tokio::test]
async fn envoy_asks_and_forwards() {
    let Some((world, _front, client, _)) = fronted(World::new(), envoy).await else { return };
    the_round_trip_works(&world, &client).await;
    assert_eq!(client.get("/upwork/auth/verify/data").await.status, 404, "only Envoy itself asks there");
}

#[tokio::test]
async fn haproxy_asks_and_forwards() {
    let Some((world, _front, client, _)) = fronted(World::new(), haproxy).await else { return };
    the_round_trip_works(&world, &client).await;
    assert_eq!(client.get("/upwork/auth/verify").await.status, 404, "only HAProxy itself asks there");
}

/// The routes hold behind a front too, whatever its client claims about the request.
async fn the_routes_hold(start: Start) {
    let routes = serde_json::json!([
        { "path": "/webhook", "methods": ["POST"], "public": true },
        { "path": "/admin", "users": [AGENCY] },
    ]);
    let Some((world, _front, client, _)) = fronted(World::new().set("routes", routes), start).await else { return };
    let lie = [("x-forwarded-uri", "/webhook"), ("x-forwarded-method", "POST")];
    assert_eq!(client.post("/webhook?x=1", "event").await.text(), "POST /webhook?x=1\nevent");
    assert_eq!(client.fetch("/webhook").headers(&lie).await.problem(), "sign-in-required");
    assert_eq!(world.sign_in_with(&client, FREELANCER, "/x").await.location(), "/x");
    assert_eq!(client.fetch("/x").await.text(), "GET /x\n");
    for path in ["/admin", "/Admin/x", "/%61dmin", "/admin.json"] {
        assert_eq!(client.fetch(path).headers(&lie).await.problem(), "not-admitted-here", "{path}");
    }
}

#[tokio::test]
async fn the_routes_hold_behind_every_front() {
    for start in [nginx as Start, caddy, envoy, haproxy] {
        the_routes_hold(start).await;
    }
}

/// The example of RFC 6455 section 1.3: `HAProxy` checks both.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

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
                Some(protocol) => format!(
                    "HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
                ),
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
        let fields = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nSec-WebSocket-Key: {KEY}\r\n{upgrade}"
        );
        raw.send(format!("GET /c HTTP/1.1\r\nHost: {at}\r\nCookie: {cookies}\r\n{fields}\r\n\r\n")).await;
        let answer = raw.until("\r\n\r\n").await.to_ascii_lowercase();
        let seen = heads.lock().unwrap().drain(..).collect::<Vec<_>>().concat();
        let switched = answer.starts_with("http/1.1 101 ") && answer.contains("\r\nupgrade: websocket\r\n");
        if !passes && ["http/1.1 400 ", "http/1.1 403 "].iter().any(|status| answer.starts_with(status)) {
            assert_eq!(seen, "", "{upgrade}: refused by the front");
            continue;
        }
        assert!(if passes { switched } else { switched || answer.starts_with("http/1.1 200 ") }, "{upgrade}: {answer}");
        assert!(seen.contains("x-upwork-user-id") && !seen.contains("\nhttp2-settings:"), "{upgrade}: {seen}");
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
async fn envoy_switches_to_websockets_only() {
    only_websockets_are_switched_to(envoy).await;
}

#[tokio::test]
async fn haproxy_switches_to_websockets_only() {
    only_websockets_are_switched_to(haproxy).await;
}
