//! Finds lines as they arrive, looking at each byte once.

use super::refusal::Refusal;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the next line begins.
    at: usize,
    /// There is no line end before this.
    scanned: usize,
}

impl Lines {
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// The next line without its end, `None` until it is complete, or `too_long` if it ends behind `limit`.
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
        // RFC 9112 section 2.2 lets a recipient accept a bare LF as a line end; parsers differ, so we do not.
        let line = line.strip_suffix(b"\r").ok_or(Refusal::BareLf)?;
        (self.at, self.scanned) = (end + 1, end + 1);
        Ok(Some(line))
    }
}
