//! The client's side, against scripted upstreams on real sockets.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::body::Body;
use crate::descriptors::Descriptors;
use crate::framing::Limits;
use crate::response::Response;

const TIMEOUTS: ResponseTimeouts =
    ResponseTimeouts { first_byte: Duration::from_secs(5), idle: Duration::from_secs(5) };

fn pool() -> Arc<Pool> {
    Pool::new(&Descriptors::new(None))
}

fn connection() -> (Box<Connection>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Connection::new(Stream::Unix(near).into(), Limits::default()), far)
}

fn get() -> Outgoing {
    Outgoing::from(Request::get("/a?b").header("host", "x").body(Body::empty()).unwrap())
}

type Answered = Result<(StatusCode, Result<Vec<u8>, ()>), Error>;

/// What a GET gets if the upstream sends only these pieces, and whether its connection is used again.
async fn answered(pieces: &[&[u8]]) -> (Answered, bool) {
    let (pool, (near, mut far)) = (pool(), connection());
    let upstream = async {
        for piece in pieces {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        far
    };
    let exchange = async {
        let answer =
            send(near, get(), TIMEOUTS, Pools::shared(&pool), |_, _| {}).await.map_err(|failure| failure.error)?;
        let Response { status, body, .. } = answer.response;
        let body = body.collect(1000).await.map(|bytes| bytes.to_vec()).map_err(|_| ());
        Ok((status, body))
    };
    let (_far, result) = tokio::join!(upstream, exchange);
    (result, pool.take().is_some())
}

#[tokio::test]
async fn a_good_response_arrives_however_it_is_split() {
    let response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let bytes: Vec<&[u8]> = response.chunks(1).collect();
    let cuts = (1..response.len()).map(|cut| vec![&response[..cut], &response[cut..]]);
    for pieces in cuts.chain([bytes]) {
        let (result, reused) = answered(&pieces).await;
        assert_eq!((result.unwrap().1, reused), (Ok(b"abc".to_vec()), true));
    }
}

#[tokio::test]
async fn an_ambiguous_response_is_an_error_and_its_connection_is_not_used_again() {
    let ambiguous: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        b"what?\r\n\r\n",
    ];
    for response in ambiguous {
        let (result, reused) = answered(&[response]).await;
        assert!(result.is_err() && !reused, "{}", String::from_utf8_lossy(response));
    }
    // The response is good; what follows it is not.
    for (response, body) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n"[..], &b"abc"[..]),
        (b"HTTP/1.1 204 No Content\r\n\r\nsurplus", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", b"abc"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"abc"),
    ] {
        let (result, reused) = answered(&[response]).await;
        assert_eq!((result.unwrap().1.as_deref(), reused), (Ok(body), false));
    }
}

#[tokio::test]
async fn a_response_that_ends_early_is_cut() {
    for response in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let (pool, (near, mut far)) = (pool(), connection());
        far.write_all(response).await.unwrap();
        drop(far);
        let answer = send(near, get(), TIMEOUTS, Pools::shared(&pool), |_, _| {}).await.unwrap();
        assert!(answer.response.body.collect(1000).await.is_err());
        assert!(pool.take().is_none());
    }
}

#[tokio::test]
async fn a_response_is_read_although_the_upstream_reads_no_request() {
    let (near, mut far) = connection();
    far.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await.unwrap();
    far.shutdown().await.unwrap();
    let request = Request::post("/").header("host", "x").body(Body::full(vec![b'x'; 1 << 20])).unwrap();
    let answer = send(near, Outgoing::from(request), TIMEOUTS, Pools::shared(&pool()), |_, _| {}).await.unwrap();
    assert_eq!(answer.response.body.collect(1000).await.unwrap(), "big");
}

#[tokio::test]
async fn only_a_request_that_is_harmless_twice_is_returned_for_a_retry() {
    for (method, body, harmless) in
        [(Method::GET, "", true), (Method::DELETE, "", true), (Method::POST, "", false), (Method::PUT, "x", false)]
    {
        let (near, mut far) = connection();
        let request = Request::builder().method(method.clone()).uri("/a").header("host", "x").body(Body::full(body));
        let sent = tokio::spawn(async move {
            send(near, Outgoing::from(request.unwrap()), TIMEOUTS, Pools::shared(&pool()), |_, _| {}).await
        });
        let mut first = [0; 1000];
        let count = far.read(&mut first).await.unwrap();
        drop(far);
        let failure = sent.await.unwrap().unwrap_err();
        assert!(matches!(failure.error, Error::Response(_)));
        assert_eq!(failure.request.is_some(), harmless, "{method}");
        let Some(again) = failure.request else { continue };
        let (near, mut far) = connection();
        let sent = tokio::spawn(async move { send(near, again, TIMEOUTS, Pools::shared(&pool()), |_, _| {}).await });
        let mut second = [0; 1000];
        let length = far.read(&mut second).await.unwrap();
        assert_eq!(&second[..length], &first[..count], "byte for byte");
        far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        sent.await.unwrap().unwrap();
    }
    // Not after a byte of the response.
    let (near, mut far) = connection();
    far.write_all(b"HTTP/1.1 20").await.unwrap();
    drop(far);
    assert!(send(near, get(), TIMEOUTS, Pools::shared(&pool()), |_, _| {}).await.unwrap_err().request.is_none());
}

#[tokio::test]
async fn a_request_that_was_not_begun_is_returned_whole() {
    let (near, far) = connection();
    drop(far);
    let request = Request::post("/").header("host", "x").body(Body::full("body")).unwrap();
    let failure = send(near, Outgoing::from(request), TIMEOUTS, Pools::shared(&pool()), |_, _| {}).await.unwrap_err();
    let (near, mut far) = connection();
    let again = failure.request.unwrap();
    let sent = tokio::spawn(async move { send(near, again, TIMEOUTS, Pools::shared(&pool()), |_, _| {}).await });
    let mut seen = [0; 1000];
    let count = far.read(&mut seen).await.unwrap();
    assert_eq!(&seen[..count], b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody");
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    sent.await.unwrap().unwrap();
}
