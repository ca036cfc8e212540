//! What stands between a client's socket and h2: it reads along, frame by frame (RFC 9113 section 4.1), and changes nothing.
//!
//! In: the socket's bytes. Out, towards h2: the same bytes, and an end where a head takes too long, where frames come that
//! ask for nothing and never stop, or where the client takes no bytes. h2 waits for ever for the answer to the ping that
//! goes with its first GOAWAY; a client that does not answer is answered for. It never looks into a payload but that one's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::streams::Streams;
use super::{Limits, Refused};
use crate::http1::{Socket, Timer};
use crate::telemetry::metrics::Refusal;

/// "PRI * HTTP/2.0 …", which h2 compares (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// The payload of the ping after h2's first GOAWAY.
const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
/// How long a client has to answer it, and with that to send what was on its way.
const PONG_WAIT: Duration = Duration::from_secs(1);
/// Frames that ask for nothing: so many in so long a time are a flood.
const FLOOD: (u32, Duration) = (10_000, Duration::from_secs(10));
/// How long, and how much of, what a client still sends is thrown away after our last byte, lest closing resets the connection
/// before it has read that.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 256 << 10);

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

/// The socket as h2 sees it.
pub(super) struct Frames {
    io: Socket,
    reader: Reader,
    /// Since when something is begun that has a deadline.
    begun: Option<Instant>,
    /// Since when the client takes no bytes.
    blocked: Option<Instant>,
    ended: bool,
    lingering: Option<(Instant, usize)>,
    reading: Timer,
    writing: Timer,
    limits: Arc<Limits>,
    streams: Arc<Streams>,
}

/// Where in a frame the input stands.
struct Reader {
    preface: usize,
    head: [u8; HEAD],
    have: usize,
    left: usize,
    kind: u8,
    /// The first frame has not come; it is the client's settings.
    fresh: bool,
    /// Headers without `END_HEADERS`.
    open: bool,
    pong: Option<[u8; 8]>,
    ponged: bool,
    counted: (u32, Instant),
}

/// More frames that ask for nothing than anybody needs.
#[derive(Debug, thiserror::Error)]
#[error("a flood of frames that ask for nothing")]
struct Flood;

impl Reader {
    fn new() -> Self {
        Self {
            preface: PREFACE,
            head: [0; HEAD],
            have: 0,
            left: 0,
            kind: SETTINGS,
            fresh: true,
            open: false,
            pong: None,
            ponged: false,
            counted: (0, Instant::now()),
        }
    }

    /// Between two frames.
    fn is_between(&self) -> bool {
        self.preface == 0 && self.have == 0 && self.left == 0
    }

    /// Nothing is begun that has a deadline of its own; the silence in a body is watched by who reads it.
    fn is_at_rest(&self) -> bool {
        self.preface == 0 && self.have == 0 && !self.fresh && !self.open && (self.left == 0 || self.kind == DATA)
    }

    /// Reads along: whether it was at rest once, and whether the client made room for more of an answer.
    fn look(&mut self, mut bytes: &[u8]) -> Result<(bool, bool), Flood> {
        let (mut rested, mut took) = (false, false);
        while !bytes.is_empty() {
            let wanted = match (self.preface, self.left) {
                (0, 0) => HEAD - self.have,
                (0, left) => left,
                (preface, _) => preface,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.preface > 0 {
                self.preface -= now.len();
            } else if self.left > 0 {
                self.payload(now);
            } else {
                self.head.iter_mut().skip(self.have).zip(now).for_each(|(place, byte)| *place = *byte);
                self.have += now.len();
                if self.have == HEAD {
                    took |= self.begin()?;
                }
            }
            rested |= self.is_at_rest();
        }
        Ok((rested, took))
    }

    fn payload(&mut self, bytes: &[u8]) {
        self.left -= bytes.len();
        if let Some(pong) = &mut self.pong {
            pong.rotate_left(bytes.len().min(8));
            let begin = 8 - bytes.len().min(8);
            pong.iter_mut().skip(begin).zip(bytes).for_each(|(place, byte)| *place = *byte);
            self.ponged |= self.left == 0 && *pong == SHUTDOWN;
        }
    }

    fn begin(&mut self) -> Result<bool, Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        (self.have, self.left, self.kind) = (0, usize::try_from(length).unwrap_or(usize::MAX), kind);
        self.fresh = false;
        self.pong = (kind == PING && flags & ACK != 0 && length == 8).then_some([0; 8]);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open = flags & END_HEADERS == 0;
        }
        let asks_nothing = match kind {
            DATA => length == 0 && flags & END_STREAM == 0,
            SETTINGS | PING => flags & ACK == 0,
            PRIORITY => true,
            _ => kind > CONTINUATION,
        };
        if asks_nothing {
            self.count()?;
        }
        Ok(kind == WINDOW_UPDATE)
    }

    fn count(&mut self) -> Result<(), Flood> {
        self.counted.0 += 1;
        if self.counted.0 > FLOOD.0 {
            let now = Instant::now();
            if now - self.counted.1 < FLOOD.1 {
                return Err(Flood);
            }
            self.counted = (0, now);
        }
        Ok(())
    }
}

impl Frames {
    pub(super) fn new(io: Socket, limits: Arc<Limits>, streams: Arc<Streams>) -> Self {
        Self {
            io,
            reader: Reader::new(),
            begun: Some(Instant::now()),
            blocked: None,
            ended: false,
            lingering: None,
            reading: Timer::default(),
            writing: Timer::default(),
            limits,
            streams,
        }
    }

    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ended = bytes.is_empty();
        match self.reader.look(bytes) {
            Ok((rested, took)) => {
                if took {
                    self.streams.took();
                }
                if rested {
                    self.begun = None;
                }
                if !self.reader.is_at_rest() {
                    self.begun.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
            Err(flood) => {
                self.streams.count(Refusal::Http2Abuse);
                tracing::info!(door = self.streams.door.as_str(), rule = "RFC 9113 10.5", "refused: {flood}");
                Err(io::Error::other(flood))
            }
        }
    }

    /// Nothing can be read now. Ready when a head takes too long, and when there is the pong that the client owes.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(begun) = self.begun {
            ready!(self.reading.poll_until(cx, begun + self.limits.head_timeout));
            self.streams.refuse(Refused::HEAD_TIMEOUT);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match self.streams.leaving().filter(|_| !self.reader.ponged && self.reader.is_between()) {
            Some(leaving) => {
                ready!(self.reading.poll_until(cx, leaving + PONG_WAIT));
                self.io.early = Bytes::from([&[0, 0, 8, PING, ACK, 0, 0, 0, 0], &SHUTDOWN[..]].concat());
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }

    fn note_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let blocked = *self.blocked.get_or_insert_with(Instant::now);
        ready!(self.writing.poll_until(cx, blocked + self.limits.idle_timeout));
        self.streams.count(Refusal::AnswerTimeout);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Frames {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while Pin::new(&mut this.io).poll_read(cx, buf)?.is_pending() {
            ready!(this.poll_wait(cx))?;
        }
        Poll::Ready(this.look(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.note_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bytes);
        this.note_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.note_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
        }
        let (until, mut left) = *this.lingering.get_or_insert_with(|| (Instant::now() + LINGER.0, LINGER.1));
        let mut space = [0; 4096];
        while left > 0 {
            let mut waste = ReadBuf::new(&mut space);
            match Pin::new(&mut this.io).poll_read(cx, &mut waste) {
                Poll::Ready(Ok(())) if !waste.filled().is_empty() && Instant::now() < until => {
                    left = left.saturating_sub(waste.filled().len());
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
    fn what_has_a_deadline_is_known_byte_by_byte() {
        let bytes = [
            hello(),
            frame(HEADERS, 0, b"abc"),
            frame(CONTINUATION, END_HEADERS, b"de"),
            frame(DATA, END_STREAM, b"fgh"),
            frame(PING, 0, &SHUTDOWN),
        ]
        .concat();
        let mut reader = Reader::new();
        let rests: Vec<_> = bytes.iter().map(|byte| (reader.look(&[*byte]).unwrap(), reader.is_at_rest()).1).collect();
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
        assert_eq!(rests, expected.concat());
        assert!(!reader.ponged, "a ping is not its answer");
        for cut in 0..=HEAD + 8 {
            let (mut reader, pong) = (Reader::new(), frame(PING, ACK, &SHUTDOWN));
            reader.look(&[&hello(), &pong[..cut]].concat()).unwrap();
            assert_eq!(reader.is_between(), cut == 0 || cut == HEAD + 8);
            reader.look(&pong[cut..]).unwrap();
            assert!(reader.ponged, "{cut}");
        }
    }

    #[test]
    fn frames_that_ask_for_nothing_are_a_flood_and_others_are_not() {
        let flood = |one: &[u8]| {
            let mut reader = Reader::new();
            reader.look(&[hello(), one.repeat(20_000)].concat()).is_err()
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
