//! Where HTTP/1.x messages end, as a strict reader of RFC 9112 says, or why there is no saying.
//!
//! In: the bytes of one direction of a connection, in pieces of any size. Out: heads and bodies with their lengths, or a
//! [`Refusal`]. It never reads a socket, never allocates, never changes a byte, and never guesses: a message that another
//! reader could end elsewhere is refused, so that whoever reads behind us agrees with us about every message that passes.
//!
//! The caller shows the bytes that are not consumed yet; the reader says how many of them are what, or [`Step::More`]:
//! then it wants to see the same bytes again with more behind them. Only heads, chunk-size lines and trailers are kept
//! back so, and each has a limit; body bytes are skipped by their length.

mod bytes;
mod chunked;
mod fields;
mod line;
mod refusal;
mod request;
mod response;

pub(crate) use bytes::{is_host, is_token};
pub(crate) use fields::{begins_like, forbidden_in_trailers, number, reads_as};
pub use refusal::Refusal;
pub use request::{Method, RequestReader};
pub(crate) use request::{RequestHead, is_served};
pub use response::ResponseReader;

/// The most a message may hold of what must be kept back to be read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a head: leading empty lines, the first line, all fields, the empty line.
    pub head_bytes: usize,
    /// Fields of a head, and of a trailer section.
    pub head_fields: usize,
    /// Bytes of all chunk extensions of a body.
    pub extension_bytes: usize,
    /// Bytes of a trailer section.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 64 << 10, head_fields: 200, extension_bytes: 4 << 10, trailer_bytes: 8 << 10 }
    }
}

/// What the shown bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<H> {
    /// A whole head.
    Head {
        /// Its bytes, the empty line at its end included.
        len: usize,
        /// What it says about framing.
        head: H,
    },
    /// A piece of the body: data, chunk framing or trailers.
    Body {
        /// Its bytes.
        len: usize,
        /// True where the message ends with it.
        end: bool,
    },
    /// No saying yet: show the same bytes again, with more behind them.
    More,
    /// Bytes that are no HTTP/1 any more, after an upgrade: all that are shown and all that follow.
    Opaque,
}

/// How a body is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// This many bytes, at least one.
    Exact(u64),
    /// Chunks up to the last one and its trailers.
    Chunked,
    /// Up to the end of the connection; responses only.
    UntilClose,
    /// What follows is another protocol: a 101 response.
    Opaque,
}

/// Where in a body the reader is.
#[derive(Clone, Copy, Debug)]
enum Body {
    Exact(u64),
    Chunked(chunked::Chunks),
    UntilClose,
}

impl Body {
    fn of(length: BodyLength) -> Option<Self> {
        match length {
            BodyLength::Exact(left) => Some(Self::Exact(left)),
            BodyLength::Chunked => Some(Self::Chunked(chunked::Chunks::new())),
            BodyLength::UntilClose => Some(Self::UntilClose),
            BodyLength::None | BodyLength::Opaque => None,
        }
    }

    /// How much of `bytes` is this body, and whether it ends there; `None` where there is no saying yet.
    fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(usize, bool)>, Refusal> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Exact(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= here as u64;
                Ok(Some((here, *left == 0)))
            }
            Self::Chunked(chunks) => chunks.step(bytes, limits),
            Self::UntilClose => Ok(Some((bytes.len(), false))),
        }
    }
}
