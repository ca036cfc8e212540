//! A client's connection as h2 sees it, monitored frame by frame (RFC 9113 section 4.1).
//!
//! It ends a connection if a head takes too long, if the client floods it with frames that request nothing, or if the client
//! reads nothing. The bytes pass unchanged, except that h2 waits forever for the answer to the ping that goes with its first
//! GOAWAY: if the client does not answer, the monitor does. That ping's is the only payload it looks at.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::state::Http2State;
use crate::framing::Rejection;
use crate::http1::{Socket, Timer};
use crate::listener::door::Limits;
use crate::telemetry::metrics::Refusal;

/// "PRI * HTTP/2.0 …", which h2 checks (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// The payload of the ping after h2's first GOAWAY.
const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
/// How long a client has to answer it, and so to send what is in transit.
const PONG_WAIT: Duration = Duration::from_secs(1);
/// More frames that request nothing than this within `FLOOD_TIME` are a flood.
const FLOOD_FRAMES: u32 = 10_000;
const FLOOD_TIME: Duration = Duration::from_secs(10);
/// How long, and how many bytes of, the input is discarded after our last byte: closing with unread input would reset the
/// connection before the client has read that.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// See the module.
pub(super) struct FrameMonitor {
    stream: Socket,
    reader: FrameReader,
    /// Since when something with a deadline is incomplete.
    incomplete_since: Option<Instant>,
    /// Since when the client reads nothing.
    blocked_since: Option<Instant>,
    ended: bool,
    lingering: Option<(Instant, usize)>,
    reading: Timer,
    writing: Timer,
    limits: Arc<Limits>,
    state: Arc<Http2State>,
}

/// The position in the client's frames.
struct FrameReader {
    /// Bytes left of the preface.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that were read.
    head_len: usize,
    /// Bytes left of the payload.
    payload: usize,
    kind: u8,
    /// The first frame, which is the client's settings, has not come.
    fresh: bool,
    /// Headers without `END_HEADERS`.
    open_headers: bool,
    /// The last bytes of a pong's payload.
    pong: Option<[u8; 8]>,
    shutdown_answered: bool,
    /// Frames that request nothing, since when.
    idle_frames: u32,
    idle_frames_since: Instant,
}

#[derive(Debug, thiserror::Error)]
#[error("a flood of frames that request nothing")]
struct Flood;

impl FrameReader {
    fn new() -> Self {
        Self {
            preface: PREFACE,
            head: [0; HEAD],
            head_len: 0,
            payload: 0,
            kind: SETTINGS,
            fresh: true,
            open_headers: false,
            pong: None,
            shutdown_answered: false,
            idle_frames: 0,
            idle_frames_since: Instant::now(),
        }
    }

    fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.head_len == 0 && self.payload == 0
    }

    /// Nothing with a deadline is incomplete; the reader of a body limits its pauses.
    fn is_complete(&self) -> bool {
        let complete = self.payload == 0 || self.kind == DATA;
        self.preface == 0 && self.head_len == 0 && !self.fresh && !self.open_headers && complete
    }

    /// Whether the input was complete at some point, and whether the client enlarged a window.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(bool, bool), Flood> {
        let (mut completed, mut window) = (false, false);
        while !bytes.is_empty() {
            let wanted = match (self.preface, self.payload) {
                (0, 0) => HEAD - self.head_len,
                (0, payload) => payload,
                (preface, _) => preface,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.preface > 0 {
                self.preface -= now.len();
            } else if self.payload > 0 {
                self.read_payload(now);
            } else {
                self.head.iter_mut().skip(self.head_len).zip(now).for_each(|(place, byte)| *place = *byte);
                self.head_len += now.len();
                if self.head_len == HEAD {
                    window |= self.begin_frame()?;
                }
            }
            completed |= self.is_complete();
        }
        Ok((completed, window))
    }

    fn read_payload(&mut self, bytes: &[u8]) {
        self.payload -= bytes.len();
        if let Some(pong) = &mut self.pong {
            pong.rotate_left(bytes.len().min(8));
            let begin = 8 - bytes.len().min(8);
            pong.iter_mut().skip(begin).zip(bytes).for_each(|(place, byte)| *place = *byte);
            self.shutdown_answered |= self.payload == 0 && *pong == SHUTDOWN;
        }
    }

    /// Whether the frame is a `WINDOW_UPDATE`.
    fn begin_frame(&mut self) -> Result<bool, Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        (self.head_len, self.kind, self.fresh) = (0, kind, false);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        self.pong = (kind == PING && flags & ACK != 0 && length == 8).then_some([0; 8]);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open_headers = flags & END_HEADERS == 0;
        }
        let requests_nothing = match kind {
            DATA => length == 0 && flags & END_STREAM == 0,
            SETTINGS | PING => flags & ACK == 0,
            PRIORITY => true,
            _ => kind > CONTINUATION,
        };
        if requests_nothing {
            self.count_idle_frame()?;
        }
        Ok(kind == WINDOW_UPDATE)
    }

    fn count_idle_frame(&mut self) -> Result<(), Flood> {
        self.idle_frames += 1;
        if self.idle_frames > FLOOD_FRAMES {
            let now = Instant::now();
            if now - self.idle_frames_since < FLOOD_TIME {
                return Err(Flood);
            }
            (self.idle_frames, self.idle_frames_since) = (0, now);
        }
        Ok(())
    }
}

impl FrameMonitor {
    pub(super) fn new(stream: Socket, limits: Arc<Limits>, state: Arc<Http2State>) -> Self {
        Self {
            stream,
            reader: FrameReader::new(),
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

    /// Nothing can be read now. Ready when a head takes too long, or with the pong that the client did not send.
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
        this.note_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn hello() -> Vec<u8> {
        [vec![b'p'; PREFACE], frame(SETTINGS, 0, b"")].concat()
    }

    #[test]
    fn what_has_a_deadline_is_tracked_byte_by_byte() {
        let bytes = [
            hello(),
            frame(HEADERS, 0, b"abc"),
            frame(CONTINUATION, END_HEADERS, b"de"),
            frame(DATA, END_STREAM, b"fgh"),
            frame(PING, 0, &SHUTDOWN),
        ]
        .concat();
        let mut reader = FrameReader::new();
        let complete: Vec<_> =
            bytes.iter().map(|byte| (reader.read(&[*byte]).unwrap(), reader.is_complete()).1).collect();
        let expected = [
            vec![false; PREFACE + HEAD - 1],
            vec![true],
            vec![false; 2 * HEAD + 4],
            vec![true],
            vec![false; HEAD - 1],
            vec![true; 4],
            vec![false; HEAD + 7],
            vec![true],
        ];
        assert_eq!(complete, expected.concat());
        assert!(!reader.shutdown_answered, "a ping is not its answer");
        for cut in 0..=HEAD + 8 {
            let (mut reader, pong) = (FrameReader::new(), frame(PING, ACK, &SHUTDOWN));
            reader.read(&[&hello(), &pong[..cut]].concat()).unwrap();
            assert_eq!(reader.is_between_frames(), cut == 0 || cut == HEAD + 8);
            reader.read(&pong[cut..]).unwrap();
            assert!(reader.shutdown_answered, "{cut}");
        }
    }

    #[test]
    fn frames_that_request_nothing_are_a_flood_and_others_are_not() {
        let flood = |one: &[u8]| {
            let mut reader = FrameReader::new();
            reader.read(&[hello(), one.repeat(20_000)].concat()).is_err()
        };
        for (kind, flags) in [(PING, 0), (SETTINGS, 0), (DATA, 0), (PRIORITY, 0), (0xfa, 0)] {
            assert!(flood(&frame(kind, flags, b"")), "{kind}");
        }
        for (kind, payload) in [(DATA, &b"x"[..]), (WINDOW_UPDATE, &[0, 0, 0, 1]), (HEADERS, b"")] {
            assert!(!flood(&frame(kind, 0, payload)), "{kind}");
        }
        assert!(!flood(&frame(PING, ACK, b"")));
    }
}
