//! What breaks off on one side breaks off on the other: a cut is a reset wherever a plain close would say that all is there.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::client::TlsStream;

use crate::harness::{App, BOTH_VERSIONS, Certificate, Raw, World, connect, head, trusting, within};

/// How an app ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Closing,
    Resetting,
}

/// An app that answers like this, and leaves once it is told to.
fn leaving(answer: &'static str, how: Leaves) -> (App, tokio::sync::mpsc::Sender<()>) {
    let (leave, told) = tokio::sync::mpsc::channel(1);
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let app = App::raw(move |mut stream| {
        let told = told.clone();
        async move {
            head(&mut stream).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            told.lock().await.recv().await;
            if how == Leaves::Resetting {
                stream.set_zero_linger().unwrap();
            }
        }
    });
    (app, leave)
}

/// Reads until `end` was read.
async fn until_read<S: AsyncRead + Unpin>(stream: &mut S, end: &str) {
    let mut came = Vec::new();
    while !came.ends_with(end.as_bytes()) {
        came.push(within(stream.read_u8()).await.unwrap());
    }
}

/// How the rest of a stream ends.
async fn ends<S: AsyncRead + Unpin>(stream: &mut S) -> Result<usize, ErrorKind> {
    within(stream.read_to_end(&mut Vec::new())).await.map_err(|error| error.kind())
}

async fn tls(world: &World, certificate: &Certificate) -> TlsStream<TcpStream> {
    connect(world.public_address(), &trusting(&[certificate], &BOTH_VERSIONS), "localhost").await.unwrap()
}

const ASK: &[u8] = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nhello";

#[tokio::test]
async fn an_answer_that_was_cut_is_no_short_success_to_an_http_1_0_client() {
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
async fn an_answer_that_was_cut_ends_without_close_notify_under_tls() {
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

const SWITCH: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: morse\r\n\r\nhello";

#[tokio::test]
async fn an_app_that_resets_what_was_upgraded_is_no_app_that_ends() {
    for (how, expected) in [(Leaves::Closing, Ok(0)), (Leaves::Resetting, Err(ErrorKind::ConnectionReset))] {
        let (app, leave) = leaving(SWITCHED, how);
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send(SWITCH).await;
        client.until("hello").await;
        leave.send(()).await.unwrap();
        assert_eq!(ends(&mut client.0).await, expected);
    }
}

/// An app that switches, and tells how its client ended.
fn listening() -> (App, UnboundedReceiver<Result<usize, ErrorKind>>) {
    let (told, ended) = unbounded_channel();
    let app = App::raw(move |mut stream| {
        let told = told.clone();
        async move {
            head(&mut stream).await.unwrap();
            stream.write_all(SWITCHED.as_bytes()).await.unwrap();
            told.send(ends(&mut stream).await).unwrap();
        }
    });
    (app, ended)
}

#[tokio::test]
async fn a_client_that_resets_what_was_upgraded_is_no_client_that_ends() {
    for (resets, expected) in [(false, Ok(3)), (true, Err(ErrorKind::ConnectionReset))] {
        let (app, mut ended) = listening();
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send(SWITCH).await;
        client.until("hello").await;
        client.send("bye").await;
        if resets {
            client.0.set_zero_linger().unwrap();
        }
        drop(client);
        assert_eq!(within(ended.recv()).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_tls_client_that_leaves_without_close_notify_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    for (says_so, whole) in [(true, true), (false, false)] {
        let (app, mut ended) = listening();
        let world = World::open(app).tls(&certificate).start();
        let mut client = tls(&world, &certificate).await;
        client.write_all(SWITCH).await.unwrap();
        until_read(&mut client, "hello").await;
        if says_so {
            client.shutdown().await.unwrap();
        } else {
            // The socket alone, under the TLS.
            client.get_mut().0.shutdown().await.unwrap();
        }
        assert_eq!(within(ended.recv()).await.unwrap().is_ok(), whole, "{says_so}");
    }
}

/// Reads and writes as fast as the other side does, and a bit more slowly.
async fn back_and_forth<S: AsyncRead + AsyncWrite + Unpin>(stream: S, length: usize) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let piece = [7_u8; 10_000];
    let write = async {
        for _ in 0..length / piece.len() {
            writer.write_all(&piece).await.unwrap();
        }
        writer.flush().await.unwrap();
    };
    let read = async {
        let mut space = [0; 5_000];
        for _ in 0..length / space.len() {
            within(reader.read_exact(&mut space)).await.unwrap();
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn what_was_upgraded_passes_to_the_last_byte_under_tls() {
    const LENGTH: usize = 8_000_000;
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        stream.write_all(SWITCHED.as_bytes()).await.unwrap();
        // All of it is sent, and nothing after it: who waits for the last byte waits for nothing else.
        back_and_forth(&mut stream, LENGTH).await;
        assert_eq!(ends(&mut stream).await, Ok(0));
    });
    let world = World::open(app).tls(&certificate).start();
    let mut client = tls(&world, &certificate).await;
    client.write_all(SWITCH).await.unwrap();
    until_read(&mut client, "hello").await;
    back_and_forth(&mut client, LENGTH).await;
    client.shutdown().await.unwrap();
    assert_eq!(ends(&mut client).await, Ok(0));
}
