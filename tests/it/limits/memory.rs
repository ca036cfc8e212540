//! A body costs a bounded buffer, however long it is and however slowly it is read. Measured on a separate process.
//! `UPWARDEN_TESTS_QUICK=1` moves 256 MiB each way instead of 1 GiB.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upwarden::testing::body::Body;

use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, frame, get};
use crate::harness::{App, BOTH_VERSIONS, Certificate, Raw, Sidecar, Start, connect, full, head, trusting, within};

const MIB: u64 = 1 << 20;
const PIECE: Bytes = Bytes::from_static(&[b'x'; 64 << 10]);

fn size() -> u64 {
    if full() { 1024 * MIB } else { 256 * MIB }
}

/// A body of `length` bytes.
fn long(length: u64) -> Body {
    let pieces = futures_util::stream::iter(0..length / PIECE.len() as u64);
    let frames = pieces.map(|_| Ok::<_, Infallible>(Frame::data(PIECE)));
    Body::wrap(StreamBody::new(frames).map_err(|never| match never {}))
}

/// `/down/N` answers with N bytes, `/up` with the number of bytes it received.
fn app() -> App {
    App::new(|request| async move {
        if let Some(length) = request.uri().path().strip_prefix("/down/") {
            return Response::new(long(length.parse().unwrap()));
        }
        let (mut body, mut count) = (request.into_body(), 0);
        while let Some(Ok(frame)) = body.frame().await {
            count += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Response::new(Body::full(count.to_string()))
    })
}

/// Sends some requests, so that one-off costs are paid; the memory after them.
async fn warm(sidecar: &Sidecar) -> u64 {
    for _ in 0..20 {
        assert_eq!(sidecar.client().get("/down/65536").await.body.len(), 65_536);
    }
    sidecar.memory()
}

#[tokio::test]
async fn long_bodies_pass_both_ways_in_bounded_memory() {
    let sidecar = Start::with(app()).start();
    let before = warm(&sidecar).await;
    let mut most = before;
    let mut down = sidecar.client().get(&format!("/down/{}", size())).open().await;
    let (mut count, mut next) = (0, 0);
    while let Some(piece) = down.piece().await {
        count += piece.unwrap().len() as u64;
        if count >= next {
            (most, next) = (most.max(sidecar.memory()), next + 16 * MIB);
        }
    }
    assert_eq!(count, size());
    let up = sidecar.client().call(Method::POST, "/up").body(long(size())).open().await;
    most = most.max(sidecar.memory());
    assert_eq!(up.whole().await.text(), size().to_string());
    assert!(most - before < 32 * MIB, "it grew by {} KiB", (most - before) >> 10);
}

/// Reads `count` bytes of an answer.
async fn take(client: &mut Raw, count: u64) {
    let mut space = vec![0; 64 << 10];
    let mut left = usize::try_from(count).unwrap();
    while left > 0 {
        let most = left.min(space.len());
        let came = within(client.0.read(&mut space[..most])).await.unwrap();
        assert_ne!(came, 0, "{left} bytes before the end");
        left -= came;
    }
}

#[tokio::test]
async fn a_slow_reader_costs_a_bounded_buffer() {
    let sidecar = Start::with(app()).start();
    warm(&sidecar).await;
    let before = sidecar.peak();
    let mut slow = Raw::to(sidecar.public).await;
    slow.send(format!("GET /down/{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200 * MIB)).await;
    for _ in 0..200 {
        // One MiB, and then time for the sidecar to buffer as much as it would, while others are served.
        take(&mut slow, MIB).await;
        for _ in 0..3 {
            assert_eq!(sidecar.client().get("/down/65536").await.body.len(), 65_536);
        }
    }
    assert!(slow.rest().await.ends_with("\r\n0\r\n\r\n"), "the body was complete");
    let grown = sidecar.peak() - before;
    assert!(grown < 8 * MIB, "it grew by {} KiB", grown >> 10);
}

async fn warmed(sidecar: &Sidecar) -> u64 {
    for _ in 0..20 {
        assert_eq!(sidecar.client().get("/").await.text(), "short");
    }
    sidecar.memory()
}

/// An app with an answer that never ends, and how many pieces of it were taken.
fn endless() -> (App, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = taken.clone();
    let app = App::new(move |request| {
        let counted = counted.clone();
        async move {
            let endless = request.uri().path() == "/endless";
            let pieces = futures_util::stream::repeat(()).map(move |()| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Frame::data(PIECE))
            });
            let body = Body::wrap(StreamBody::new(pieces).map_err(|never| match never {}));
            Response::new(if endless { body } else { Body::full("short") })
        }
    });
    (app, taken)
}

/// The memory that each of these many readers costs, once nothing moves any more while others are served.
async fn cost(sidecar: &Sidecar, taken: &AtomicU64, before: u64, readers: u64) -> u64 {
    loop {
        let sent = taken.load(Ordering::Relaxed);
        for _ in 0..50 {
            assert_eq!(sidecar.client().get("/").await.text(), "short");
        }
        if taken.load(Ordering::Relaxed) == sent {
            break;
        }
    }
    sidecar.memory().saturating_sub(before) / readers
}

const READERS: u64 = 100;
const MOST: u64 = 64 << 10;

#[tokio::test]
async fn a_stalled_download_costs_little() {
    let (app, taken) = endless();
    let sidecar = Start::with(app).start();
    let before = warmed(&sidecar).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Raw::to(sidecar.public).await;
        reader.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
        reader.until("200 OK").await;
        readers.push(reader);
    }
    let each = cost(&sidecar, &taken, before, READERS).await;
    assert!(each <= MOST, "a stalled download costs {} KiB", each >> 10);
}

#[tokio::test]
async fn a_stalled_download_over_http2_costs_little() {
    let (app, taken) = endless();
    let sidecar = Start::with(app).set("public.h2c", true).start();
    let before = warmed(&sidecar).await;
    // No window at all; and the usual one, which the first answers use up for all others of their connection.
    for settings in [&[0, 4, 0, 0, 0, 0][..], &[]] {
        let mut readers = Vec::new();
        for _ in 0..10 {
            let mut reader = Frames::to(sidecar.public).await;
            reader.send(&frame(SETTINGS, 0, 0, settings)).await;
            for number in 0..10 {
                reader.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &get("/endless"))).await;
            }
            let mut heads = 0;
            while heads < 10 {
                heads += usize::from(reader.next().await.unwrap().kind == HEADERS);
            }
            readers.push(reader);
        }
        let each = cost(&sidecar, &taken, before, READERS).await;
        assert!(each <= MOST, "a stalled download costs {} KiB with {settings:?}", each >> 10);
    }
}

#[tokio::test]
async fn a_stalled_download_over_tls_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let (app, taken) = endless();
    let sidecar = Start::with(app).tls(&certificate).start();
    let client = trusting(&[&certificate], &BOTH_VERSIONS);
    let ask = async |path: &str| {
        let mut reader = connect(sidecar.public, &client, "localhost").await.unwrap();
        reader.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        within(reader.read_exact(&mut begin)).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        reader
    };
    for _ in 0..20 {
        ask("/").await;
    }
    let before = sidecar.memory();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(ask("/endless").await);
    }
    loop {
        let sent = taken.load(Ordering::Relaxed);
        for _ in 0..50 {
            ask("/").await;
        }
        if taken.load(Ordering::Relaxed) == sent {
            break;
        }
    }
    let each = sidecar.memory().saturating_sub(before) / READERS;
    // TLS adds a record, the keys, and what the handshake leaves.
    assert!(each <= MOST + (32 << 10), "a stalled download costs {} KiB", each >> 10);
}

#[tokio::test]
async fn a_slow_app_slows_the_client_down() {
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        // It never reads the body.
        std::future::pending::<()>().await;
        drop(stream);
    });
    let sidecar = Start::with(app).set("app.timeouts.first_byte", "2s").start();
    let before = sidecar.memory();
    let mut client = Raw::to(sidecar.public).await;
    client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 200 * MIB)).await;
    let mut sent = 0;
    let piece = vec![b'x'; 64 << 10];
    let (mut reader, mut writer) = client.0.split();
    let mut answer = [0; 12];
    let upload = async {
        while let Ok(count) = writer.write(&piece).await {
            sent += count as u64;
        }
        std::future::pending::<()>().await;
    };
    // The app times out since nothing moved: the upload was not buffered.
    tokio::select! {
        read = within(reader.read_exact(&mut answer)) => drop(read.unwrap()),
        () = upload => {}
    }
    assert_eq!(&answer, b"HTTP/1.1 504");
    let grown = sidecar.memory().saturating_sub(before);
    assert!(sent < 32 * MIB && grown < 8 * MIB, "{} KiB were accepted, memory grew by {} KiB", sent >> 10, grown >> 10);
}
