//! Clients that do not read what they are answered.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use upwarden::testing::body::{Body, Error};
use upwarden::testing::listener::Limits;

use crate::harness::{BOTH_VERSIONS, Certificate, Door, connect, trusting, within};

const COUNTED: &str = "upwarden_refused_total{door=\"public\",reason=\"answer_timeout\"} 1";

fn impatient() -> Limits {
    Limits { idle_timeout: Duration::from_millis(300), ..Limits::default() }
}

/// Sends requests until that fails.
async fn ask_forever(mut client: impl AsyncWrite + Unpin) {
    while client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_with_tls_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    for tls in [None, Some(Arc::new(certificate.server()))] {
        let with_tls = tls.is_some();
        // Small enough for TLS to take all of an answer while its socket takes nothing.
        let door = Door { tls, limits: impatient(), ..Door::default() }
            .open(|_, _| async { Response::new(Body::full(vec![b'x'; 10_000])) });
        let asking = if with_tls {
            let client = connect(door.address, &trusting(&[&certificate], &BOTH_VERSIONS), "localhost").await.unwrap();
            tokio::spawn(ask_forever(client))
        } else {
            tokio::spawn(ask_forever(tokio::net::TcpStream::connect(door.address).await.unwrap()))
        };
        door.counted(COUNTED).await;
        within(asking).await.unwrap();
        door.close().await;
    }
}

#[tokio::test]
async fn a_dropped_http_1_0_client_does_not_mistake_its_answer_for_complete() {
    let door = Door { limits: impatient(), ..Door::default() }.open(|_, _| async {
        let piece = || Ok::<_, Error>(Frame::data(vec![b'x'; 1 << 16].into()));
        Response::new(Body::wrap(http_body_util::StreamBody::new(futures_util::stream::repeat_with(piece))))
    });
    let mut client = door.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    door.counted(COUNTED).await;
    let end = within(client.0.read_to_end(&mut Vec::new())).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    door.close().await;
}
