//! Chunked bodies (RFC 9112 section 7.1), strictly.

use super::fields::{self, MOST};
use super::line::Lines;
use super::{Limits, Refusal};

/// A chunk-size line: 16 hexadecimal digits and the extensions, whose sum has a limit of its own.
const SIZE_DIGITS: usize = 16;

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    place: Place,
    extensions: usize,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Size(Lines),
    Data(u64),
    DataEnd,
    Trailers(Lines, usize),
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { place: Place::Size(Lines::default()), extensions: 0 }
    }

    /// How much of `bytes`, at least one, is this body's, and whether it ends there; `None` where there is no saying yet.
    pub(super) fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(usize, bool)>, Refusal> {
        match &mut self.place {
            Place::Size(lines) => {
                let most = SIZE_DIGITS + limits.extension_bytes - self.extensions.min(limits.extension_bytes) + 2;
                // A size line that cannot become one is not waited for.
                if bytes.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
                    return Err(Refusal::ChunkSize);
                }
                let Some(line) = lines.next(bytes, most, Refusal::ChunkExtensionsTooLong)? else { return Ok(None) };
                let taken = lines.at();
                let (size, extension) = size(line)?;
                self.extensions += extension;
                if self.extensions > limits.extension_bytes {
                    return Err(Refusal::ChunkExtensionsTooLong);
                }
                self.place = if size == 0 { Place::Trailers(Lines::default(), 0) } else { Place::Data(size) };
                Ok(Some((taken, false)))
            }
            Place::Data(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= here as u64;
                if *left == 0 {
                    self.place = Place::DataEnd;
                }
                Ok(Some((here, false)))
            }
            Place::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.place = Place::Size(Lines::default());
                    Ok(Some((2, false)))
                }
                [b'\r'] => Ok(None),
                _ => Err(Refusal::ChunkEnd),
            },
            Place::Trailers(lines, count) => {
                while let Some(line) = lines.next(bytes, limits.trailer_bytes, Refusal::TrailerTooLarge)? {
                    if line.is_empty() {
                        return Ok(Some((lines.at(), true)));
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

/// The size and how many bytes of extension follow it. "Bad whitespace" is read before an extension's `;`, as RFC 9112
/// section 7.1.1 demands of a recipient, and nowhere else: without an extension it is no part of the grammar.
fn size(line: &[u8]) -> Result<(u64, usize), Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at_checked(digits).unwrap_or((line, &[]));
    if digits == 0 || digits > SIZE_DIGITS {
        return Err(Refusal::ChunkSize);
    }
    let size = size.iter().fold(0_u64, |size, digit| (size << 4) | u64::from(value(*digit)));
    match super::bytes::trimmed(rest).first() {
        _ if size > MOST => Err(Refusal::ChunkSize),
        None if rest.is_empty() => Ok((size, 0)),
        Some(b';') if super::bytes::bad_value_byte(rest).is_none() => Ok((size, rest.len())),
        Some(b';') => Err(Refusal::ChunkExtension),
        None | Some(_) => Err(Refusal::ChunkSize),
    }
}

const fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}
