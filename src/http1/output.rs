//! Writes messages to a socket: heads, framing, and bodies, whose large pieces are never copied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::head;
use super::socket::Socket;
use crate::body::{self, Body};
use crate::framing::BodyLength;

/// A piece of at most this many bytes is appended to the head or the previous piece, to save a write.
const COPIED: usize = 4 << 10;
/// Copied pieces are gathered up to this many bytes.
const GATHERED: usize = 16 << 10;
/// Capacity for a usual head.
const HEAD: usize = 1 << 10;

/// Bytes that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    front: BytesMut,
    data: Bytes,
    /// The bytes after `data`: the line end of a chunk, the last chunk.
    back: Bytes,
    /// Whether any byte was ever written.
    pub(super) begun: bool,
}

impl Output {
    /// A request's head. With `gathers`, small pieces of its body join it in one write.
    pub(super) fn of(head: Bytes, gathers: bool) -> Self {
        if gathers { Self { front: head.into(), ..Self::default() } } else { Self { data: head, ..Self::default() } }
    }

    pub(super) fn len(&self) -> usize {
        self.front.len() + self.data.len() + self.back.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer for a head. Nothing may follow it yet.
    pub(super) fn head(&mut self) -> &mut BytesMut {
        self.front.reserve(HEAD);
        &mut self.front
    }

    fn has_room(&self) -> bool {
        self.data.is_empty() && self.back.is_empty() && self.front.len() < GATHERED
    }

    /// Appends a copy of these bytes.
    fn copy(&mut self, bytes: &[u8]) {
        if self.data.is_empty() {
            self.front.extend_from_slice(bytes);
        } else {
            self.back = [&self.back, bytes].concat().into();
        }
    }

    /// Ready once everything is written. Does not flush.
    pub(super) fn poll_write(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let socket = Pin::new(&mut *socket);
            let mut count = ready!(if self.data.is_empty() && self.back.is_empty() {
                socket.poll_write(cx, &self.front)
            } else if self.front.is_empty() && self.back.is_empty() {
                socket.poll_write(cx, &self.data)
            } else {
                let slices = [IoSlice::new(&self.front), IoSlice::new(&self.data), IoSlice::new(&self.back)];
                socket.poll_write_vectored(cx, &slices)
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            let front = count.min(self.front.len());
            self.front.advance(front);
            count -= front;
            let data = count.min(self.data.len());
            self.data.advance(data);
            self.back.advance(count - data);
        }
        Poll::Ready(Ok(()))
    }
}

/// A body and its framing.
#[derive(Debug)]
pub(super) struct Source {
    body: Body,
    length: BodyLength,
    trailers: bool,
    ended: bool,
    /// The error that ended `body`, until the bytes before it are written.
    failed: Option<body::Error>,
}

impl Source {
    /// With [`BodyLength::None`] nothing of the body is written. `trailers`: whether the recipient accepts trailers.
    pub(super) fn new(body: Body, length: BodyLength, trailers: bool) -> Self {
        let ended = length == BodyLength::None;
        Self { body, length, trailers, ended, failed: None }
    }

    /// Whether all of it was passed to the output.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Fills `out` with the available pieces; ready once `out` has something to write or the body has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, out: &mut Output) -> Poll<Result<(), body::Error>> {
        while !self.ended && self.failed.is_none() && out.has_room() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.failed = self.frame(frame, out).err();
                    if self.failed.is_none() && !self.ended && self.body.is_end_stream() {
                        self.failed = self.end(None, out).err();
                    }
                }
                Poll::Ready(Some(Err(error))) => self.failed = Some(error),
                Poll::Ready(None) => self.failed = self.end(None, out).err(),
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        match self.failed.take_if(|_| out.is_empty()) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(())),
        }
    }

    fn frame(&mut self, frame: Frame<Bytes>, out: &mut Output) -> Result<(), body::Error> {
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return Ok(()),
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok(), out),
        };
        match &mut self.length {
            BodyLength::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or("the body is longer than announced")?;
                self.ended = *left == 0;
            }
            BodyLength::Chunked => out.copy(format!("{:x}\r\n", data.len()).as_bytes()),
            BodyLength::UntilClose | BodyLength::None | BodyLength::Opaque => {}
        }
        if data.len() <= COPIED {
            out.copy(&data);
        } else {
            out.data = data;
        }
        if self.length == BodyLength::Chunked {
            out.copy(b"\r\n");
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<http::HeaderMap>, out: &mut Output) -> Result<(), body::Error> {
        self.ended = true;
        match self.length {
            BodyLength::Exact(1..) => return Err("the body is shorter than announced".into()),
            BodyLength::Chunked => {
                let mut last = BytesMut::from(&b"0\r\n"[..]);
                if let Some(trailers) = trailers.filter(|_| self.trailers) {
                    head::write_trailers(&mut last, &trailers);
                }
                last.extend_from_slice(b"\r\n");
                out.copy(&last);
            }
            BodyLength::Exact(_) | BodyLength::UntilClose | BodyLength::None | BodyLength::Opaque => {}
        }
        Ok(())
    }
}
