//! A proxy and a private CA between upwarden and Upwork.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::{FREELANCER, World};

/// A proxy that only knows CONNECT, and where it was asked to connect.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Connects to `target`, wherever it is asked to connect.
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let proxy = Self { address: listener.local_addr().unwrap(), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connect(stream, target, asked.clone()));
            }
        });
        proxy
    }
}

async fn connect(stream: TcpStream, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        stream.read_line(&mut head).await?;
    }
    asked.lock().unwrap().push(head);
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let mut far = TcpStream::connect(target).await?;
    copy_bidirectional(&mut stream, &mut far).await?;
    Ok(())
}

/// TLS in front of an address, with the certificate of a new CA, which is written to `ca`.
async fn tls_before(target: Arc<Mutex<Option<SocketAddr>>>, ca: &std::path::Path) -> SocketAddr {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    std::fs::write(ca, root.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "upwork.test".to_owned()];
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], leaf_key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            let target = *target.lock().unwrap();
            tokio::spawn(async move {
                let mut near = acceptor.accept(stream).await?;
                let mut far = TcpStream::connect(target.ok_or(std::io::ErrorKind::NotConnected)?).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    address
}

#[tokio::test]
async fn upwork_behind_a_private_ca_is_reached_only_with_that_ca() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let target = Arc::new(Mutex::new(None));
    let address = tls_before(target.clone(), &ca).await;
    let plan = || {
        World::new()
            .set("upwork.token_url", format!("https://{address}/api/v3/oauth2/token"))
            .set("upwork.graphql_url", format!("https://{address}/graphql"))
            .set("upwork.api_url", format!("https://{address}"))
    };
    let world = plan().set("upwork.ca_file", ca.display()).start();
    *target.lock().unwrap() = Some(world.upwork.address);
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.graphql("{ user { nid } }").await.json()["data"]["user"]["nid"], "foofreelancer");
    assert_eq!(client.get("/upwork/api/hr/v2/users/me.json").await.status, 200);

    let world = plan().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    assert_eq!(client.navigate(&back).await.page(), "Upwork cannot be reached");
    let answer = world.neighbour().get("/upwork/api/x").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[tokio::test]
async fn every_connection_to_upwork_uses_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let target = Arc::new(Mutex::new(None));
    let tls = tls_before(target.clone(), &ca).await;
    let proxy = Proxy::start(tls).await;
    // A name that only the proxy can reach.
    let world = World::new()
        .set("upwork.token_url", "https://upwork.test/api/v3/oauth2/token")
        .set("upwork.revoke_url", "https://upwork.test/api/v3/oauth2/token/revoke")
        .set("upwork.graphql_url", "https://upwork.test/graphql")
        .set("upwork.api_url", "https://upwork.test")
        .set("upwork.ca_file", ca.display())
        .set("upwork.proxy", format!("http://someone:pass@{}", proxy.address))
        .start();
    *target.lock().unwrap() = Some(world.upwork.address);
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.graphql("{ user { nid } }").await.json()["data"]["user"]["nid"], "foofreelancer");
    assert_eq!(client.get("/x").await.status, 200, "the app is reached directly");
    let asked = proxy.asked.lock().unwrap().clone();
    assert!(asked.len() >= 2, "the token endpoint and the API");
    for head in asked {
        assert!(head.starts_with("CONNECT upwork.test:443 HTTP/1.1\r\n"), "{head}");
        let basic = head.to_lowercase().contains("proxy-authorization: basic c29tzw9uztpwyxnz");
        assert!(basic, "{head}");
    }
}
