//! What an upstream sends, read strictly before hyper reads it (RFC 9112 sections 6, 7, 8).
//!
//! In: an upstream's socket, and what was asked on it. Out: the same bytes, as long as they have one reading; else an error
//! in their place, and a mark that this connection must not be used again. It holds back only heads and chunk lines that
//! are not whole yet.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::descriptors::Descriptor;
use crate::framing::{Limits, Method, Refusal, ResponseReader, Step};
use crate::listener::Cut;
use crate::recent::lock;

/// Bytes that are read at once while a head is held back.
const PIECE: usize = 8 << 10;
/// Bytes that are read at once at the most: what a client does not take waits in pieces of this size. One less than hyper's
/// own step, which it would double whenever a read fills it.
const MOST: usize = (32 << 10) - 1;

/// What the client side tells the reader, and learns from it.
#[derive(Debug, Default)]
pub(super) struct Told {
    asked: Mutex<Option<(Method, bool)>>,
    tainted: AtomicBool,
    stage: AtomicU8,
    /// How the connection ends.
    pub(super) cut: Cut,
}

/// How much of the answer to the last request was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    #[default]
    Asked,
    /// A byte, or an interim answer.
    Heard,
    /// The head of the final answer.
    Head,
    /// Something of its body.
    Body,
    /// All of it.
    End,
}

impl Told {
    /// A request goes out now; `upgrade` where it asks for one.
    pub(super) fn ask(&self, method: &http::Method, upgrade: bool) {
        let method = if *method == http::Method::HEAD { Method::Head } else { Method::Other };
        self.reached(Stage::Asked);
        *lock(&self.asked) = Some((method, upgrade));
    }

    /// Bytes came since the last request went out.
    pub(super) fn heard(&self) -> bool {
        self.is_past(Stage::Heard)
    }

    /// The last request has its final answer, or the head of it.
    pub(super) fn answered(&self) -> bool {
        self.is_past(Stage::Head)
    }

    /// The last request has its answer, to the last byte.
    pub(super) fn ended(&self) -> bool {
        self.is_past(Stage::End)
    }

    /// After a good head nothing was good.
    pub(super) fn spoilt(&self) -> bool {
        self.tainted() && !self.is_past(Stage::Body)
    }

    fn reached(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn is_past(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Relaxed) >= stage as u8
    }

    /// Something was read that should not have been there.
    pub(super) fn tainted(&self) -> bool {
        self.tainted.load(Ordering::Relaxed)
    }

    fn taken(&self) -> Option<(Method, bool)> {
        lock(&self.asked).take()
    }
}

/// An upstream's socket behind the strict reader.
pub(super) struct Wire<I> {
    io: I,
    reader: ResponseReader,
    told: Arc<Told>,
    /// Bytes that came; the first `judged` of them may go on.
    held: BytesMut,
    judged: usize,
    refused: Option<Refusal>,
    opaque: bool,
    /// Its own, wherever the socket goes.
    _descriptor: Descriptor,
}

impl<I> Wire<I> {
    pub(super) fn new(io: I, limits: Limits, told: Arc<Told>, descriptor: Descriptor) -> Self {
        Self {
            io,
            reader: ResponseReader::new(limits),
            told,
            held: BytesMut::new(),
            judged: 0,
            refused: None,
            opaque: false,
            _descriptor: descriptor,
        }
    }

    /// How many of `bytes` may go on. The rest has to wait for more, or never goes.
    fn judge(&mut self, bytes: &[u8]) -> usize {
        if !self.told.heard() {
            self.told.reached(Stage::Heard);
        }
        let mut judged = 0;
        while self.refused.is_none() && judged < bytes.len() {
            if self.reader.is_idle()
                && let Some((method, upgrade)) = self.told.taken()
            {
                self.reader.asked(method, upgrade);
            }
            match self.reader.step(bytes.get(judged..).unwrap_or_default()) {
                Ok(Step::Head { len, head }) => {
                    judged += len;
                    if !head.interim {
                        self.told.reached(if self.reader.is_idle() { Stage::End } else { Stage::Head });
                    }
                }
                Ok(Step::Body { len, end }) => {
                    judged += len;
                    self.told.reached(if end { Stage::End } else { Stage::Body });
                }
                Ok(Step::More) => break,
                Ok(Step::Opaque) => {
                    self.opaque = true;
                    judged = bytes.len();
                }
                Err(refusal) => self.refuse(refusal),
            }
        }
        judged
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.told.tainted.store(true, Ordering::Relaxed);
        self.refused = Some(refusal);
        tracing::warn!(
            reason = refusal.reason(),
            section = refusal.section(),
            "an upstream sent what has no one reading"
        );
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let most = self.judged.min(buf.remaining());
        buf.put_slice(self.held.get(..most).unwrap_or_default());
        self.held.advance(most);
        self.judged -= most;
    }
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} ({})", refusal.reason(), refusal.section()))
}

impl<I: AsyncRead + Unpin> Wire<I> {
    /// Straight into the reader's own buffer, where nothing is held back: the way almost all bytes go.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = buf.filled().len();
        std::task::ready!(self.poll_piece(cx, buf))?;
        let came = buf.filled().get(start..).unwrap_or_default();
        if came.is_empty() {
            return Poll::Ready(self.end().map(|()| true));
        }
        if self.opaque {
            return Poll::Ready(Ok(true));
        }
        let judged = self.judge(came);
        self.held.extend_from_slice(came.get(judged..).unwrap_or_default());
        buf.set_filled(start + judged);
        Poll::Ready(Ok(judged > 0))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() <= MOST {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(MOST));
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        let count = piece.filled().len();
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0; PIECE];
        let mut piece = ReadBuf::new(&mut space);
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        if piece.filled().is_empty() {
            return Poll::Ready(self.end().map(|()| true));
        }
        self.held.extend_from_slice(piece.filled());
        let held = std::mem::take(&mut self.held);
        self.judged = self.judge(&held);
        self.held = held;
        Poll::Ready(Ok(false))
    }

    fn end(&mut self) -> io::Result<()> {
        match self.reader.end(self.held.len()) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.told.tainted.store(true, Ordering::Relaxed);
                Err(refused(refusal))
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.judged > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(refusal) = this.refused {
                return Poll::Ready(Err(refused(refusal)));
            }
            let done = if this.held.is_empty() { this.poll_direct(cx, buf) } else { this.poll_held(cx) };
            if std::task::ready!(done)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What comes through of `pieces`, after a GET, and whether the connection is tainted then.
    async fn through(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), io::ErrorKind>, bool) {
        let told = Arc::new(Told::default());
        told.ask(&http::Method::GET, false);
        let mut script = tokio_test_script(pieces);
        let descriptor = crate::descriptors::Descriptors::new(None).outgoing().await.unwrap();
        let mut wire = Wire::new(&mut script, Limits::default(), told.clone(), descriptor);
        let mut all = Vec::new();
        let end = wire.read_to_end(&mut all).await.map(|_| ()).map_err(|error| error.kind());
        (all, end, told.tainted())
    }

    struct Script(Vec<Vec<u8>>);

    fn tokio_test_script(pieces: &[&[u8]]) -> Script {
        Script(pieces.iter().rev().map(|piece| piece.to_vec()).collect())
    }

    impl AsyncRead for Script {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if let Some(piece) = self.0.pop() {
                let most = piece.len().min(buf.remaining());
                buf.put_slice(&piece[..most]);
                if most < piece.len() {
                    self.0.push(piece[most..].to_vec());
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_good_answer_comes_through_however_it_is_cut() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for cut in 1..answer.len() {
            let (all, end, tainted) = through(&[&answer[..cut], &answer[cut..]]).await;
            assert_eq!((all.as_slice(), end, tainted), (&answer[..], Ok(()), false), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        assert_eq!(through(&bytes).await.0, answer);
    }

    #[tokio::test]
    async fn what_has_two_readings_ends_in_an_error_and_taints() {
        let table: [&[u8]; 6] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            b"HTTP/1.1 204 No Content\r\n\r\nsurplus",
        ];
        for answer in table {
            let (_, end, tainted) = through(&[answer]).await;
            assert!(end.is_err() && tainted, "{}", String::from_utf8_lossy(answer));
        }
    }
}
