//! TLS: both versions, several names, certificates that change while it runs, and an app behind a private CA.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::process::Start;
use super::{door, open};
use crate::harness::{App, until, within};

/// A self-signed certificate and its key, as files.
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) der: CertificateDer<'static>,
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key`, over what is there.
    pub(super) fn write(folder: &Path, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        // The key first: a reload in between finds a pair that does not fit, and waits for the next.
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        Self { cert, key, der: made.cert.der().clone() }
    }

    /// For `public.tls.certificates`.
    pub(super) fn setting(&self) -> String {
        settings(&[self])
    }
}

fn settings(pairs: &[&Pair]) -> String {
    let tables = pairs.iter().map(|pair| serde_json::json!({ "cert_file": pair.cert, "key_file": pair.key }));
    tables.collect::<serde_json::Value>().to_string()
}

pub(super) fn trusting(pairs: &[&Pair], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(pair.der.clone()).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Asks for `/` as `name`: the TLS version, the certificate, and the answer.
async fn ask(
    at: SocketAddr,
    config: &ClientConfig,
    name: &'static str,
) -> Result<(String, CertificateDer<'static>, String), std::io::Error> {
    let socket = TcpStream::connect(at).await?;
    let connector = TlsConnector::from(Arc::new(config.clone()));
    let mut stream = within(connector.connect(name.try_into().unwrap(), socket)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await?;
    let session = stream.get_ref().1;
    let version = format!("{:?}", session.protocol_version().unwrap());
    let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
    Ok((version, certificate, answer))
}

pub(super) const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[tokio::test]
async fn both_versions_are_spoken_and_each_name_has_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Pair::write(folder.path(), "one.example"), Pair::write(folder.path(), "two.example"));
    let world = open(App::default())
        .set("public_url", "https://one.example")
        .set("public.tls.certificates", settings(&[&one, &two]))
        .start();
    for (version, said) in BOTH.into_iter().zip(["TLSv1_2", "TLSv1_3"]) {
        let config = trusting(&[&one, &two], &[version]);
        for (name, pair) in [("one.example", &one), ("two.example", &two)] {
            let (spoken, certificate, answer) = ask(door(&world), &config, name).await.unwrap();
            assert_eq!((spoken.as_str(), &certificate), (said, &pair.der));
            assert!(answer.ends_with("GET /\n"), "{answer}");
            assert_eq!(world.app.last().header("x-forwarded-proto"), "https");
        }
    }
}

#[tokio::test]
async fn changed_certificates_are_taken_up_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = Pair::write(folder.path(), "localhost");
    let world = open(App::default())
        .set("public_url", "https://localhost")
        .set("public.tls.certificates", first.setting())
        .start();
    let at = door(&world);
    assert_eq!(ask(at, &trusting(&[&first], &BOTH), "localhost").await.unwrap().1, first.der);
    let second = Pair::write(folder.path(), "localhost");
    let config = trusting(&[&first, &second], &BOTH);
    let shown = async || ask(at, &config, "localhost").await.unwrap().1;
    until("the new certificate", async || (shown().await == second.der).then_some(())).await;
    std::fs::write(&second.cert, "no certificate").unwrap();
    let refused = async || {
        let logs = crate::harness::logs();
        logs.contains("reload failed, the previous configuration stays in force").then_some(())
    };
    until("the refusal in the log", refused).await;
    assert_eq!(shown().await, second.der);
}

#[tokio::test]
async fn a_hangup_reloads_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = Pair::write(folder.path(), "localhost");
    let sidecar = Start::with(App::default())
        .set("public_url", "https://localhost")
        .set("public.tls.certificates", first.setting())
        .start();
    assert_eq!(ask(sidecar.public, &trusting(&[&first], &BOTH), "localhost").await.unwrap().1, first.der);
    let second = Pair::write(folder.path(), "localhost");
    sidecar.signal("HUP");
    let config = trusting(&[&first, &second], &BOTH);
    let fresh = async || (ask(sidecar.public, &config, "localhost").await.unwrap().1 == second.der).then_some(());
    until("the new certificate", fresh).await;
}

#[tokio::test]
async fn an_app_behind_a_private_ca_is_reached_only_with_that_ca() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::write(folder.path(), "localhost");
    let key = rustls_pki_types::pem::PemObject::from_pem_file(&pair.key).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.der.clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust us ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut space = [0; 4096];
            let _ = stream.read(&mut space).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = stream.shutdown().await;
        }
    });
    let trusted = open(App::default()).set("app.url", &url).set("app.ca_file", pair.cert.display()).start();
    assert_eq!(trusted.client().get("/").await.text(), "ok");
    let stranger = open(App::default()).set("app.url", &url).start();
    let answer = stranger.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-untrusted"));
    let told = async || crate::harness::logs().contains("invalid peer certificate: UnknownIssuer").then_some(());
    until("the cause in the log", told).await;
    serving.abort();
}
