//! The neighbour door: who is served, what it offers, and what is refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::UnixStream;

use super::{MUTATION, WHO, ask, settings, whom};
use crate::harness::{Client, FREELANCER, TOKEN, World, between, has, program, until};

#[tokio::test]
async fn without_credentials_the_service_identity_answers() {
    const ME: &str = "{ user { nid } }";
    let world = World::new().start();
    let neighbour = world.neighbour();
    for _ in 0..3 {
        let answer = ask(&neighbour, ME).await;
        assert_eq!(answer.json()["data"]["user"]["nid"], "corgeservice");
        assert!(answer.set_cookies().is_empty() && !answer.text().contains(TOKEN));
    }
    assert!(!whom(&ask(&neighbour, WHO).await).is_empty());
    let rest = neighbour.get("/upwork/api/hr/v2/users/me.json").await;
    assert_eq!(rest.json()["auth_user"]["first_name"], "Corge");
    let rest = neighbour.get("/upwork/api/auth/v1/info.json").await;
    assert_eq!(rest.status, 200, "{}", rest.text());
    assert!(rest.header("ratelimit-policy").contains("w=86400"));
    assert!(rest.set_cookies().is_empty());
    assert_eq!(world.counters().token.client_credentials, 1, "its token is kept");
    world.upwork.sandbox.expire_all();
    assert_eq!(ask(&neighbour, ME).await.status, 200, "a 401 leads to one refresh and one retry");
    assert_eq!(world.counters().token.client_credentials, 2);
    world.turn(Duration::from_hours(24));
    assert_eq!(neighbour.post("/upwork/graphql", "{\"query\":\"{ user { nid } }\"}").await.status, 200);
    assert_eq!(world.counters().token.client_credentials, 3);
}

#[tokio::test]
async fn a_callers_own_bearer_or_cookie_is_ignored() {
    let world = World::new().start();
    let user = world.sign_in(FREELANCER).await;
    let cookie = format!("upwarden={}", user.cookie("upwarden"));
    let answer =
        ask(&world.neighbour(), "{ user { nid } }").header("authorization", "Bearer x").header("cookie", &cookie);
    assert_eq!(answer.await.json()["data"]["user"]["nid"], "corgeservice");
}

#[tokio::test]
async fn only_the_hosts_of_the_door_are_served() {
    let world = World::new().start();
    for host in [
        "evil.example",
        "evil.example:4181",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "tools.example.com:4181",
        "localhost.:1",
        "[::2]",
        "0.0.0.0",
    ] {
        let answer = ask(&world.neighbour().named(host), WHO).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "neighbour-host"), "{host}");
    }
    for host in
        ["localhost", "LOCALHOST", "LOCALHOST:9", "localhost:4181", "127.0.0.1", "127.0.0.1:4181", "[::1]", "[::1]:1"]
    {
        assert_eq!(ask(&world.neighbour().named(host), WHO).await.status, 200, "{host}");
    }
    let renamed = World::new().set("neighbour.hosts", "upwarden.internal").start();
    assert_eq!(ask(&renamed.neighbour().named("upwarden.internal:9"), WHO).await.status, 200);
    assert_eq!(ask(&renamed.neighbour().named("localhost"), WHO).await.problem(), "neighbour-host");
}

#[tokio::test]
async fn what_a_browser_sends_is_refused() {
    let world = World::new().start();
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "http://127.0.0.1"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
    ] {
        let answer = ask(&world.neighbour(), WHO).header(name, value).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "neighbour-browser"), "{name}: {value}");
    }
    assert_eq!(world.counters().api.len(), 0, "nothing was forwarded to Upwork");
    assert_eq!(ask(&world.neighbour(), WHO).header("sec-fetch-site", "none").await.status, 200);
}

#[tokio::test]
async fn only_a_client_with_the_secret_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let world = World::new().set("neighbour.secret_file", file.display()).start();
    for shown in [None, Some("s3cre"), Some("s3creT"), Some("s3cret "), Some("")] {
        let call = ask(&world.neighbour(), WHO);
        let call = match shown {
            Some(text) => call.header("x-upwarden-secret", text),
            None => call,
        };
        let answer = call.await;
        // White space around a field value is not part of it (RFC 9110 section 5.5).
        let expected = if shown == Some("s3cret ") { 200 } else { 403 };
        assert_eq!(answer.status, expected, "{shown:?}");
    }
    assert_eq!(ask(&world.neighbour(), WHO).header("x-upwarden-secret", "s3cret").await.status, 200);
}

#[tokio::test]
async fn a_long_document_is_checked_when_it_is_its_turn_and_a_refused_one_has_used_it() {
    let world = World::new().set("neighbour.read_only", "true").set("pace.per_day", 5).start();
    let long = |operation: &str| format!("{operation} A {{ {} }}", "a ".repeat(4_000));
    let left = async || {
        let answer = ask(&world.neighbour(), WHO).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        between(answer.header("ratelimit"), ";r=", ";").unwrap().parse::<u64>().unwrap()
    };
    let refused = async |query: &str| {
        let answer = ask(&world.neighbour(), query).await;
        (answer.status.as_u16(), answer.problem())
    };
    let before = left().await;
    assert_eq!(refused(MUTATION).await, (403, "read-only".to_owned()));
    assert_eq!(left().await, before - 1, "a short document is checked at once");
    assert_eq!(refused(&long("mutation")).await, (403, "read-only".to_owned()));
    assert_eq!(world.counters().api.values().sum::<u64>(), 2);
    assert_eq!(left().await, before - 3);
    assert_eq!(refused(&long("mutation")).await, (429, "paced".to_owned()));
    assert_eq!(refused(MUTATION).await, (403, "read-only".to_owned()));
    world.turn(Duration::from_hours(24));
    assert_eq!(ask(&world.neighbour(), &long("query")).await.status, 200, "it passes as it came");
}

#[tokio::test]
async fn a_read_only_door_serves_queries_only() {
    let world = World::new().set("neighbour.read_only", "true").start();
    let neighbour = world.neighbour();
    assert_eq!(ask(&neighbour, WHO).await.status, 200);
    assert_eq!(neighbour.get("/upwork/api/auth/v1/info.json").await.status, 200);
    let hidden = [
        MUTATION.to_owned(),
        format!("query A {WHO} {}", MUTATION.replace("mutation", "mutation B")),
        "fragment F on Mutation { createProposalNote(input: {}) { id } } mutation { ...F }".to_owned(),
        "mutation { user: createProposalNote(input: {}) { id } }".to_owned(),
        "subscription { user { id } }".to_owned(),
        "{ user { id }".to_owned(),
    ];
    for query in hidden {
        let answer = ask(&neighbour, &query).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "read-only"), "{query}");
    }
    let batch = format!("[{{\"query\":\"{WHO}\"}},{{\"query\":\"mutation {{ a }}\"}}]");
    let batch = neighbour.post("/upwork/graphql", batch).header("content-type", "application/json").await;
    assert_eq!(batch.problem(), "read-only");
    for call in [
        neighbour.post("/upwork/api/auth/v1/info.json", "{}"),
        neighbour.get("/upwork/api/auth/v1/info.json?http_method=delete"),
        neighbour.get("/upwork/api/auth/v1/info.json?%68ttp_method=put"),
    ] {
        assert_eq!(call.await.problem(), "read-only");
    }
    // GraphQL is checked as GraphQL under any path.
    for path in ["/upwork/api/graphql/", "/upwork/api/graphql/v1", "/upwork/api/v3/GraphQL;a=b"] {
        let query: String = url::form_urlencoded::byte_serialize(MUTATION.as_bytes()).collect();
        let answer = neighbour.get(&format!("{path}?query={query}")).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "read-only"), "{path}");
    }
    let long = serde_json::json!({ "query": format!("{WHO}{}", " ".repeat(1 << 20)) }).to_string();
    let long = neighbour.post("/upwork/graphql", long).header("content-type", "application/json").await;
    assert_eq!((long.status.as_u16(), long.problem().as_str()), (413, "read-only"));
    assert_eq!(world.counters().api.values().sum::<u64>(), 2, "what was refused was not forwarded");
    assert_eq!(world.counters().graphql_mutations, 0);
}

#[tokio::test]
async fn a_parameter_that_only_resembles_http_method_passes() {
    let world = World::new().set("neighbour.read_only", "true").start();
    assert_eq!(world.neighbour().get("/upwork/api/auth/v1/info.json?xhttp_method=1").await.status, 200);
}

#[tokio::test]
async fn the_configured_oauth_endpoints_cannot_be_called() {
    let world = World::new();
    let token_url = "http://127.0.0.1:9/api/v3/issue";
    let world =
        world.set("upwork.token_url", token_url).set("upwork.revoke_url", "http://127.0.0.1:9/api/v3/drop/").start();
    let neighbour = world.neighbour();
    for path in ["/api/v3/issue", "/api/v3/Issue/", "/api/v3/drop", "/api/v3/drop;a=b", "/api/v3/oauth2/token"] {
        let answer = neighbour.post(&format!("/upwork{path}"), "grant_type=client_credentials").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "forbidden-target"), "{path}");
    }
}

#[tokio::test]
async fn the_public_door_may_be_read_only_too() {
    let world = World::new().set("public.read_only", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    assert_eq!(whom(&browser.graphql(WHO).await), FREELANCER);
    assert_eq!(browser.graphql(MUTATION).await.problem(), "read-only");
}

#[tokio::test]
async fn the_unix_socket_has_its_mode_and_its_peers_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, log) = (folder.path().join("neighbour.sock"), folder.path().join("log"));
    let world = World::new().start();
    let mut arguments = settings(&world);
    for (key, value) in [
        ("neighbour.listen", format!("unix:{}", socket.display())),
        ("neighbour.mode", "0600".to_owned()),
        ("public.listen", "127.0.0.1:0".to_owned()),
        ("admin.listen", "127.0.0.1:0".to_owned()),
        ("service.grant", "client_credentials".to_owned()),
        ("drain.delay", "0s".to_owned()),
    ] {
        arguments.push(format!("--set={key}={value}"));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_upwarden"));
    let command = command.env_clear().args(&arguments).stderr(std::fs::File::create(&log).unwrap());
    let mut running = Running(command.spawn().unwrap());
    until("the socket", || async { UnixStream::connect(&socket).await.ok() }).await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = ask(&Client::unix(&socket), WHO).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-request-id");
    let line = until("the access line", || async {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().find(|line| line.contains(id) && line.contains("peer_uid")).map(str::to_owned)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["peer_pid"], &line["door"]), (&std::process::id().into(), &"neighbour".into()), "{line}");
    assert!(line["peer_uid"].is_u64() && line["peer_gid"].is_u64(), "{line}");
    running.0.kill().unwrap();
}

/// The binary as another user than root, with these groups besides its own.
fn unprivileged(groups: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65533", "--regid=65533", "--groups", groups, env!("CARGO_BIN_EXE_upwarden")]).env_clear();
    command
}

#[tokio::test]
async fn the_unix_socket_is_given_to_a_group_or_the_error_names_the_key() {
    // Only root can become others.
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !has(root && program("setpriv").is_some(), "root with setpriv") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65533), None).unwrap();
    let socket = folder.path().join("n.sock");
    let world = World::new().start();
    let arguments = |owner: &str| {
        let own = [
            ("neighbour.listen", format!("unix:{}", socket.display())),
            ("neighbour.owner", owner.to_owned()),
            ("public.listen", "127.0.0.1:0".to_owned()),
            ("admin.listen", "127.0.0.1:0".to_owned()),
            ("service.grant", "client_credentials".to_owned()),
        ];
        let own = own.map(|(key, value)| format!("--set={key}={value}"));
        settings(&world).into_iter().chain(own).collect::<Vec<_>>()
    };
    let _running = Running(unprivileged("65532").args(arguments(":65532")).stderr(Stdio::null()).spawn().unwrap());
    until("the socket", || async { UnixStream::connect(&socket).await.ok() }).await;
    let placed = std::fs::metadata(&socket).unwrap();
    assert_eq!((placed.uid(), placed.gid(), placed.permissions().mode() & 0o777), (65533, 65532, 0o660));
    // In a group of its own, it can give the socket to no other.
    std::fs::remove_file(&socket).unwrap();
    for owner in [":65531", "0:0"] {
        let refused = unprivileged("65532").args(arguments(owner)).output().unwrap();
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(1) && text.contains(&format!("{owner} (neighbour.owner)")), "{text}");
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn only_the_api_is_there() {
    let world = World::new().start();
    let neighbour = world.neighbour();
    for path in [
        "/",
        "/x",
        "/app",
        "/upwork/auth/",
        "/upwork/auth/login",
        "/upwork/auth/session",
        "/upwork/auth/tokens",
        "/upwork/nothing",
    ] {
        assert_eq!(neighbour.get(path).await.problem(), "not-found", "{path}");
        let answer = neighbour.navigate(path).without("sec-fetch-site").await;
        assert!([403, 404].contains(&answer.status.as_u16()), "{path}: {answer:?}");
        assert!(
            answer.problem().len() > 3 && answer.set_cookies().is_empty(),
            "a problem, even for a client that wants HTML"
        );
    }
    assert!(world.app.seen().is_empty());
    for path in ["/upwork/api/../auth/", "/upwork/api/%2e%2e/x"] {
        assert_eq!(neighbour.get(path).await.problem(), "ambiguous-path");
    }
    assert_eq!(neighbour.post("/upwork/api/v3/oauth2/token", "").await.problem(), "forbidden-target");
}

#[tokio::test]
async fn without_a_service_identity_the_answer_says_what_is_missing() {
    let world = World::new().set("service.grant", "").start();
    let answer = ask(&world.neighbour(), WHO).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "no-service-identity"));
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn a_service_identity_that_upwork_refuses_is_a_503() {
    let world = World::new().start();
    world.fault(&serde_json::json!({ "token": "500" }));
    let answer = ask(&world.neighbour(), WHO).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "service-unavailable"));
    let ready = world.admin().get("/readyz").await;
    assert_eq!(ready.status, 200, "the sidecar itself is ready: {}", ready.text());
}
