//! Clients that know nothing of upwarden: curl over HTTP/1.1 and HTTP/2, and h2load.

use std::path::Path;
use std::process::Command;

use crate::harness::{App, Certificate, World, has, program};

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
