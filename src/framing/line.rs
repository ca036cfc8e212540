//! Lines: found as they come, each looked at once.

use super::Refusal;

/// How far into the shown bytes the lines were read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the next line begins.
    at: usize,
    /// Up to where no line end was found.
    scanned: usize,
}

impl Lines {
    /// Where the next line begins.
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// The next line without its end, or `None` until it is there; `too_long` where it ends after `limit`.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        limit: usize,
        too_long: Refusal,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let unseen = bytes.get(self.scanned..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', unseen) else {
            self.scanned = bytes.len();
            return if bytes.len() > limit { Err(too_long) } else { Ok(None) };
        };
        let end = self.scanned + found;
        if end >= limit {
            return Err(too_long);
        }
        let line = bytes.get(self.at..end).unwrap_or_default();
        // RFC 9112 section 2.2 lets a recipient take a bare LF for a line end; readers differ, so we do not.
        let line = line.strip_suffix(b"\r").ok_or(Refusal::BareLf)?;
        (self.at, self.scanned) = (end + 1, end + 1);
        Ok(Some(line))
    }
}
