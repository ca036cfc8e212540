//! A connected socket of any kind, with the resources that it holds until it closes.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// Turns closing a socket into a reset, if a plain close would look like a complete message: the end of input ends a
/// body for an HTTP/1.0 client, and one direction of another protocol. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResetFlag(Arc<AtomicBool>);

impl ResetFlag {
    pub(crate) fn set(&self, resets: bool) {
        self.0.store(resets, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Unix(_) => None,
        }
    }
}

/// A TCP or Unix socket, with or without TLS.
#[derive(Debug)]
pub struct Socket {
    pub(crate) stream: Stream,
    /// Bytes that were read already and come before the rest of the input.
    pub(crate) early: Bytes,
    reset: Option<ResetFlag>,
    /// Released when the socket closes: a slot among the connections, a file descriptor.
    held: Option<Box<dyn Any + Send + Sync>>,
}

impl From<Stream> for Socket {
    fn from(stream: Stream) -> Self {
        Self { stream, early: Bytes::new(), reset: None, held: None }
    }
}

impl Socket {
    /// Releases `held` when it closes.
    pub(crate) fn hold(mut self, held: impl Any + Send + Sync) -> Self {
        self.held = Some(Box::new(held));
        self
    }

    pub(crate) fn reset_flag(&mut self) -> ResetFlag {
        self.reset.get_or_insert_default().clone()
    }

    /// Whether the peer has reset the connection. Unread bytes hide that from a reader.
    pub(crate) fn is_reset(&self) -> bool {
        self.stream.tcp().is_some_and(|stream| !matches!(stream.take_error(), Ok(None)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let resets = self.reset.as_ref().is_some_and(|reset| reset.0.load(Ordering::Relaxed));
        if let Some(stream) = self.stream.tcp().filter(|_| resets) {
            // A socket that refuses the option is closed already. Under TLS no close_notify is sent, which says the same (RFC
            // 8446 section 6.1); a Unix socket has no reset.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Calls a method of the stream inside, whichever it is.
macro_rules! on_stream {
    ($socket:ident, $method:ident $(, $argument:expr)*) => {
        match &mut $socket.stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buf.remaining());
            buf.put_slice(self.early.get(..count).unwrap_or_default());
            self.early.advance(count);
            return Poll::Ready(Ok(()));
        }
        on_stream!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write, cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write_vectored, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown, cx)
    }
}
