//! Chunked bodies (RFC 9112 section 7.1), strictly.

use super::fields::{self, MAX_LENGTH};
use super::line::Lines;
use super::message::{Limits, Piece};
use super::refusal::Refusal;

/// Hexadecimal digits of a chunk size.
const SIZE_DIGITS: usize = 16;

/// Whether spaces after a chunk's size are accepted. The grammar has none, but some servers pad with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Accepted,
    Refused,
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkedBody {
    place: Place,
    extensions: usize,
    padding: Padding,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Size(Lines),
    Data(u64),
    DataEnd,
    Trailers(Lines, usize),
}

impl ChunkedBody {
    pub(super) fn new(padding: Padding) -> Self {
        Self { place: Place::Size(Lines::default()), extensions: 0, padding }
    }

    /// How many of `bytes`, at least one, belong to this body, as what, and whether it ends there; `None` if that is undecided.
    pub(super) fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(usize, Piece, bool)>, Refusal> {
        match &mut self.place {
            Place::Size(lines) => {
                let limit = SIZE_DIGITS + limits.extension_bytes - self.extensions.min(limits.extension_bytes) + 2;
                // Do not wait for the end of a line that cannot be a chunk size.
                if bytes.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
                    return Err(Refusal::ChunkSize);
                }
                let Some(line) = lines.next(bytes, limit, Refusal::ChunkExtensionsTooLong)? else { return Ok(None) };
                let taken = lines.at();
                let (size, extension) = size(line, self.padding)?;
                self.extensions += extension;
                if self.extensions > limits.extension_bytes {
                    return Err(Refusal::ChunkExtensionsTooLong);
                }
                self.place = if size == 0 { Place::Trailers(Lines::default(), 0) } else { Place::Data(size) };
                Ok(Some((taken, Piece::Framing, false)))
            }
            Place::Data(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= here as u64;
                if *left == 0 {
                    self.place = Place::DataEnd;
                }
                Ok(Some((here, Piece::Data, false)))
            }
            Place::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.place = Place::Size(Lines::default());
                    Ok(Some((2, Piece::Framing, false)))
                }
                [b'\r'] => Ok(None),
                _ => Err(Refusal::ChunkEnd),
            },
            Place::Trailers(lines, count) => {
                while let Some(line) = lines.next(bytes, limits.trailer_bytes, Refusal::TrailerTooLarge)? {
                    if line.is_empty() {
                        return Ok(Some((lines.at(), Piece::Trailers, true)));
                    }
                    let (name, _) = fields::split(line)?;
                    *count += 1;
                    if *count > limits.head_fields {
                        return Err(Refusal::TrailerTooLarge);
                    }
                    if fields::forbidden_in_trailers(name) {
                        return Err(Refusal::TrailerField);
                    }
                }
                Ok(None)
            }
        }
    }
}

/// The size, and how many bytes of extensions follow it. "Bad whitespace" is accepted before an extension's `;`, as RFC
/// 9112 section 7.1.1 requires of a recipient; without an extension it is padding, which no recipient reads as part of
/// the size.
fn size(line: &[u8], padding: Padding) -> Result<(u64, usize), Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at_checked(digits).unwrap_or((line, &[]));
    if digits == 0 || digits > SIZE_DIGITS {
        return Err(Refusal::ChunkSize);
    }
    let value = |digit: u8| u64::from(char::from(digit).to_digit(16).unwrap_or(0));
    let size = size.iter().fold(0, |size, digit| (size << 4) | value(*digit));
    match super::bytes::trimmed(rest).first() {
        _ if size > MAX_LENGTH => Err(Refusal::ChunkSize),
        None if rest.is_empty() || padding == Padding::Accepted => Ok((size, rest.len())),
        Some(b';') if super::bytes::bad_value_byte(rest).is_none() => Ok((size, rest.len())),
        Some(b';') => Err(Refusal::ChunkExtension),
        None | Some(_) => Err(Refusal::ChunkSize),
    }
}
