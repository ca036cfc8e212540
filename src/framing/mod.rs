//! Finds where HTTP/1.x messages end, as a strict reader of RFC 9112 does.
//!
//! Takes the bytes of one direction of a connection in pieces of any size; returns heads and bodies with their lengths,
//! or a [`Refusal`]. Never reads a socket, allocates, changes a byte or guesses. A message that another parser could
//! end elsewhere is refused, so every parser behind us agrees about every message that passes.
//!
//! The caller passes the bytes that are not consumed yet. The reader returns what they start with, or [`Step::More`]:
//! then it needs the same bytes again, followed by more. Only heads, chunk-size lines and trailers are held back this
//! way, each up to a limit; body bytes are skipped by their length.

mod body;
mod bytes;
mod chunked;
mod fields;
mod line;
mod message;
mod refusal;
mod rejection;
mod request;
mod response;

pub(crate) use bytes::{is_host, is_token};
pub(crate) use fields::{begins_like, forbidden_in_trailers, number, reads_as};
pub use message::{BodyLength, Limits, Piece, Step};
pub use refusal::Refusal;
pub use rejection::Rejection;
pub use request::{Method, RequestReader};
pub(crate) use request::{RequestHead, is_served};
pub(crate) use response::ResponseHead;
pub use response::ResponseReader;
