//! Clients that know nothing of upwarden: curl and h2load.

use std::path::Path;
use std::process::Command;

use crate::harness::{App, Certificate, FREELANCER, World, has, program};

/// A world that speaks TLS as `localhost`, the file of its certificate, and the folder of that file.
fn world() -> (World, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let world = World::open(App::default()).tls(&certificate).start();
    let ca = certificate.file.display().to_string();
    (world, ca, folder)
}

async fn run(program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn curl_is_served_over_both_versions() {
    let curl = program("curl");
    if !has(curl.is_some(), "curl") {
        return;
    }
    let (curl, (world, ca, folder)) = (curl.unwrap(), world());
    let url = format!("https://localhost:{}/a%20b?c", world.public_address().port());
    let upload = folder.path().join("upload");
    std::fs::write(&upload, vec![b'x'; 1 << 19]).unwrap();
    let upload = format!("@{}", upload.display());
    for (version, said) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let ask = ["-sS", version, "--cacert", &ca, "-w", " %{http_version} %{response_code}", &url];
        assert_eq!(run(&curl, &ask).await, format!("GET /a%20b?c\n {said} 200"));
        let send =
            ["-sS", version, "--cacert", &ca, "--data-binary", &upload, "-o", "/dev/null", "-w", "%{size_download}"];
        // The answer is the line and the upload; with Expect: 100-continue if curl sends it.
        let back = run(&curl, &[&send[..], &[&url]].concat()).await;
        assert_eq!(back, (("POST /a%20b?c\n".len()) + (1 << 19)).to_string());
    }
}

#[tokio::test]
async fn h2load_gets_an_answer_to_every_request() {
    let h2load = program("h2load");
    if !has(h2load.is_some(), "h2load") {
        return;
    }
    let (h2load, (world, _, _folder)) = (h2load.unwrap(), world());
    let url = format!("https://localhost:{}/", world.public_address().port());
    // It uses HTTP/2 by default.
    for version in [&[][..], &["--h1"]] {
        let told = run(&h2load, &[&["-n", "3000", "-c", "10", "-m", "20"], version, &[&url]].concat()).await;
        assert!(told.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{told}");
    }
}

#[tokio::test]
async fn curl_without_credentials_is_answered_at_the_neighbour_door() {
    let curl = program("curl");
    if !has(curl.is_some(), "curl") {
        return;
    }
    let (curl, world) = (curl.unwrap(), World::new().start());
    for (arguments, part) in [
        (vec!["--json", "{\"query\":\"{ user { nid } }\"}", "/upwork/graphql"], "corgeservice"),
        (vec!["-d", "{\"query\":\"{ user { nid } }\"}", "/upwork/graphql"], "corgeservice"),
        (vec!["/upwork/api/hr/v2/users/me.json"], "service@example.com"),
        (vec!["--compressed", "/upwork/api/auth/v1/info.json"], "Corge"),
    ] {
        let (target, options) = arguments.split_last().expect("it has a target");
        let url = world.neighbour_url(target);
        let text = run(&curl, &[&["-sS", "--fail-with-body", "--max-time", "20"], options, &[&url]].concat()).await;
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn curl_signs_in_and_is_answered_at_the_public_door() {
    let curl = program("curl");
    if !has(curl.is_some(), "curl") {
        return;
    }
    let (curl, world) = (curl.unwrap(), World::new().start());
    let folder = tempfile::tempdir().expect("a folder");
    let jar = folder.path().join("cookies").display().to_string();
    let ask = async |arguments: &[&str]| {
        run(&curl, &[&["-sS", "--max-time", "20", "-c", &jar, "-b", &jar], arguments].concat()).await
    };
    let (graphql, rest) = (world.url("/upwork/graphql"), world.url("/upwork/api/hr/v2/users/me.json"));
    let refused = ask(&["-w", "\n%{http_code} %{content_type}", &graphql]).await;
    assert!(refused.ends_with("\n401 application/problem+json"), "{refused}");

    // The whole sign-in by curl: it asks for HTML, follows the redirects and posts the form.
    let html = "Accept: text/html";
    let page = ask(&["-L", "-H", html, "-w", "\n%{url_effective}", &world.url("/x")]).await;
    let consent = page.lines().last().expect("an address").to_owned();
    assert!(consent.contains("/oauth2/authorize?"), "{page}");
    let form = format!("account={FREELANCER}&decision=accept");
    let app = ask(&["-L", "-H", html, "-d", &form, "-w", "\n%{http_code}", &consent]).await;
    assert_eq!(app, "GET /x\n\n200");

    let user = ask(&["--json", "{\"query\":\"{ user { nid } }\"}", &graphql]).await;
    assert!(user.contains("foofreelancer"), "{user}");
    assert!(ask(&[&rest]).await.contains("foo@example.com"));
    let kept = std::fs::read_to_string(&jar).expect("curl keeps cookies");
    assert!(kept.contains("#HttpOnly_127.0.0.1") && kept.contains("upwarden"), "{kept}");
}
