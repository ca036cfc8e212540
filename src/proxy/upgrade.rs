//! Upgraded connections: copies bytes both ways until either side, the session, inactivity or the drain ends them.
//!
//! In a WebSocket it only finds where frames begin, so that it can send a Close frame between two of them.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http1::Socket;
use crate::telemetry::metrics::Metrics;

/// Bytes copied at once, each way.
const PIECE: usize = 16 << 10;
/// RFC 6455 section 7.4.1: a Close frame with 1001, "going away", as a server sends it.
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// What tracks an upgraded connection, and what ends it.
#[derive(Clone, Debug)]
pub(crate) struct Upgrades {
    /// The drain waits for it.
    pub tracker: TaskTracker,
    pub drain: CancellationToken,
    /// Cancelled when the session ends.
    pub session_end: Option<Arc<CancellationToken>>,
    /// How long it may be idle.
    pub idle: Duration,
    /// Released when it has ended.
    pub held: Option<Arc<dyn Any + Send + Sync>>,
    pub metrics: Arc<Metrics>,
}

impl Upgrades {
    /// Copies between the two once the client has its 101. If the client never gets it, the app's side is reset.
    pub(super) fn join(mut self, client: oneshot::Receiver<Socket>, mut app: Socket, websocket: bool) {
        let (tracker, held) = (self.tracker.clone(), self.held.take());
        tracker.spawn(async move {
            let _held = held;
            let Ok(client) = client.await else {
                // The app has switched protocols: a plain close would mean that the client had nothing to send.
                app.reset_flag().set(true);
                return;
            };
            let gauge = self.metrics.upgrades().clone();
            gauge.increment(1.0);
            self.copy(client, app, websocket).await;
            gauge.decrement(1.0);
        });
    }

    async fn copy(self, mut client: Socket, mut app: Socket, websocket: bool) {
        // If one side fails instead of closing, the other must not see a clean end.
        let resets = [client.reset_flag(), app.reset_flag()];
        let reset = || resets.iter().for_each(|flag| flag.set(true));
        let (client_reader, client_writer) = tokio::io::split(client);
        let (app_reader, app_writer) = tokio::io::split(app);
        let (moved, seen) = watch::channel(Instant::now());
        let closing = self.closing();
        let _closed = closing.clone().drop_guard();
        // The client's bytes reach the app only while there is a session.
        let session_end = self.session_end.clone().unwrap_or_default();
        let up = session_end.run_until_cancelled(pump(client_reader, app_writer, moved.clone()));
        let up = async { up.await.unwrap_or(Ok(())) };
        let down = pump_frames(app_reader, client_writer, moved, websocket.then(Frames::default), closing.clone());
        tokio::select! {
            // Half-close is kept: one direction may end long before the other. A reset needs both sockets still open.
            _ = async { tokio::try_join!(up.inspect_err(|_| reset()), down.inspect_err(|_| reset())) } => {}
            () = inactive(seen, self.idle) => {}
            // Without a clean close in time, the connection is cut.
            () = async { closing.cancelled().await; tokio::time::sleep(Duration::from_secs(5)).await } => {}
        }
    }

    /// Cancelled by the drain or by the session's end.
    fn closing(&self) -> CancellationToken {
        let closing = self.drain.child_token();
        if let Some(session_end) = self.session_end.clone() {
            let (cancel, closed) = (closing.clone(), closing.clone());
            self.tracker.spawn(async move {
                tokio::select! {
                    () = session_end.cancelled() => cancel.cancel(),
                    () = closed.cancelled() => {}
                }
            });
        }
        closing
    }
}

async fn inactive(mut seen: watch::Receiver<Instant>, allowed: Duration) {
    loop {
        let last = *seen.borrow_and_update();
        if last.elapsed() >= allowed {
            return;
        }
        tokio::time::sleep_until(last + allowed).await;
    }
}

async fn pump<R, W>(mut from: ReadHalf<R>, mut to: WriteHalf<W>, moved: watch::Sender<Instant>) -> io::Result<()>
where
    R: AsyncRead,
    W: AsyncWrite,
{
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        moved.send_replace(Instant::now());
        if forward(&mut to, piece.get(..count).unwrap_or_default()).await.is_err() {
            // Reading from it shows whether it closed or failed; bytes from before are still forwarded.
            return Ok(());
        }
    }
    // The other side may be closed already.
    let _ = to.shutdown().await;
    Ok(())
}

/// TLS buffers bytes: without a flush they would stay there until something else is written.
async fn forward<W: AsyncWrite>(to: &mut WriteHalf<W>, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

async fn pump_frames<R, W>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    moved: watch::Sender<Instant>,
    mut frames: Option<Frames>,
    closing: CancellationToken,
) -> io::Result<()>
where
    R: AsyncRead,
    W: AsyncWrite,
{
    let mut piece = vec![0; PIECE];
    loop {
        let leaving = closing.is_cancelled();
        if leaving && frames.as_ref().is_none_or(Frames::is_between) {
            if frames.is_some() {
                let _ = to.write_all(&GOING_AWAY).await;
            }
            break;
        }
        let count = tokio::select! {
            read = from.read(&mut piece) => read?,
            () = closing.cancelled(), if !leaving => continue,
        };
        if count == 0 {
            break;
        }
        moved.send_replace(Instant::now());
        let bytes = piece.get(..count).unwrap_or_default();
        if let Some(frames) = &mut frames {
            frames.read(bytes);
        }
        if forward(&mut to, bytes).await.is_err() {
            return Ok(());
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

/// The position in a stream of WebSocket frames (RFC 6455 section 5.2).
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    left: u64,
}

impl Frames {
    fn is_between(&self) -> bool {
        self.left == 0 && self.head.is_empty()
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let Some(length) = payload_length(&self.head) {
                self.left = length;
                self.head.clear();
            }
        }
    }
}

/// The length of the payload once the head, its mask included, is complete.
fn payload_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let (extended, mask) = (second & 0x7f, if second & 0x80 == 0 { 0 } else { 4 });
    let length_bytes = match extended {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if head.len() < 2 + length_bytes + mask {
        return None;
    }
    let long = head.get(2..2 + length_bytes)?.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    Some(if length_bytes == 0 { u64::from(extended) } else { long })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::http1::Stream;

    #[tokio::test]
    async fn an_app_that_has_switched_for_a_client_that_is_gone_sees_a_reset() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let upgrades = Upgrades {
            tracker: TaskTracker::new(),
            drain: CancellationToken::new(),
            session_end: None,
            idle: Duration::from_secs(60),
            held: None,
            metrics: Arc::default(),
        };
        let (promise, client) = oneshot::channel();
        upgrades.join(client, Stream::Tcp(near).into(), true);
        drop(promise);
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn frame_boundaries_are_found_however_the_bytes_arrive() {
        let mut stream = vec![0x81, 0x05];
        stream.extend_from_slice(b"hello");
        stream.extend_from_slice(&[0x82, 126, 0x01, 0x00]);
        stream.extend_from_slice(&[7; 256]);
        stream.extend_from_slice(&[0x81, 0x82, 1, 2, 3, 4, b'a', b'b']);
        stream.extend_from_slice(&[0x89, 0x00]);
        let boundaries = [7, 7 + 4 + 256, 7 + 260 + 8, 7 + 260 + 8 + 2];
        let mut frames = Frames::default();
        for (place, byte) in stream.iter().enumerate() {
            frames.read(&[*byte]);
            assert_eq!(frames.is_between(), boundaries.contains(&(place + 1)), "after byte {}", place + 1);
        }
        let mut whole = Frames::default();
        whole.read(&stream);
        assert!(whole.is_between());
    }
}
