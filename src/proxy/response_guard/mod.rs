//! A connection to an upstream as hyper sees it.
//!
//! Reading passes on only responses that every HTTP parser would read the same way (RFC 9112 sections 6, 7, 8); anything
//! else is an error and marks the connection unusable. It holds back only heads and chunk lines that are incomplete. After
//! a failed write the rest of the request is dropped, and the response, which may be there already, is still read (RFC
//! 9112 section 9.5).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::descriptors::Descriptor;
use crate::framing::{Limits, Method, Refusal, ResponseReader, Step};
use crate::listener::ResetFlag;
use crate::recent::lock;

/// Bytes read at once while a head is held back.
const PIECE: usize = 8 << 10;
/// At most this many bytes are read at once: what a slow client has not taken waits in pieces of this size. One less than
/// hyper's own step, which hyper would double whenever a read fills it.
const MAX_READ: usize = (32 << 10) - 1;
/// A buffer for a repeatable head that has grown beyond this is not kept with an idle connection.
const KEPT_HEAD: usize = 8 << 10;

/// What the client and the guard of one connection share.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    request: Mutex<Option<(Method, bool)>>,
    unusable: AtomicBool,
    stage: AtomicU8,
    record_head: AtomicBool,
    head: Mutex<Vec<u8>>,
    pub(super) reset: ResetFlag,
}

/// How much of the response to the last request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    Nothing,
    /// A byte, or an interim response.
    Started,
    /// The head of the final response.
    Head,
    /// Some of its body.
    Body,
    Complete,
}

impl ConnectionState {
    /// Announces the next request. A `repeatable` one has no body, and its head is recorded as it is written.
    pub(super) fn begin(&self, method: &http::Method, upgrade: bool, repeatable: bool) {
        let method = if *method == http::Method::HEAD { Method::Head } else { Method::Other };
        self.reach(Stage::Nothing);
        *lock(&self.request) = Some((method, upgrade));
        let mut head = lock(&self.head);
        head.clear();
        head.shrink_to(KEPT_HEAD);
        self.record_head.store(repeatable, Relaxed);
    }

    /// The head of the last request as it was written, if it was repeatable and written at all.
    pub(super) fn recorded_head(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.head))
    }

    pub(super) fn response_started(&self) -> bool {
        self.is_past(Stage::Started)
    }

    pub(super) fn head_received(&self) -> bool {
        self.is_past(Stage::Head)
    }

    pub(super) fn response_complete(&self) -> bool {
        self.is_past(Stage::Complete)
    }

    /// Nothing that followed a good head could be read.
    pub(super) fn is_malformed_after_head(&self) -> bool {
        self.is_unusable() && !self.is_past(Stage::Body)
    }

    /// The upstream sent something that it should not have sent.
    pub(super) fn is_unusable(&self) -> bool {
        self.unusable.load(Relaxed)
    }

    fn reach(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    fn is_past(&self, stage: Stage) -> bool {
        self.stage.load(Relaxed) >= stage as u8
    }
}

/// See the module.
pub(super) struct ResponseGuard<I> {
    io: I,
    reader: ResponseReader,
    state: Arc<ConnectionState>,
    /// Bytes that came; the first `accepted` of them may be passed on.
    buffered: BytesMut,
    accepted: usize,
    refused: Option<Refusal>,
    opaque: bool,
    write_failed: bool,
    /// Of the bytes hyper wanted to write, some are not written.
    write_pending: bool,
    /// Makes closing `io` a reset.
    reset: fn(&I),
    /// Counts the socket for as long as it is open.
    _descriptor: Descriptor,
}

impl<I> Drop for ResponseGuard<I> {
    fn drop(&mut self) {
        if self.state.reset.is_set() {
            (self.reset)(&self.io);
        }
    }
}

impl<I> ResponseGuard<I> {
    pub(super) fn new(
        io: I,
        limits: Limits,
        state: Arc<ConnectionState>,
        descriptor: Descriptor,
        reset: fn(&I),
    ) -> Self {
        Self {
            io,
            reader: ResponseReader::new(limits),
            state,
            buffered: BytesMut::new(),
            accepted: 0,
            refused: None,
            opaque: false,
            write_failed: false,
            write_pending: false,
            reset,
            _descriptor: descriptor,
        }
    }

    /// How many of `bytes` may be passed on. The rest needs more bytes behind it, or was refused.
    fn accept(&mut self, bytes: &[u8]) -> usize {
        if !self.state.response_started() {
            self.state.reach(Stage::Started);
        }
        let mut accepted = 0;
        while self.refused.is_none() && accepted < bytes.len() {
            if self.reader.is_idle()
                && let Some((method, upgrade)) = lock(&self.state.request).take()
            {
                self.reader.expect(method, upgrade);
            }
            match self.reader.step(bytes.get(accepted..).unwrap_or_default()) {
                Ok(Step::Head { len, head }) => {
                    accepted += len;
                    if !head.interim {
                        self.state.reach(if self.reader.is_idle() { Stage::Complete } else { Stage::Head });
                    }
                }
                Ok(Step::Body { len, end }) => {
                    accepted += len;
                    self.state.reach(if end { Stage::Complete } else { Stage::Body });
                }
                Ok(Step::More) => break,
                Ok(Step::Opaque) => {
                    self.opaque = true;
                    accepted = bytes.len();
                }
                Err(refusal) => self.refuse(refusal),
            }
        }
        accepted
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.state.unusable.store(true, Relaxed);
        self.refused = Some(refusal);
        tracing::warn!(
            reason = refusal.reason(),
            section = refusal.section(),
            "an upstream sent a response that parsers read differently"
        );
    }

    fn record_head(&self, slices: &[IoSlice<'_>]) {
        if self.state.record_head.load(Relaxed) {
            self.state.record_head.store(false, Relaxed);
            // hyper offers a head without a body in one write. Behind bytes of the request before, it does not begin here.
            if !self.write_pending {
                let mut head = lock(&self.state.head);
                for slice in slices {
                    head.extend_from_slice(slice);
                }
            }
        }
    }

    /// The outcome of a write of `offered` bytes, for hyper.
    fn note_write(&mut self, outcome: Poll<io::Result<usize>>, offered: usize) -> Poll<io::Result<usize>> {
        let outcome = match outcome {
            Poll::Ready(Err(_)) => {
                self.write_failed = true;
                Poll::Ready(Ok(offered))
            }
            Poll::Ready(Ok(_)) | Poll::Pending => outcome,
        };
        self.write_pending = !matches!(outcome, Poll::Ready(Ok(written)) if written == offered);
        outcome
    }
}

fn malformed(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} ({})", refusal.reason(), refusal.section()))
}

impl<I: AsyncRead + Unpin> ResponseGuard<I> {
    /// Reads straight into hyper's buffer, as almost all bytes go. Ready with true once hyper has something to see.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = buf.filled().len();
        ready!(self.poll_piece(cx, buf))?;
        let fresh = buf.filled().get(start..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(self.end().map(|()| true));
        }
        if self.opaque {
            return Poll::Ready(Ok(true));
        }
        let accepted = self.accept(fresh);
        self.buffered.extend_from_slice(fresh.get(accepted..).unwrap_or_default());
        buf.set_filled(start + accepted);
        Poll::Ready(Ok(accepted > 0))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() <= MAX_READ {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(MAX_READ));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        let count = piece.filled().len();
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Reads behind what is held back.
    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0; PIECE];
        let mut piece = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        if piece.filled().is_empty() {
            return Poll::Ready(self.end().map(|()| true));
        }
        self.buffered.extend_from_slice(piece.filled());
        let buffered = std::mem::take(&mut self.buffered);
        self.accepted = self.accept(&buffered);
        self.buffered = buffered;
        Poll::Ready(Ok(false))
    }

    fn end(&mut self) -> io::Result<()> {
        self.reader.end(self.buffered.len()).map_err(|refusal| {
            self.state.unusable.store(true, Relaxed);
            malformed(refusal)
        })
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for ResponseGuard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.accepted > 0 {
                let count = this.accepted.min(buf.remaining());
                buf.put_slice(this.buffered.get(..count).unwrap_or_default());
                this.buffered.advance(count);
                this.accepted -= count;
                return Poll::Ready(Ok(()));
            }
            if let Some(refusal) = this.refused {
                return Poll::Ready(Err(malformed(refusal)));
            }
            let done = if this.buffered.is_empty() { this.poll_direct(cx, buf) } else { this.poll_behind(cx) };
            if ready!(done)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for ResponseGuard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.record_head(&[IoSlice::new(bytes)]);
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note_write(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.record_head(slices);
        let offered = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(offered));
        }
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.note_write(outcome, offered)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.write_failed && ready!(Pin::new(&mut self.io).poll_flush(cx)).is_err() {
            self.write_failed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
