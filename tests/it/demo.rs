//! `upwarden demo` by the real binary, as a newcomer runs it, and how it ends.

use std::process::Command;

use super::harness::{App, Client, FREELANCER, Upwarden, command, has, program};

/// `upwarden demo` on free ports, once its greeting is printed.
fn demo() -> Upwarden {
    let free = "127.0.0.1:0";
    let mut demo =
        Upwarden::start(&["demo", "--public", free, "--neighbour", free, "--admin", free, "--sandbox", free]);
    demo.line_with("Press Ctrl-C to stop");
    demo
}

/// The first address on the line that contains `part`.
fn address(demo: &Upwarden, part: &str) -> String {
    let line = demo.said.lines().find(|line| line.contains(part)).expect("the greeting says it");
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
    address.trim_end_matches(['/', '…', ',']).trim_end_matches("/upwork").trim_end_matches("/readyz").to_owned()
}

/// The curl commands of the greeting, with their continuation lines.
fn curl_lines(demo: &Upwarden) -> Vec<String> {
    demo.said.split("\n\n").filter(|part| part.starts_with("curl ")).map(str::to_owned).collect()
}

/// A client at one of the demo's doors.
fn client(demo: &Upwarden, part: &str) -> Client {
    Client::at(address(demo, part).trim_start_matches("http://").parse().expect("an address"))
}

/// A browser in which the freelancer has signed in.
async fn sign_in(demo: &Upwarden) -> Client {
    let browser = client(demo, "sample app");
    let asked = browser.navigate("/deep?x=1").await.location();
    let form = format!("account={FREELANCER}&decision=accept");
    let said = client(demo, "sandbox").post(&asked, form).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(browser.navigate(&said.await.location()).await.location(), "/deep?x=1");
    browser
}

#[test]
fn the_demos_curl_commands_work_when_pasted_and_sigterm_ends_it() {
    if !has(program("curl").is_some(), "curl") {
        return;
    }
    let demo = demo();
    let lines = curl_lines(&demo);
    assert_eq!(lines.len(), 2, "{}", demo.said);
    for line in &lines {
        let pasted = Command::new("sh").args(["-c", line]).output().expect("sh starts");
        let text = String::from_utf8_lossy(&pasted.stdout).into_owned();
        assert!(pasted.status.success() && text.contains("orge"), "{line}: {pasted:?}");
        assert!(!text.contains("oauth2v2_"));
    }
    let admin = address(&demo, "health and metrics");
    let admin = admin.trim_start_matches("http://");
    let health = command(&["health", "--admin", admin]).output().expect("it starts");
    assert_eq!(health.status.code(), Some(0), "{health:?}");

    demo.signal("TERM");
    let (status, log) = demo.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("oauth2v2_"), "{log}");
    let health = command(&["health", "--admin", admin]).output().expect("it starts");
    assert_eq!(health.status.code(), Some(1), "nothing listens any more: {health:?}");
}

#[tokio::test]
async fn a_user_signs_in_to_the_demo_and_calls_the_api() {
    let demo = demo();
    let client = sign_in(&demo).await;
    let page = client.navigate("/deep?x=1").await.text();
    assert!(page.contains("<span id=\"user\">Foo Bar</span>"), "{page}");
    assert_eq!(client.graphql("{ user { nid } }").await.json()["data"]["user"]["nid"], "foofreelancer");
    let server = client.get("/as-service").await;
    assert_eq!(server.json()["data"]["user"]["nid"], "corgeservice");
    assert_eq!(client.get("/health").await.text(), "ok\n");
    demo.signal("INT");
    let (status, log) = demo.ended();
    assert_eq!(status.code(), Some(0), "Ctrl-C is a graceful shutdown: {log}");
    for secret in [client.cookie("upwarden"), "oauth2v2_".to_owned()] {
        assert!(!log.contains(&secret), "{log}");
    }
}

/// The user's own app, and a door on every interface, as in a container.
#[tokio::test]
async fn the_users_own_app_is_signed_in_to_at_localhost() {
    let app = App::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(app.clone().serve(listener, String::new()));
    let everywhere = "0.0.0.0:0";
    let mut demo = Upwarden::start(&[
        "demo",
        "--app",
        &url,
        "--public",
        everywhere,
        "--sandbox",
        everywhere,
        "--neighbour",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    demo.line_with("Press Ctrl-C to stop");
    assert_eq!(address(&demo, "your app itself"), url, "{}", demo.said);
    assert!(demo.said.contains("Everyone who reaches the public door can sign in"), "{}", demo.said);
    let at = |part: &str| {
        let address = address(&demo, part);
        let port = address.strip_prefix("http://localhost:").expect("at localhost");
        Client::at(format!("127.0.0.1:{port}").parse().expect("an address")).named(&format!("localhost:{port}"))
    };
    let browser = at("behind upwarden");
    let asked = browser.navigate("/deep?x=1").await.location();
    let form = format!("account={FREELANCER}&decision=accept");
    let said = at("not the real Upwork").post(&asked, form).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(browser.navigate(&said.await.location()).await.location(), "/deep?x=1");
    assert_eq!(browser.navigate("/deep?x=1").await.status, 200);
    assert_eq!(app.last().header("x-upwork-user"), "foofreelancer");
    demo.signal("TERM");
    assert_eq!(demo.ended().0.code(), Some(0));
}

#[tokio::test]
async fn the_lines_that_the_sandbox_prints_are_a_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sandbox = Upwarden::start(&["sandbox", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    sandbox.line_with("Press Ctrl-C to stop");
    let lines: Vec<_> = sandbox.said.lines().filter(|line| line.contains(" = ")).collect();
    let file = folder.path().join("upwarden.toml");
    std::fs::write(&file, lines.join("\n")).expect("it is written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let check = command(&["check", "--strict"]).current_dir(folder.path()).output().expect("it starts");
    assert_eq!(check.status.code(), Some(0), "{}\n{check:?}", sandbox.said);
    let doctor = command(&["doctor"]).current_dir(folder.path()).output().expect("it starts");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    for what in ["token endpoint", "authorize page", "GraphQL API", "REST API"] {
        assert!(said.lines().any(|line| line.starts_with("ok") && line.contains(what)), "{what}: {said}");
    }
    let refused = address(&sandbox, "imitates");
    let client = Client::at(refused.trim_start_matches("http://").parse().expect("an address"));
    let target = "/ab/account-security/oauth2/authorize?response_type=code&client_id=0123456789abcdef0123456789abcdef&\
                  redirect_uri=https%3A%2F%2Ftools.example.com%2Fx";
    let page = client.get(target).await.html();
    let remedy = "--client 0123456789abcdef0123456789abcdef:SECRET:https://tools.example.com/x";
    assert!(page.contains(remedy), "{page}");
    sandbox.signal("TERM");
}

#[test]
fn a_taken_port_is_reported_and_the_next_free_one_is_used() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let wanted = taken.local_addr().expect("it is bound").to_string();
    let free = "127.0.0.1:0";
    let mut demo =
        Upwarden::start(&["demo", "--public", &wanted, "--neighbour", free, "--admin", free, "--sandbox", free]);
    demo.line_with("Press Ctrl-C to stop");
    let moved = format!("{wanted} is taken, so the app is at ");
    assert!(demo.said.contains(&moved), "{}", demo.said);
    assert_ne!(address(&demo, "sample app, behind"), format!("http://{wanted}"));
    demo.signal("TERM");
    assert_eq!(demo.ended().0.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let demo = demo();
    let browser = sign_in(&demo).await;
    // A request in flight delays the drain: a form whose body stalls.
    let (pieces, body) = super::harness::feed();
    let call = browser.call(http::Method::POST, "/notes").body(body);
    let held = tokio::spawn(async move { call.attempt().await.map(drop) });
    for _ in 0..2 {
        // The second piece is accepted once the first has been sent.
        pieces.send(bytes::Bytes::from_static(b"text=")).await.expect("it is taken");
    }
    let admin = client(&demo, "health and metrics");
    demo.signal("TERM");
    super::harness::until("it leaves", || async {
        let ready = admin.get("/readyz").await;
        (ready.status != 200).then_some(())
    })
    .await;
    demo.signal("TERM");
    let (status, log) = demo.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    drop(pieces);
    held.abort();
}

#[test]
fn serving_without_a_key_says_how_to_make_one() {
    let served = command(&["serve", "--set", "public_url=http://127.0.0.1:1"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&served.stderr).into_owned();
    assert_eq!(served.status.code(), Some(78), "{said}");
    assert!(said.contains("upwarden key"), "{said}");
    assert!(said.contains("session.key"), "{said}");
}

#[test]
fn a_demo_beyond_this_machine_is_refused_and_the_flag_is_named() {
    for flag in ["--public", "--sandbox", "--neighbour"] {
        let refused = command(&["demo", flag, "192.0.2.1:4180"]).output().unwrap();
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{text}");
        assert!(text.contains(&format!("{flag} 192.0.2.1:4180")) && !text.contains("--set"), "{text}");
    }
    let refused = command(&["demo", "--neighbour", "0.0.0.0:4181"]).output().unwrap();
    assert!(refused.status.code() == Some(64) && !String::from_utf8(refused.stderr).unwrap().contains("--set"));
}
