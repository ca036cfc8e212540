//! A message that breaks off on one side breaks off on the other: a cut is a reset wherever a close would mean a
//! complete message.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::answers::says_once;
use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, get};
use crate::harness::{App, BOTH_VERSIONS, Certificate, Raw, World, connect, head, trusting, within};

/// How an app ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    Closing,
    Resetting,
}

/// An app that sends this answer, and leaves when the sender says so.
pub(crate) fn leaving(answer: &'static str, how: Leaves) -> (App, tokio::sync::mpsc::Sender<()>) {
    let (sender, leave) = tokio::sync::mpsc::channel(1);
    let leave = Arc::new(tokio::sync::Mutex::new(leave));
    let app = App::raw(move |mut stream| {
        let leave = leave.clone();
        async move {
            head(&mut stream).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            leave.lock().await.recv().await;
            if how == Leaves::Resetting {
                stream.set_zero_linger().unwrap();
            }
        }
    });
    (app, sender)
}

/// Reads until `end` was read.
pub(crate) async fn until_read<S: AsyncRead + Unpin>(stream: &mut S, end: &str) {
    let mut came = Vec::new();
    while !came.ends_with(end.as_bytes()) {
        came.push(within(stream.read_u8()).await.unwrap());
    }
}

/// Reads the rest of a stream; its length, or how it broke off.
pub(crate) async fn ends<S: AsyncRead + Unpin>(stream: &mut S) -> Result<usize, ErrorKind> {
    within(stream.read_to_end(&mut Vec::new())).await.map_err(|error| error.kind())
}

pub(crate) async fn tls(world: &World, certificate: &Certificate) -> TlsStream<TcpStream> {
    connect(world.public_address(), &trusting(&[certificate], &BOTH_VERSIONS), "localhost").await.unwrap()
}

const ASK: &[u8] = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nhello";

#[tokio::test]
async fn a_cut_answer_resets_an_http_1_0_client() {
    for (answer, how, whole) in [
        (CHUNKED, Leaves::Closing, false),
        (CHUNKED, Leaves::Resetting, false),
        (UNTIL_CLOSE, Leaves::Resetting, false),
        (UNTIL_CLOSE, Leaves::Closing, true),
    ] {
        let (app, leave) = leaving(answer, how);
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send(ASK).await;
        client.until("hello").await;
        leave.send(()).await.unwrap();
        let expected = if whole { Ok(0) } else { Err(ErrorKind::ConnectionReset) };
        assert_eq!(ends(&mut client.0).await, expected, "{answer:?}, {how:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_ends_without_close_notify_under_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    for (how, whole) in [(Leaves::Resetting, false), (Leaves::Closing, true)] {
        let (app, leave) = leaving(UNTIL_CLOSE, how);
        let world = World::open(app).tls(&certificate).start();
        let mut client = tls(&world, &certificate).await;
        client.write_all(ASK).await.unwrap();
        until_read(&mut client, "hello").await;
        leave.send(()).await.unwrap();
        assert_eq!(ends(&mut client).await.is_ok(), whole, "{how:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_cut_for_an_http_1_1_client() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let world = World::open(says_once(bytes)).start();
        let answer = world.client().get("/").await;
        assert_eq!((answer.status.as_u16(), answer.broken), (200, true), "{answer:?}");
        assert!(b"only this".starts_with(&answer.body));
    }
}

#[tokio::test]
async fn a_cut_answer_resets_its_http_2_stream() {
    let world =
        World::open(says_once("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")).set("public.h2c", true).start();
    let mut client = Frames::to(world.public_address()).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    loop {
        let frame = client.next().await.expect("a reset");
        if frame.stream == 1 {
            assert_eq!(frame.flags & END_STREAM, 0, "a short success: {frame:?}");
            if frame.kind == RST_STREAM {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_silent_app_is_a_504_and_a_stalled_answer_is_cut() {
    let app = App::raw(|mut stream| async move {
        let asked = head(&mut stream).await.unwrap_or_default();
        if asked.starts_with("GET /half") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        }
        std::future::pending::<()>().await;
        drop(stream);
    });
    let world = World::open(app).set("app.timeouts.first_byte", "300ms").set("app.timeouts.idle", "300ms").start();
    let slow = world.client().get("/silent").await;
    assert_eq!((slow.status.as_u16(), slow.problem().as_str()), (504, "app-slow"));
    let half = world.client().get("/half").await;
    assert_eq!((half.status.as_u16(), &half.body[..], half.broken), (200, &b"half"[..], true));
    assert!(world.metric("upwarden_upstream_errors_total{side=\"app\"}").await > 0);
    assert_eq!(world.metric("upwarden_refused_total{door=\"public\",reason=\"answer_cut\"}").await, 1);
}
