//! TLS: both versions, several names, certificates that change while the sidecar runs, and an app behind a private CA.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{App, BOTH_VERSIONS, Certificate, Start, World, connect, logs, setting, trusting, until, within};

/// Requests `/` from `name`; the TLS version, the certificate and the answer.
async fn ask(
    at: SocketAddr,
    config: &ClientConfig,
    name: &'static str,
) -> Result<(String, CertificateDer<'static>, String), std::io::Error> {
    let mut stream = connect(at, config, name).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await?;
    let session = stream.get_ref().1;
    let version = format!("{:?}", session.protocol_version().unwrap());
    let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
    Ok((version, certificate, answer))
}

#[tokio::test]
async fn both_versions_are_served_and_each_name_has_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) =
        (Certificate::write(folder.path(), "one.example"), Certificate::write(folder.path(), "two.example"));
    let world = World::open(App::default())
        .set("public_url", "https://one.example")
        .set("public.tls.certificates", setting(&[&one, &two]))
        .start();
    for (version, said) in BOTH_VERSIONS.into_iter().zip(["TLSv1_2", "TLSv1_3"]) {
        let config = trusting(&[&one, &two], &[version]);
        for (name, pair) in [("one.example", &one), ("two.example", &two)] {
            let (spoken, certificate, answer) = ask(world.public_address(), &config, name).await.unwrap();
            assert_eq!((spoken.as_str(), &certificate), (said, &pair.der));
            assert!(answer.ends_with("GET /\n"), "{answer}");
            assert_eq!(world.app.last().header("x-forwarded-proto"), "https");
        }
    }
}

#[tokio::test]
async fn changed_certificates_are_reloaded_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = Certificate::write(folder.path(), "localhost");
    let world = World::open(App::default()).tls(&first).start();
    let at = world.public_address();
    assert_eq!(ask(at, &trusting(&[&first], &BOTH_VERSIONS), "localhost").await.unwrap().1, first.der);
    let second = Certificate::write(folder.path(), "localhost");
    let config = trusting(&[&first, &second], &BOTH_VERSIONS);
    let shown = async || ask(at, &config, "localhost").await.unwrap().1;
    until("the new certificate", async || (shown().await == second.der).then_some(())).await;
    std::fs::write(&second.file, "no certificate").unwrap();
    let refused = async || logs().contains("reload failed, the previous configuration stays in force").then_some(());
    until("the refusal in the log", refused).await;
    assert_eq!(shown().await, second.der);
}

#[tokio::test]
async fn sighup_reloads_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = Certificate::write(folder.path(), "localhost");
    let sidecar = Start::with(App::default()).tls(&first).start();
    assert_eq!(ask(sidecar.public, &trusting(&[&first], &BOTH_VERSIONS), "localhost").await.unwrap().1, first.der);
    let second = Certificate::write(folder.path(), "localhost");
    sidecar.signal("HUP");
    let config = trusting(&[&first, &second], &BOTH_VERSIONS);
    let fresh = async || (ask(sidecar.public, &config, "localhost").await.unwrap().1 == second.der).then_some(());
    until("the new certificate", fresh).await;
}

/// An app with this certificate at this port of 127.0.0.1, which answers with the name that it was asked for by SNI.
async fn tls_app(certificate: &Certificate) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(certificate.server()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust this certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let name = stream.get_ref().1.server_name().unwrap_or("no name").to_owned();
            let mut space = [0; 4096];
            let _ = stream.read(&mut space).await;
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", name.len());
            let _ = stream.write_all(format!("{head}{name}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn an_app_behind_a_private_ca_is_reached_only_with_that_ca() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let url = format!("https://localhost:{}", tls_app(&certificate).await);
    let trusted =
        World::open(App::default()).set("app.url", &url).set("app.ca_file", certificate.file.display()).start();
    assert_eq!(trusted.client().get("/").await.text(), "localhost");
    let stranger = World::open(App::default()).set("app.url", &url).start();
    let answer = stranger.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-untrusted"));
    let told = async || logs().contains("invalid peer certificate: UnknownIssuer").then_some(());
    until("the cause in the log", told).await;
}

#[tokio::test]
async fn an_app_whose_certificate_has_another_name_is_reached_by_its_tls_name() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "app.internal");
    let url = format!("https://127.0.0.1:{}", tls_app(&certificate).await);
    let route = |tls_name: serde_json::Value| {
        let route = serde_json::json!([{ "path": "/", "public": true, "url": url, "tls_name": tls_name }]);
        let named = tls_name.is_string();
        let plain = serde_json::json!([{ "path": "/", "public": true, "url": url }]);
        World::new().set("app.ca_file", certificate.file.display()).set("routes", if named { route } else { plain })
    };
    let app = || World::open(App::default()).set("app.url", &url).set("app.ca_file", certificate.file.display());
    let other = "https://127.0.0.1:1";
    for (plan, reached) in [
        (app().set("app.tls_name", "App.Internal"), true),
        (app(), false),
        (app().set("app.tls_name", "other.internal"), false),
        (route("app.internal".into()), true),
        // The name of the app's certificate says nothing of another upstream's.
        (route(serde_json::Value::Null).set("app.url", other).set("app.tls_name", "app.internal"), false),
    ] {
        let answer = plan.start().client().get("/").await;
        let (name, status) = if reached { ("app.internal", 200) } else { ("app-untrusted", 502) };
        assert_eq!(answer.status, status);
        assert_eq!(if reached { answer.text() } else { answer.problem() }, name);
    }
}
