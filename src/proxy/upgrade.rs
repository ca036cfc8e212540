//! Upgraded connections: bytes both ways until either side, the session, a silence or the drain ends them.
//!
//! In: both upgraded sockets. Out: nothing; the task ends with them. It reads no more of a WebSocket than where its frames
//! begin, to be able to say goodbye between two of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listener::Cut;
use crate::telemetry::metrics::Metrics;

type Socket = TokioIo<Upgraded>;

/// Bytes moved at once, each way.
const PIECE: usize = 16 << 10;
/// RFC 6455 section 7.4.1: a Close frame with 1001, "going away", as a server sends it.
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// What keeps upgraded connections counted, and what ends them.
#[derive(Clone, Debug)]
pub(crate) struct Upgrades {
    /// Counts them; the drain waits for it.
    pub tracker: TaskTracker,
    /// The drain.
    pub drain: CancellationToken,
    /// The session they belong to ended.
    pub session_end: Option<Arc<CancellationToken>>,
    /// Nothing moved for so long.
    pub idle: Duration,
    /// The gauge.
    pub metrics: Arc<Metrics>,
}

/// One of the two sockets.
pub(super) struct End {
    pub(super) upgrade: OnUpgrade,
    /// Resets it.
    pub(super) cut: Option<Cut>,
}

impl Upgrades {
    /// Joins the two once both have switched. `websocket` where the frames are known.
    pub(super) fn join(self, client: End, app: End, websocket: bool) {
        let tracker = self.tracker.clone();
        tracker.spawn(async move {
            // Where one of them does not come about, the other is dropped, and so closed.
            let (Ok(on_client), Ok(on_app)) = tokio::join!(client.upgrade, app.upgrade) else { return };
            let gauge = self.metrics.upgrades().clone();
            gauge.increment(1.0);
            let sockets = (TokioIo::new(on_client), TokioIo::new(on_app));
            let reset = || [&client.cut, &app.cut].into_iter().flatten().for_each(Cut::cut);
            self.copy(sockets, websocket, reset).await;
            gauge.decrement(1.0);
        });
    }

    /// Calls `reset` where one side broke off instead of closing: the other is to see no clean end.
    async fn copy(self, (client, app): (Socket, Socket), websocket: bool, reset: impl Fn()) {
        let (client_reader, client_writer) = tokio::io::split(client);
        let (app_reader, app_writer) = tokio::io::split(app);
        let (moved, seen) = watch::channel(Instant::now());
        let farewell = self.ending();
        let _over = farewell.clone().drop_guard();
        let up = pump(client_reader, app_writer, moved.clone());
        let down = pump_frames(app_reader, client_writer, moved, websocket.then(Frames::default), farewell.clone());
        tokio::select! {
            // Half-close is kept: one direction may end long before the other. A reset is told while both sockets are there.
            _ = async { tokio::try_join!(up.inspect_err(|_| reset()), down.inspect_err(|_| reset())) } => {}
            () = silence(seen, self.idle) => {}
            // What cannot be said politely in time is cut.
            () = async { farewell.cancelled().await; tokio::time::sleep(Duration::from_secs(5)).await } => {}
        }
    }

    /// Cancelled by the drain or by the session's end.
    fn ending(&self) -> CancellationToken {
        let ending = self.drain.child_token();
        if let Some(session_end) = self.session_end.clone() {
            let (on, gone) = (ending.clone(), ending.clone());
            self.tracker.spawn(async move {
                tokio::select! {
                    () = session_end.cancelled() => on.cancel(),
                    () = gone.cancelled() => {}
                }
            });
        }
        ending
    }
}

async fn silence(mut seen: watch::Receiver<Instant>, allowed: Duration) {
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
        if pass(&mut to, piece.get(..count).unwrap_or_default()).await.is_err() {
            // Whether it closed or broke off is seen by reading from it; what it sent before still goes the other way.
            return Ok(());
        }
    }
    // The other side may be gone already; then there is nobody to tell.
    let _ = to.shutdown().await;
    Ok(())
}

/// TLS takes bytes before the socket does: what is not flushed would lie there until something else is written.
async fn pass<W: AsyncWrite>(to: &mut WriteHalf<W>, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

async fn pump_frames<R, W>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    moved: watch::Sender<Instant>,
    mut frames: Option<Frames>,
    farewell: CancellationToken,
) -> io::Result<()>
where
    R: AsyncRead,
    W: AsyncWrite,
{
    let mut piece = vec![0; PIECE];
    loop {
        let leaving = farewell.is_cancelled();
        if leaving && frames.as_ref().is_none_or(Frames::between) {
            if frames.is_some() {
                let _ = to.write_all(&GOING_AWAY).await;
            }
            break;
        }
        let count = tokio::select! {
            read = from.read(&mut piece) => read?,
            () = farewell.cancelled(), if !leaving => continue,
        };
        if count == 0 {
            break;
        }
        moved.send_replace(Instant::now());
        let bytes = piece.get(..count).unwrap_or_default();
        if let Some(frames) = &mut frames {
            frames.pass(bytes);
        }
        if pass(&mut to, bytes).await.is_err() {
            return Ok(());
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

/// Where in a stream of WebSocket frames one is (RFC 6455 section 5.2).
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    left: u64,
}

impl Frames {
    fn between(&self) -> bool {
        self.left == 0 && self.head.is_empty()
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let Some(length) = payload(&self.head) {
                self.left = length;
                self.head.clear();
            }
        }
    }
}

/// The payload's length, with its mask where it has one left out, once the head is whole.
fn payload(head: &[u8]) -> Option<u64> {
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
    use super::*;

    #[test]
    fn frame_boundaries_are_known_however_the_bytes_come() {
        let mut stream = vec![0x81, 0x05];
        stream.extend_from_slice(b"hello");
        stream.extend_from_slice(&[0x82, 126, 0x01, 0x00]);
        stream.extend_from_slice(&[7; 256]);
        stream.extend_from_slice(&[0x81, 0x82, 1, 2, 3, 4, b'a', b'b']);
        stream.extend_from_slice(&[0x89, 0x00]);
        let boundaries = [7, 7 + 4 + 256, 7 + 260 + 8, 7 + 260 + 8 + 2];
        let mut frames = Frames::default();
        for (place, byte) in stream.iter().enumerate() {
            frames.pass(&[*byte]);
            assert_eq!(frames.between(), boundaries.contains(&(place + 1)), "after byte {}", place + 1);
        }
        let mut whole = Frames::default();
        whole.pass(&stream);
        assert!(whole.between());
    }
}
