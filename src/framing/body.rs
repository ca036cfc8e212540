//! A body that is being read.

use super::chunked::{ChunkedBody, Padding};
use super::message::{BodyLength, Limits, Piece};
use super::refusal::Refusal;

#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Exact(u64),
    Chunked(ChunkedBody),
    UntilClose,
}

impl Body {
    pub(super) fn of(length: BodyLength, padding: Padding) -> Option<Self> {
        match length {
            BodyLength::Exact(left) => Some(Self::Exact(left)),
            BodyLength::Chunked => Some(Self::Chunked(ChunkedBody::new(padding))),
            BodyLength::UntilClose => Some(Self::UntilClose),
            BodyLength::None | BodyLength::Opaque => None,
        }
    }

    /// How many of `bytes` belong to this body, as what, and whether it ends there; `None` if that is undecided.
    pub(super) fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(usize, Piece, bool)>, Refusal> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Exact(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= here as u64;
                Ok(Some((here, Piece::Data, *left == 0)))
            }
            Self::Chunked(chunks) => chunks.step(bytes, limits),
            Self::UntilClose => Ok(Some((bytes.len(), Piece::Data, false))),
        }
    }
}
