//! Programs that know nothing of upwarden: Upwork's own SDK, and curl.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::harness::{FREELANCER, World, has, program};

/// Runs a program to its end, off the test's thread.
async fn run(mut command: Command) -> Output {
    let done = tokio::task::spawn_blocking(move || command.output());
    super::harness::within(done).await.expect("it ran").expect("it starts")
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_official_node_sdk_works_next_door_with_its_base_urls_and_a_placeholder() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sdk-node/node_modules");
    let sdk = modules.join("@upwork/node-upwork-oauth2");
    let node = program("node");
    if !has(node.is_some(), "node") || !has(sdk.is_dir(), "@upwork/node-upwork-oauth2 (tests/run installs it)") {
        return;
    }
    let world = World::new().start();
    let mut command = Command::new(node.expect("it is there"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sdk/node.cjs");
    command.arg(script).arg(world.neighbour_url("")).arg("1484254172266924886").env("NODE_PATH", modules);
    let answers: Value = serde_json::from_str(&told(&run(command).await)).expect("JSON");
    assert_eq!(answers["me"]["status"], 200, "{answers}");
    assert_eq!(answers["me"]["body"]["auth_user"]["first_name"], "Corge", "{answers}");
    assert_eq!(answers["user"]["body"]["data"]["user"]["nid"], "corgeservice", "{answers}");
    assert_eq!(answers["organization"]["body"]["data"]["organization"]["id"], "1484254172266924886", "{answers}");
    // Its errors come through, too.
    assert_eq!(
        (&answers["missing"]["status"], &answers["missing"]["body"]["error"]["code"]),
        (&404.into(), &404.into())
    );

    let requests = world.upwork.sandbox.requests();
    let of = |target: &str| requests.iter().find(|seen| seen.target == target).cloned().expect("it came");
    assert_eq!(of("/api/auth/v1/info.json?a=b%20c").header("user-agent"), Some("Github Upwork API NodeJS Client"));
    assert_eq!(of("/api/nothing/v1/here.json").method, "POST", "the SDK sends PUT as POST");
    assert_eq!(world.counters().token.client_credentials, 1, "its placeholder went nowhere");
}

#[tokio::test]
async fn curl_alone_is_answered_next_door() {
    let curl = program("curl");
    if !has(curl.is_some(), "curl") {
        return;
    }
    let curl = curl.expect("it is there");
    let world = World::new().start();
    for (arguments, part) in [
        (vec!["--json", "{\"query\":\"{ user { nid } }\"}", "/upwork/graphql"], "corgeservice"),
        (vec!["-d", "{\"query\":\"{ user { nid } }\"}", "/upwork/graphql"], "corgeservice"),
        (vec!["/upwork/api/hr/v2/users/me.json"], "service@example.com"),
        (vec!["--compressed", "/upwork/api/auth/v1/info.json"], "Corge"),
    ] {
        let mut command = Command::new(&curl);
        let (target, options) = arguments.split_last().expect("it has a target");
        command.args(["-sS", "--fail-with-body", "--max-time", "20"]).args(options).arg(world.neighbour_url(target));
        let text = told(&run(command).await);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn curl_with_the_cookie_jar_is_answered_at_the_public_door() {
    let curl = program("curl");
    if !has(curl.is_some(), "curl") {
        return;
    }
    let curl = curl.expect("it is there");
    let world = World::new().start();
    let folder = tempfile::tempdir().expect("a folder");
    let jar = folder.path().join("cookies").display().to_string();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--max-time", "20", "-c", &jar, "-b", &jar]).args(arguments);
        run(command)
    };
    let (graphql, rest) = (world.url("/upwork/graphql"), world.url("/upwork/api/hr/v2/users/me.json"));
    let nobody = told(&ask(&["-w", "\n%{http_code} %{content_type}", &graphql]).await);
    assert!(nobody.ends_with("\n401 application/problem+json"), "{nobody}");

    // The whole sign-in by curl: asked as a browser would, redirects followed, the form posted.
    let html = "Accept: text/html";
    let page = told(&ask(&["-L", "-H", html, "-w", "\n%{url_effective}", &world.url("/x")]).await);
    let consent = page.lines().last().expect("an address").to_owned();
    assert!(consent.contains("/oauth2/authorize?"), "{page}");
    let form = format!("account={FREELANCER}&decision=accept");
    let app = told(&ask(&["-L", "-H", html, "-d", &form, "-w", "\n%{http_code}", &consent]).await);
    assert_eq!(app, "GET /x\n\n200");

    let query = ask(&["--json", "{\"query\":\"{ user { nid } }\"}", &graphql]).await;
    assert!(told(&query).contains("foofreelancer"), "{query:?}");
    assert!(told(&ask(&[&rest]).await).contains("foo@example.com"));
    let kept = std::fs::read_to_string(&jar).expect("curl keeps cookies");
    assert!(kept.contains("#HttpOnly_127.0.0.1") && kept.contains("upwarden"), "{kept}");
}
