//! HTTP/2 at a door, over TLS and by prior knowledge.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use upwarden::testing::body::Body;
use upwarden::testing::listener::Limits;

use crate::harness::door::echo;
use crate::harness::{BOTH_VERSIONS, Certificate, Door, OpenDoor, trusting, within};

type Sent = Full<Bytes>;

/// A server's and a client's configuration that trust each other.
pub(crate) fn tls() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let mut server = certificate.server();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(server), Arc::new(trusting(&[&certificate], &BOTH_VERSIONS)))
}

pub(crate) async fn connect(door: &OpenDoor, client: &ClientConfig, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut config = client.clone();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    crate::harness::connect(door.address, &config, "localhost").await.unwrap()
}

async fn h2(door: &OpenDoor, client: &ClientConfig) -> (SendRequest<Sent>, JoinHandle<hyper::Result<()>>) {
    let stream = connect(door, client, &[b"h2"]).await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn to(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("https://localhost{path}"))
}

async fn ask(sender: &mut SendRequest<Sent>, request: Request<Sent>) -> (StatusCode, String) {
    within(sender.ready()).await.unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    let status = response.status();
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_has_the_form_of_an_http_1_request() {
    let (server, client) = tls();
    let door = Door { tls: Some(server), ..Door::default() }.open(|request: Request<Body>, peer| async move {
        let all =
            |name| request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        let text = format!("{} {:?} {:?} {}", request.uri(), all("host"), all("cookie"), peer.tls);
        Response::new(Body::full(text))
    });
    let (mut sender, connection) = h2(&door, &client).await;
    let request =
        to("/a?b").header("cookie", "c=d").header("cookie", "e=f").header("cookie", "g").body(Sent::default());
    let (_, answer) = ask(&mut sender, request.unwrap()).await;
    assert_eq!(answer, r#"/a?b ["localhost"] ["c=d; e=f; g"] true"#);
    drop(sender);
    within(connection).await.unwrap().unwrap();
    door.close().await;
}

#[tokio::test]
async fn a_refused_request_is_answered_and_the_connection_stays_open() {
    let (server, client) = tls();
    let limits = Limits { head_fields: 5, body_bytes: Some(4), ..Limits::default() };
    let door = Door { tls: Some(server), limits, ..Door::default() }.open(echo);
    let (mut sender, _connection) = h2(&door, &client).await;
    let empty = Sent::default;
    let many = (0..6).fold(to("/"), |request, number| request.header(format!("a{number}"), "b"));
    for (request, status, reason) in [
        (to("/").header("host", "other").body(empty()), 400, "host_mismatch"),
        (to("/").method("TRACE").body(empty()), 501, "method_not_supported"),
        (to("/").method("trace").body(empty()), 501, "method_not_supported"),
        (to("/").header("content-length", "").body(empty()), 400, "content_length"),
        (to("/").header("a", " b").body(empty()), 400, "field_value"),
        (to("/").header("authorization", "a").header("authorization", "b").body(empty()), 400, "field_repeated"),
        (many.body(empty()), 431, "too_many_fields"),
        (to("/").method("POST").body(Sent::from("abcde")), 413, "body_too_large"),
        (Request::builder().uri("https://localhost:99999x/").body(empty()), 400, "host_malformed"),
    ] {
        let Ok(request) = request else { continue };
        assert_eq!(ask(&mut sender, request).await, (StatusCode::from_u16(status).unwrap(), reason.to_owned()));
    }
    let request = to("/x").method("POST").body(Sent::from("abcd")).unwrap();
    assert_eq!(ask(&mut sender, request).await, (StatusCode::OK, "POST /x [abcd]".to_owned()));
    door.counted("upwarden_refused_total{door=\"public\",reason=\"body_too_large\"} 1").await;
    door.close().await;
}

#[tokio::test]
async fn http_1_is_served_under_tls_and_a_failed_handshake_is_counted() {
    let (server, client) = tls();
    let door = Door { tls: Some(server), ..Door::default() }.open(echo);
    let mut stream = connect(&door, &client, &[b"http/1.1"]).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("GET /a []") && answer.ends_with("host_missing"), "{answer}");
    let mut plain = door.connect().await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut waste = Vec::new();
    let _ = within(plain.0.read_to_end(&mut waste)).await;
    door.counted("upwarden_refused_total{door=\"public\",reason=\"tls\"} 1").await;
    door.close().await;
}

#[tokio::test]
async fn a_connection_that_aborts_most_of_its_requests_is_closed() {
    let (server, client) = tls();
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let door = Door { tls: Some(server), ..Door::default() }.open(move |request: Request<Body>, _| {
        let asked = asked.clone();
        async move {
            if request.uri().path() == "/never" {
                let _ = asked.send(());
                std::future::pending::<()>().await;
            }
            Response::new(Body::full("fine"))
        }
    });
    let (mut bad, connection) = h2(&door, &client).await;
    let (mut good, _good) = h2(&door, &client).await;
    loop {
        if within(bad.ready()).await.is_err() {
            break;
        }
        let begun = tokio::spawn(bad.send_request(to("/never").body(Sent::default()).unwrap()));
        // If a request is not handled any more, the connection is over.
        let taken = tokio::select! {
            taken = arrived.recv() => taken.is_some(),
            () = bad_is_closed(&bad) => false,
        };
        begun.abort();
        if !taken {
            break;
        }
    }
    let _ = within(connection).await.unwrap();
    assert_eq!(ask(&mut good, to("/").body(Sent::default()).unwrap()).await.1, "fine");
    door.counted("upwarden_refused_total{door=\"public\",reason=\"http2_abuse\"} 1").await;
    door.close().await;
}

async fn bad_is_closed(sender: &SendRequest<Sent>) {
    while !sender.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_resets_its_stream_cancels_its_handler() {
    let (server, client) = tls();
    let (gone, mut seen) = mpsc::unbounded_channel::<()>();
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let door = Door { tls: Some(server), ..Door::default() }.open(move |_, _| {
        let (gone, asked) = (gone.clone(), asked.clone());
        async move {
            let _gone = Guard(gone);
            asked.send(()).unwrap();
            std::future::pending::<Response<Body>>().await
        }
    });
    let (mut sender, _connection) = h2(&door, &client).await;
    let begun = tokio::spawn(sender.send_request(to("/").body(Sent::default()).unwrap()));
    within(arrived.recv()).await.unwrap();
    begun.abort();
    within(seen.recv()).await.unwrap();
    door.close().await;
}

struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn prior_knowledge_is_served_where_it_is_configured() {
    let limits = Limits { idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let door = Door { h2c: true, limits, ..Door::default() }.open(echo);
    let socket = TcpStream::connect(door.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let response = within(sender.send_request(Request::get("http://a/b").body(Empty::new()).unwrap())).await.unwrap();
    assert_eq!(within(response.into_body().collect()).await.unwrap().to_bytes(), "GET /b []");
    // Idle for too long: closed by us, while the sender is still there.
    within(connection).await.unwrap().unwrap();
    // HTTP/1 at the same door, in pieces of which the first could become the preface.
    let mut client = door.connect().await;
    client.send("P").await;
    client.send("ROPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(client.read_to_end().await.ends_with("PROPFIND / []"));
    door.close().await;
}

#[tokio::test]
async fn a_drain_sends_goaway_and_finishes_open_requests() {
    let (server, client) = tls();
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let go = Arc::new(tokio::sync::Notify::new());
    let door = {
        let go = go.clone();
        Door { tls: Some(server), ..Door::default() }.open(move |_, _| {
            let (asked, go) = (asked.clone(), go.clone());
            async move {
                asked.send(()).unwrap();
                go.notified().await;
                Response::new(Body::full("done"))
            }
        })
    };
    let (mut sender, connection) = h2(&door, &client).await;
    let answer = sender.send_request(to("/").body(Sent::default()).unwrap());
    let answer = tokio::spawn(answer);
    within(arrived.recv()).await.unwrap();
    door.drain.cancel();
    within(async { while TcpStream::connect(door.address).await.is_ok() {} }).await;
    go.notify_one();
    let answer = within(answer).await.unwrap().unwrap();
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "done");
    // The sender is not dropped: it is the server that ends the connection.
    within(connection).await.unwrap().unwrap();
    door.close().await;
}
