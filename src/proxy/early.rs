//! An upstream that answers before it has read all of a request, and takes no more of it.
//!
//! In: a connection. Out: the same, except that a failed write ends the writing alone: what is left of the request goes
//! nowhere, and the answer, which may have come already, is still read (RFC 9112 section 9.5). Whether there is one is
//! then seen by reading: without an answer the connection ends as any other that was cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::Cut;

/// Reads on after a write has failed.
#[derive(Debug)]
pub(super) struct Early<I> {
    io: I,
    deaf: bool,
    end: End<I>,
}

/// How the connection ends: with a reset once it is cut.
#[derive(Debug)]
pub(super) struct End<I> {
    pub(super) cut: Cut,
    pub(super) reset: fn(&I),
}

impl<I> Drop for Early<I> {
    fn drop(&mut self) {
        if self.end.cut.is_cut() {
            (self.end.reset)(&self.io);
        }
    }
}

impl<I> Early<I> {
    pub(super) fn new(io: I, end: End<I>) -> Self {
        Self { io, deaf: false, end }
    }

    /// What a write of `count` bytes comes to.
    fn written(&mut self, outcome: Poll<io::Result<usize>>, count: usize) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(count))
            }
            outcome => outcome,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Early<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Early<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = slices.iter().map(|slice| slice.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(count));
        }
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.written(outcome, count)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.written(outcome.map_ok(|()| 0), 0).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_answered_is_read_although_nothing_more_can_be_written() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"no more").await.unwrap();
        drop(far);
        let mut near = Early::new(near, End { cut: Cut::default(), reset: |_| {} });
        near.write_all(&[0; 4096]).await.unwrap();
        near.flush().await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "no more");
    }
}
