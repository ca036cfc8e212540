//! The guard's other half: what hyper writes, and how the connection ends.
//!
//! In: answers. Out, towards the client: the same bytes. It never waits for ever for a client that takes none of them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{Course, Guard};

/// After the last answer on a connection whose input was not read to its end, so long the rest is thrown away: closing a
/// socket with unread bytes resets it, and the client would lose the answer (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

impl Guard {
    /// True where bytes of the client may be unread that would turn closing into a reset.
    fn lingers(&self) -> bool {
        let unread = self.course == Course::Over || self.reader.in_body() || !self.held.is_empty();
        self.ended.is_none() && (unread || self.traffic.draining().is_some())
    }

    fn note_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Pending if self.course != Course::Opaque => {
                let blocked = *self.blocked.get_or_insert_with(Instant::now);
                ready!(self.timer.poll_until(cx, blocked + self.limits.idle_timeout));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            done => {
                self.blocked = None;
                if self.ended.is_some() {
                    self.written = Some(Instant::now());
                }
                done
            }
        }
    }
}

impl AsyncWrite for Guard {
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
            if !this.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let until = *this.lingering.get_or_insert_with(|| Instant::now() + LINGER);
        let mut space = [0; 4096];
        loop {
            let mut waste = ReadBuf::new(&mut space);
            match Pin::new(&mut this.io).poll_read(cx, &mut waste) {
                Poll::Ready(Ok(())) if !waste.filled().is_empty() && Instant::now() < until => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return this.timer.poll_until(cx, until).map(Ok),
            }
        }
    }
}
