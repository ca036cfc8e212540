//! The limits of the readers of both directions, and what they say about a message.

/// Limits for what must be held back until it is complete.
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

/// What the given bytes start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<H> {
    /// A complete head.
    Head {
        /// Its bytes, the empty line at its end included.
        len: usize,
        /// What it says about framing.
        head: H,
    },
    /// A piece of the body.
    Body {
        /// Its bytes.
        len: usize,
        piece: Piece,
        /// The message ends with it.
        end: bool,
    },
    /// Undecided: pass the same bytes again, followed by more.
    More,
    /// Another protocol after an upgrade: these bytes and all that follow.
    Opaque,
}

/// What a piece of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Data,
    /// Chunk sizes and line ends.
    Framing,
    /// The trailer section of a chunked body, the empty line at its end included.
    Trailers,
}

/// How a body is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    None,
    /// This many bytes, at least one.
    Exact(u64),
    /// Chunks up to the last one and its trailers.
    Chunked,
    /// Up to the end of the connection; responses only.
    UntilClose,
    /// Another protocol follows: a 101 response.
    Opaque,
}

impl BodyLength {
    /// Bytes of the body, if its head says how many.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Exact(bytes) => Some(bytes),
            Self::Chunked | Self::UntilClose | Self::Opaque => None,
        }
    }
}
