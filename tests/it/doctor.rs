//! `upwarden doctor`, by the real binary against a sandbox and an app in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::DATE;
use http::{HeaderValue, Request, Response};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use upwarden::sandbox::{self, Client, Fault, Sandbox, Target, Times};
use upwarden::testing::body::Body;
use upwarden::testing::clock::SystemClock;
use upwarden::testing::listener::plain;
use upwarden::testing::seal::Key;
use upwarden::testing::secret::Secret;

use crate::stores::nodes::{Cluster, SentinelGroup};
use crate::stores::world::{Server, Transport};

const ID: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "73317331beefbeef";

/// An app, an imitation of Upwork, and a configuration for both.
struct World {
    folder: TempDir,
    sandbox: Sandbox,
    upwork: SocketAddr,
    settings: Vec<String>,
    _ended: DropGuard,
}

/// What doctor printed, and its exit code.
struct Report {
    code: i32,
    text: String,
}

impl Report {
    fn has(&self, level: &str, what: &str, part: &str) -> bool {
        self.text.lines().any(|line| {
            line.split_once(" — ").is_some_and(|(head, rest)| {
                head.split_once(' ').is_some_and(|(one, other)| one == level && other.trim() == what)
                    && rest.contains(part)
            })
        })
    }

    fn failed(&self) -> usize {
        self.text.lines().filter(|line| line.starts_with("fail")).count()
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl World {
    /// Upwork's responses have this `Date`, or the real one.
    async fn new(date: Option<&'static str>) -> Self {
        Self::at("http://127.0.0.1:4180", date).await
    }

    /// Upwork knows the callback of this address.
    async fn at(public_url: &str, date: Option<&'static str>) -> Self {
        let ended = CancellationToken::new();
        let (app, app_address) = bound().await;
        let (door, upwork) = bound().await;
        let redirect_uri = format!("{public_url}/upwork/auth/callback");
        let client = Client { id: ID.to_owned(), secret: Secret::new(SECRET), redirect_uri };
        let config = sandbox::Config { clients: vec![client], ..sandbox::Config::default() };
        let sandbox = Sandbox::new(config, Arc::new(SystemClock));
        // Like many frameworks, it refuses a host that it does not know.
        let respond = |request: Request<Body>, _| async move {
            let mut response = Response::new(Body::full("hello"));
            if request.headers().get("host").is_some_and(|host| host == "unknown.example.com") {
                *response.status_mut() = http::StatusCode::FORBIDDEN;
            }
            response
        };
        tokio::spawn(plain::serve(app, respond, ended.clone()));
        let behind = sandbox.clone();
        let answer = move |request, peer| {
            let sandbox = behind.clone();
            async move {
                let mut answer = sandbox.handle(request, peer).await;
                answer.headers_mut().extend(date.map(|date| (DATE, HeaderValue::from_static(date))));
                answer
            }
        };
        tokio::spawn(plain::serve(door, answer, ended.clone()));
        let folder = tempfile::tempdir().unwrap();
        let key = Key::generate().unwrap();
        std::fs::write(folder.path().join("session-key"), key.expose()).unwrap();
        private(&folder.path().join("session-key"));
        let at = |path: &str| format!("http://{upwork}{path}");
        let settings = [
            ("public_url", public_url.to_owned()),
            ("app.url", format!("http://{app_address}")),
            ("upwork.client_id", ID.to_owned()),
            ("upwork.client_secret", SECRET.to_owned()),
            ("upwork.authorize_url", at(sandbox::AUTHORIZE_PATH)),
            ("upwork.token_url", at(sandbox::TOKEN_PATH)),
            ("upwork.revoke_url", at(sandbox::REVOKE_PATH)),
            ("upwork.graphql_url", at(sandbox::GRAPHQL_PATH)),
            ("upwork.api_url", at("")),
            ("service.grant", "client_credentials".to_owned()),
            ("session.key_files", "session-key".to_owned()),
            ("access.users", "1181921839933591552".to_owned()),
        ];
        let settings = settings.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self { folder, sandbox, upwork, settings, _ended: ended.drop_guard() }
    }

    /// Runs doctor. These settings override the others.
    async fn doctor(&self, more: &[&str]) -> Report {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_upwarden"));
        command.arg("doctor").env_clear().current_dir(self.folder.path());
        let overridden = |set: &str| more.iter().any(|other| other.split('=').next() == set.split('=').next());
        for set in self.settings.iter().map(String::as_str).filter(|set| !overridden(set)).chain(more.iter().copied()) {
            command.args(["--set", set]);
        }
        let running = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(SECRET) && !text.contains("oauth2v2_"), "{text}");
        Report { code: output.status.code().unwrap(), text }
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_valid_setup_passes_every_check_and_exits_with_0() {
    let world = World::new(None).await;
    let report = world.doctor(&[]).await;
    assert_eq!((report.code, report.failed()), (0, 0), "{}", report.text);
    for (what, part) in [
        ("app", "answers GET / for the host 127.0.0.1:4180 with 200"),
        ("token endpoint", "accepts this client"),
        ("authorize page", "answers"),
        ("GraphQL API", "401"),
        ("REST API", "401"),
        ("clock", "within a few seconds of Upwork's"),
        ("service", "gets a token"),
        ("session keys", "1;"),
        ("cookie", "upwarden, HttpOnly; SameSite=Lax; Path=/"),
        ("store", "cookie"),
        ("public door", "trusts no proxy"),
        ("admin door", "127.0.0.1:4182"),
        ("access", "1 user(s)"),
    ] {
        assert!(report.has("ok", what, part), "{what}: {part} is missing in\n{}", report.text);
    }
    assert!(
        report.has("warn", "callback", "register exactly http://127.0.0.1:4180/upwork/auth/callback for"),
        "{}",
        report.text
    );
    let counters = world.sandbox.counters();
    assert_eq!(counters.rate_limited, 0);
}

#[tokio::test]
async fn an_app_that_is_down_fails_and_a_wrong_configuration_exits_with_78() {
    let world = World::new(None).await;
    let (gone, address) = bound().await;
    drop(gone);
    let report = world.doctor(&[&format!("app.url=http://{address}")]).await;
    assert_eq!((report.code, report.failed()), (1, 1), "{}", report.text);
    assert!(report.has("fail", "app", "start the app"), "{}", report.text);
    let report = world.doctor(&["log.level=loud", "app.url=nowhere"]).await;
    assert_eq!(report.code, 78, "{}", report.text);
    assert!(report.text.contains("2 problems in the configuration"), "{}", report.text);
}

#[tokio::test]
async fn a_wrong_secret_fails_and_is_not_shown() {
    let world = World::new(None).await;
    let report = world.doctor(&["upwork.client_secret=wr0ngwr0ng"]).await;
    assert_eq!(report.code, 1);
    assert!(report.has("fail", "token endpoint", "invalid_client"), "{}", report.text);
    assert!(report.has("fail", "service", "invalid_client"), "{}", report.text);
    assert!(!report.text.contains("wr0ng"), "{}", report.text);
}

#[tokio::test]
async fn a_redirect_uri_that_upwork_does_not_know_fails() {
    let world = World::new(None).await;
    let report = world.doctor(&["public_url=http://127.0.0.1:4999"]).await;
    assert_eq!((report.code, report.failed()), (1, 1), "{}", report.text);
    let remedy = "--client ID:SECRET:http://127.0.0.1:4999/upwork/auth/callback";
    assert!(report.has("fail", "authorize page", remedy), "{}", report.text);
}

#[tokio::test]
async fn an_app_that_refuses_the_public_host_fails() {
    let world = World::at("https://unknown.example.com", None).await;
    let report = world.doctor(&[]).await;
    assert_eq!((report.code, report.failed()), (1, 1), "{}", report.text);
    assert!(
        report.has("fail", "app", "it refuses the host; allow unknown.example.com in the app (docs/apps.md)"),
        "{}",
        report.text
    );
    let report = world.doctor(&["app.host=app"]).await;
    assert_eq!((report.code, report.failed()), (0, 0), "{}", report.text);
}

#[tokio::test]
async fn a_door_and_a_service_identity_that_can_only_fail_are_reported() {
    let world = World::new(None).await;
    let door = "neighbour.listen=127.0.0.1:4181";
    let mut bare = World::new(None).await;
    bare.settings.retain(|set| !set.starts_with("service.grant"));
    let report = bare.doctor(&[door]).await;
    assert_eq!((report.code, report.failed()), (1, 1), "{}", report.text);
    assert!(report.has("fail", "neighbour door", "every call gets 401"), "{}", report.text);
    assert_eq!(report.text.matches("service.grant or app.tickets").count(), 1, "once: {}", report.text);
    let stored = [door, "service.grant=refresh_token", "store.kind=embedded", "store.path=sessions.db"];
    let report = world.doctor(&stored).await;
    assert_eq!((report.code, report.failed()), (1, 1), "{}", report.text);
    assert!(report.has("fail", "service", "it has no refresh token"), "{}", report.text);
    assert!(report.has("fail", "service", "run `upwarden login`"), "{}", report.text);
    std::fs::write(world.folder.path().join("refresh-token"), "a-token\n").unwrap();
    private(&world.folder.path().join("refresh-token"));
    let report = world.doctor(&[&stored[..], &["service.refresh_token_file=refresh-token"]].concat()).await;
    assert_eq!((report.code, report.failed()), (0, 0), "{}", report.text);
    assert!(report.has("ok", "service", "its file has a refresh token"), "{}", report.text);
    assert!(!world.folder.path().join("sessions.db").exists());
}

#[tokio::test]
async fn a_clock_that_is_off_fails() {
    let world = World::new(Some("Sun, 06 Nov 1994 08:49:37 GMT")).await;
    let report = world.doctor(&[]).await;
    assert_eq!((report.code, report.failed()), (1, 1), "{}", report.text);
    assert!(report.has("fail", "clock", "s ahead of Upwork's; synchronize"), "{}", report.text);
}

#[tokio::test]
async fn a_bot_check_in_front_of_upwork_is_recognized() {
    let world = World::new(None).await;
    world.sandbox.fault(Target::Token, Fault::Html, Times::Always);
    world.sandbox.fault(Target::Api, Fault::Html, Times::Always);
    let report = world.doctor(&[]).await;
    assert_eq!(report.code, 1);
    for what in ["token endpoint", "GraphQL API", "REST API"] {
        assert!(report.has("fail", what, "treats this machine as a bot"), "{what}\n{}", report.text);
    }
    let (gone, address) = bound().await;
    drop(gone);
    let report = world.doctor(&[&format!("upwork.graphql_url=http://{address}/graphql")]).await;
    assert!(report.has("fail", "GraphQL API", "upwork.proxy"), "{}", report.text);
    assert_ne!(world.upwork, address);
}

#[tokio::test]
async fn certificates_are_checked_against_the_name_and_the_time() {
    let world = World::at("https://tools.example.com", None).await;
    let make = |name: &str, host: &str, until: i32| {
        let mut parameters = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = parameters.self_signed(&key).unwrap();
        std::fs::write(world.folder.path().join(format!("{name}.pem")), made.pem()).unwrap();
        std::fs::write(world.folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        format!("{{ cert_file = \"{name}.pem\", key_file = \"{name}.key\" }}")
    };
    let config = |pairs: &[String]| {
        let text = format!("public.tls.certificates = [{}]\n", pairs.join(", "));
        std::fs::write(world.folder.path().join("upwarden.toml"), text).unwrap();
    };
    config(&[make("good", "tools.example.com", 2100)]);
    let report = world.doctor(&["public_url=https://tools.example.com"]).await;
    assert!(report.has("ok", "TLS", "a certificate covers tools.example.com"), "{}", report.text);
    assert!(report.has("ok", "TLS", "at least two more weeks"), "{}", report.text);
    assert!(report.has("ok", "cookie", "__Host-upwarden, HttpOnly; SameSite=Lax; Secure; Path=/"), "{}", report.text);
    config(&[make("old", "other.example.com", 2020)]);
    let report = world.doctor(&["public_url=https://tools.example.com"]).await;
    assert_eq!((report.code, report.failed()), (1, 2), "{}", report.text);
    assert!(report.has("fail", "TLS", "no certificate covers tools.example.com"), "{}", report.text);
    assert!(report.has("fail", "TLS", "old.pem has expired"), "{}", report.text);
}

#[tokio::test]
async fn an_open_door_a_readable_key_and_an_unreachable_store_are_reported() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(None).await;
    let key = world.folder.path().join("session-key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (gone, address) = bound().await;
    drop(gone);
    let report = world
        .doctor(&[
            "public_url=https://tools.example.com",
            "public.listen=0.0.0.0:4180",
            "access.users=",
            "access.anyone=true",
            "store.kind=valkey",
            &format!("store.url=redis://user:s3cr3t@{address}"),
        ])
        .await;
    assert_eq!(report.code, 1, "{}", report.text);
    assert!(report.has("warn", "public door", "without TLS"), "{}", report.text);
    assert!(report.has("warn", "session.key_files", "chmod 600"), "{}", report.text);
    assert!(report.has("warn", "access", "anyone"), "{}", report.text);
    assert!(report.has("fail", "store", "valkey"), "{}", report.text);
    assert!(!report.text.contains("s3cr3t"), "{}", report.text);
}

#[tokio::test]
async fn a_store_is_opened_and_called() {
    let world = World::new(None).await;
    let report = world.doctor(&["store.kind=embedded", "store.path=sessions.db"]).await;
    assert!(report.has("ok", "store", "the first start creates it"), "{}", report.text);
    assert!(!world.folder.path().join("sessions.db").exists());
    let report = world.doctor(&["store.kind=embedded", "store.path=nowhere/sessions.db"]).await;
    assert!(report.has("fail", "store", "create the folder"), "{}", report.text);
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let report = world.doctor(&["store.kind=valkey", &format!("store.url={}", server.url.expose())]).await;
    assert_eq!((report.code, report.failed()), (0, 0), "{}", report.text);
    assert!(report.has("ok", "store", "it answers"), "{}", report.text);
    assert!(!report.text.contains("s3cr3t"), "{}", report.text);
}

#[tokio::test]
async fn a_store_of_several_servers_is_described() {
    let (Some(group), Some(cluster)) = (SentinelGroup::start(), Cluster::start(0)) else { return };
    let world = World::new(None).await;
    let doctor = async |url: &str| world.doctor(&["store.kind=valkey", &format!("store.url={url}")]).await;
    let report = doctor(group.url().expose()).await;
    let primary = format!("the primary is 127.0.0.1:{}, with 1 replica(s)", group.servers[0].port);
    assert!(report.code == 0 && report.has("ok", "store", &primary), "{}", report.text);
    let report = doctor(cluster.url().expose()).await;
    assert!(
        report.has("warn", "store", "3 nodes serve all slots, with 0 replica(s); no server could replace"),
        "{}",
        report.text
    );
    assert_eq!((report.code, report.failed()), (0, 0), "{}", report.text);
    let (server, sentinel, node) = (group.servers[0].port, group.sentinels[0].port, cluster.nodes[0].port);
    for (url, remedy) in [
        (format!("redis://upwarden:s3cr3t@127.0.0.1:{node}"), "write redis+cluster:// instead of redis://"),
        (format!("redis://:w4tch@127.0.0.1:{sentinel}"), "write redis+sentinel://HOST:PORT/NAME"),
        (format!("redis+cluster://upwarden:s3cr3t@127.0.0.1:{server}"), "not a node of a cluster: write redis://"),
        (format!("redis+sentinel://upwarden:s3cr3t@127.0.0.1:{node}/main"), "user and password"),
        (format!("redis+sentinel://upwarden:s3cr3t@127.0.0.1:{sentinel}/main"), "sentinel_password"),
        (
            format!("redis+sentinel://upwarden:s3cr3t@127.0.0.1:{sentinel}/other?sentinel_password=w4tch"),
            "no primary of the name \"other\"",
        ),
    ] {
        let report = doctor(&url).await;
        assert!(report.has("fail", "store", remedy), "{remedy}: {}", report.text);
        assert!(!report.text.contains("s3cr3t") && !report.text.contains("w4tch"), "{}", report.text);
    }
    // The documented permissions, less one.
    for node in &cluster.nodes {
        node.order::<()>(&["ACL", "SETUSER", "upwarden", "-wait"]);
    }
    let report = doctor(cluster.url().expose()).await;
    assert!(report.has("fail", "store", "NOPERM"), "{}", report.text);
}
