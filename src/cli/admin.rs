//! `upwarden health` and `upwarden drain`: send one request to the admin door of a running upwarden.
//!
//! It follows no redirect, sends nothing secret, and reads at most 64 KiB.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::output::{Failure, print};
use super::runtime;
use crate::body::Body;
use crate::listener::reachable;
use crate::telemetry::causes;

const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest `drain.delay` is an hour.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3600);
const MAX_BODY: usize = 64 << 10;

pub(super) fn health(address: SocketAddr) -> Result<(), Failure> {
    runtime::block_on(ask(address, Method::GET, "/readyz", HEALTH_TIMEOUT))
}

pub(super) fn drain(address: SocketAddr) -> Result<(), Failure> {
    runtime::block_on(ask(address, Method::POST, "/drain", DRAIN_TIMEOUT))
}

/// Prints the answer; a failure unless it is 200.
async fn ask(address: SocketAddr, method: Method, path: &str, timeout: Duration) -> Result<(), Failure> {
    let addresses = reachable(address);
    let response = tokio::time::timeout(timeout, send(&addresses, method, path));
    let (status, body) = response
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {timeout:?}")))
        .map_err(|why| Failure::Other(format!("no answer from the admin door at {address}: {why}")))?;
    print(body.trim_end())?;
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(Failure::Other(format!("the admin door at {address} answered {path} with {}", status.as_u16())))
}

async fn send(addresses: &[SocketAddr], method: Method, path: &str) -> Result<(StatusCode, String), String> {
    let stream = TcpStream::connect(addresses).await.map_err(|error| error.to_string())?;
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| causes(&error))?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let request = request.header(CONTENT_LENGTH, 0).body(Body::empty()).map_err(|error| causes(&error))?;
    let response = sender.send_request(request).await.map_err(|error| causes(&error))?;
    let status = response.status();
    let body = Body::from(response.into_body()).collect(MAX_BODY).await.map_err(|error| causes(&error))?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What the client reads from a server that sends these bytes and closes; and the request that the server got.
    async fn answered(bytes: &[u8]) -> (Result<(u16, String), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(bytes).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let (answer, head) = tokio::join!(async { send(&[address], Method::POST, "/drain").await }, server);
        (answer.map(|(status, body)| (status.as_u16(), body)), head)
    }

    #[tokio::test]
    async fn an_answer_ends_by_its_length_or_with_the_connection() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
        let (answer, head) = answered(whole).await;
        assert_eq!(answer, Ok((503, "no".to_owned())));
        assert!(head.starts_with("POST /drain HTTP/1.1\r\nhost: 127.0.0.1:"), "{head}");
        for cut in 0..whole.len() {
            assert!(answered(&whole[..cut]).await.0.is_err(), "{cut}");
        }
        assert_eq!(answered(b"HTTP/1.0 200 OK\r\n\r\nready").await.0, Ok((200, "ready".to_owned())));
        assert!(answered(b"SSH-2.0-OpenSSH\r\n\r\n").await.0.is_err());
        let long = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; MAX_BODY + 1]].concat();
        assert!(answered(&long).await.0.is_err());
    }

    #[test]
    fn a_door_on_every_interface_is_reached_on_loopback() {
        let reached = |text: &str| {
            let all = reachable(text.parse().unwrap());
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(reached("0.0.0.0:4182"), "127.0.0.1:4182");
        assert_eq!(reached("[::]:4182"), "[::1]:4182 127.0.0.1:4182");
        assert_eq!(reached("10.0.0.1:4182"), "10.0.0.1:4182");
    }

    #[tokio::test]
    async fn an_unanswered_request_times_out() {
        // The connection is accepted by the system and never answered.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let outcome = ask(address, Method::GET, "/readyz", Duration::from_millis(50)).await;
        assert!(matches!(outcome, Err(Failure::Other(why)) if why.contains("it took longer than 50ms")));
    }
}
