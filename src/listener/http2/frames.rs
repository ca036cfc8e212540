//! A client's connection as h2 sees it, monitored frame by frame (RFC 9113 section 4.1).
//!
//! It ends a connection if a head takes too long, if the client floods it with frames that request nothing, or if the
//! client does not read, and counts the resets that h2 itself sends. The bytes pass unchanged, with one exception: h2
//! waits forever for the answer to the ping after its first GOAWAY, so if the client does not answer, the monitor does.
//! That ping's is the only payload of the client that it inspects.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::reader::{ACK, Cursor, DATA, Found, FrameReader, PING, RST_STREAM, SHUTDOWN, UPDATES_PER_PIECE};
use super::state::Http2State;
use crate::framing::Rejection;
use crate::http1::{Socket, Timer};
use crate::listener::door::Limits;
use crate::telemetry::metrics::Refusal;

/// How long a client may take to answer it, and so to send what is in transit.
const PONG_WAIT: Duration = Duration::from_secs(1);
/// How long, and how many bytes of, the input is discarded after our last byte: closing with unread input would reset the
/// connection before the client has read that.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 10;

/// See the module's documentation.
pub(super) struct FrameMonitor {
    stream: Socket,
    reader: FrameReader,
    /// The frames of our side.
    sent: Cursor,
    /// Since when something with a deadline is incomplete.
    incomplete_since: Option<Instant>,
    /// Since when the client has not read.
    blocked_since: Option<Instant>,
    ended: bool,
    lingering: Option<(Instant, usize)>,
    reading: Timer,
    writing: Timer,
    limits: Arc<Limits>,
    state: Arc<Http2State>,
}

/// Whether the HTTP library itself resets streams for this reason; the other reasons are ours (RFC 9113 section 7).
fn is_of_library(reason: h2::Reason) -> bool {
    [
        h2::Reason::PROTOCOL_ERROR,
        h2::Reason::FLOW_CONTROL_ERROR,
        h2::Reason::STREAM_CLOSED,
        h2::Reason::FRAME_SIZE_ERROR,
        h2::Reason::REFUSED_STREAM,
        h2::Reason::COMPRESSION_ERROR,
        h2::Reason::ENHANCE_YOUR_CALM,
    ]
    .contains(&reason)
}

impl FrameMonitor {
    pub(super) fn new(stream: Socket, limits: Arc<Limits>, state: Arc<Http2State>) -> Self {
        Self {
            stream,
            reader: FrameReader::new(),
            sent: Cursor::default(),
            incomplete_since: Some(Instant::now()),
            blocked_since: None,
            ended: false,
            lingering: None,
            reading: Timer::default(),
            writing: Timer::default(),
            limits,
            state,
        }
    }

    fn observe(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ended = bytes.is_empty();
        match self.reader.read(bytes) {
            Ok((completed, window)) => {
                if window {
                    self.state.note_window_update();
                }
                if completed {
                    self.incomplete_since = None;
                }
                if !self.reader.is_complete() {
                    self.incomplete_since.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
            Err(flood) => {
                self.state.count(Refusal::Http2Abuse);
                tracing::info!(door = self.state.door.as_str(), rule = "RFC 9113 10.5", "refused: {flood}");
                Err(io::Error::other(flood))
            }
        }
    }

    /// Observes our bytes that the socket has taken: pieces of answers, for which a client may open its windows, and
    /// resets.
    fn observe_sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (later, found) = self.sent.take(bytes);
            bytes = later;
            match (found, self.sent.kind()) {
                (Found::Head, DATA) => self.reader.updates += UPDATES_PER_PIECE,
                (Found::Payload, RST_STREAM) => {
                    let [.., a, b, c, d] = self.sent.tail;
                    let reason = h2::Reason::from(u32::from_be_bytes([a, b, c, d]));
                    if is_of_library(reason) {
                        self.state.count(Refusal::BadMessage);
                        tracing::info!(door = self.state.door.as_str(), ?reason, rule = "RFC 9113 5.4.2", "refused");
                    }
                }
                (Found::Nothing | Found::Head | Found::Payload, _) => {}
            }
        }
    }

    /// Call when nothing can be read. Ready when a head takes too long, or with the pong that the client did not send.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(since) = self.incomplete_since {
            ready!(self.reading.poll_until(cx, since + self.limits.head_timeout));
            self.state.reject(Rejection::HEAD_TIMEOUT);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match self.state.leaving().filter(|_| !self.reader.shutdown_answered && self.reader.is_between_frames()) {
            Some(leaving) => {
                ready!(self.reading.poll_until(cx, leaving + PONG_WAIT));
                self.stream.early = Bytes::from([&[0, 0, 8, PING, ACK, 0, 0, 0, 0], &SHUTDOWN[..]].concat());
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }

    fn note_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked_since = None;
            return written;
        }
        let blocked = *self.blocked_since.get_or_insert_with(Instant::now);
        ready!(self.writing.poll_until(cx, blocked + self.limits.idle_timeout));
        self.state.count(Refusal::AnswerTimeout);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for FrameMonitor {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while Pin::new(&mut this.stream).poll_read(cx, buf)?.is_pending() {
            ready!(this.poll_wait(cx))?;
        }
        Poll::Ready(this.observe(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl AsyncWrite for FrameMonitor {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            this.observe_sent(bytes.get(..count).unwrap_or_default());
        }
        this.note_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(mut left)) = written {
            for piece in bytes {
                let count = left.min(piece.len());
                left -= count;
                this.observe_sent(piece.get(..count).unwrap_or_default());
            }
        }
        this.note_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.note_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
        }
        let (until, mut left) = *this.lingering.get_or_insert_with(|| (Instant::now() + LINGER, LINGER_BYTES));
        let mut space = [0; 4096];
        while left > 0 {
            let mut discarded = ReadBuf::new(&mut space);
            match Pin::new(&mut this.stream).poll_read(cx, &mut discarded) {
                Poll::Ready(Ok(())) if !discarded.filled().is_empty() && Instant::now() < until => {
                    left = left.saturating_sub(discarded.filled().len());
                    this.lingering = Some((until, left));
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return this.reading.poll_until(cx, until).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}
