//! The end of an upgraded connection: a reset on one side is a reset on the other, and every byte before it passes.

use std::io::ErrorKind;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::harness::{App, Certificate, Raw, World, head, within};
use crate::upstream::cuts::{Leaves, ends, leaving, tls, until_read};

const SWITCH: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: morse\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: morse\r\n\r\nhello";

#[tokio::test]
async fn a_reset_by_the_app_reaches_the_client() {
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

/// An app that switches protocols, and reports how its client ended.
fn listening() -> (App, UnboundedReceiver<Result<usize, ErrorKind>>) {
    let (sender, ended) = unbounded_channel();
    let app = App::raw(move |mut stream| {
        let sender = sender.clone();
        async move {
            head(&mut stream).await.unwrap();
            stream.write_all(SWITCHED.as_bytes()).await.unwrap();
            sender.send(ends(&mut stream).await).unwrap();
        }
    });
    (app, ended)
}

#[tokio::test]
async fn a_reset_by_the_client_reaches_the_app() {
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
async fn a_missing_close_notify_is_a_reset_for_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    for (notifies, whole) in [(true, true), (false, false)] {
        let (app, mut ended) = listening();
        let world = World::open(app).tls(&certificate).start();
        let mut client = tls(&world, &certificate).await;
        client.write_all(SWITCH).await.unwrap();
        until_read(&mut client, "hello").await;
        if notifies {
            client.shutdown().await.unwrap();
        } else {
            // The socket alone, under the TLS.
            client.get_mut().0.shutdown().await.unwrap();
        }
        assert_eq!(within(ended.recv()).await.unwrap().is_ok(), whole, "{notifies}");
    }
}

/// Writes and reads at the same time, as fast as the other side does.
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
async fn every_byte_passes_under_tls() {
    const LENGTH: usize = 8_000_000;
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        stream.write_all(SWITCHED.as_bytes()).await.unwrap();
        // Nothing is sent after the last byte, so a byte that is held back would never come.
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
