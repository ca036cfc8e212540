//! Repeated percent-decoding, as a chain of careless servers might do it (RFC 3986 section 2.1).

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// `text` as it is, then decoded once, twice and so on, at most `rounds` times.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) all: Vec<Vec<u8>>,
    /// The last one still has escapes: no honest client encodes a text that often.
    pub(crate) unfinished: bool,
}

pub(crate) fn readings(text: &[u8], rounds: usize) -> Readings {
    let mut all = vec![text.to_vec()];
    loop {
        match Cow::from(percent_decode(all.last().map_or(text, Vec::as_slice))) {
            Cow::Borrowed(_) => return Readings { all, unfinished: false },
            Cow::Owned(_) if all.len() > rounds => return Readings { all, unfinished: true },
            Cow::Owned(decoded) => all.push(decoded),
        }
    }
}

/// The bytes that the escapes in `text` stand for; `None` for a `%` without two hexadecimal digits.
pub(super) fn escapes(text: &[u8]) -> impl Iterator<Item = Option<u8>> {
    memchr::memchr_iter(b'%', text).map(|at| {
        let mut decoded = percent_decode(text.get(at..at + 3)?);
        decoded.next().filter(|_| decoded.next().is_none())
    })
}
