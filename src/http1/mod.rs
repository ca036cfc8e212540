//! HTTP/1.0 and 1.1, towards clients and towards upstreams, on the strict reader of `framing`.
//!
//! Every message is parsed once. A client's connection is a loop in one task ([`server`]); so is an exchange on an
//! upstream's connection ([`client`]). Neither buffers a body, and neither passes on a message that another parser
//! could end elsewhere.
//!
//! ```text
//! server:  idle ──head──▶ awaiting the response ──its head──▶ writing the response ──its end──▶ discarding ──▶ idle
//!           │              │  ▲ the handler asks: deliver      │  ▲ the upload goes on          │ what is left of
//!           │ refused,     │  │ the body, piece by piece       │  │ while the handler reads      │ the request
//!           │ timed out    │  └ interim responses are written  │                                │
//!           ▼              ▼                                   ▼                                ▼
//!          the same, with  client gone: the handler            cut: closed, or reset           too much left: lingering
//!          `Rejection` in  is dropped                          where only the end would        close (RFC 9112 section 9.6)
//!          the request                                         mark it; 101: handed over
//!
//! client:  take from the pool, or connect ──▶ writing the request, reading the response ──its head──▶ body ──▶ pool
//! ```

mod client;
mod connection;
mod exchange;
mod head;
mod outgoing;
mod output;
mod pool;
pub(crate) mod server;
mod socket;
mod timer;
mod upload;

pub use client::{Answer, ResponseTimeouts, send};
pub(crate) use client::{Error, Failure};
pub use connection::Connection;
pub use exchange::Exchange;
pub use head::Head;
pub(crate) use head::origin_form;
pub use outgoing::Outgoing;
pub(crate) use pool::BoundPool;
pub use pool::{Pool, Pools};
pub use socket::{Socket, Stream};
pub(crate) use timer::Timer;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Bytes read at once when a head is expected.
const PIECE: usize = 16 << 10;
/// Bytes of a body read at once. An answer that its client does not read holds one such piece, plus TLS's own buffer.
const BODY_PIECE: usize = 24 << 10;

/// Appends the available bytes to `input`; ready with their count. Holds no memory while there are none.
fn poll_read(socket: &mut Socket, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    // A constant, because a debug build would fill the array byte by byte.
    let mut space = const { [std::mem::MaybeUninit::uninit(); PIECE] };
    let mut space = ReadBuf::uninit(&mut space);
    std::task::ready!(std::pin::Pin::new(socket).poll_read(cx, &mut space))?;
    input.extend_from_slice(space.filled());
    Poll::Ready(Ok(space.filled().len()))
}

/// Reads a piece of a body straight into `input`.
fn poll_read_body(socket: &mut Socket, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if input.capacity() - input.len() < PIECE {
        input.reserve(BODY_PIECE);
    }
    pin!(socket.read_buf(input)).poll(cx)
}

#[cfg(test)]
mod tests;
