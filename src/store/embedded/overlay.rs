//! A file that is only read: writes are kept in memory.
//!
//! Opening a database repairs it, which writes. With this overlay, a file that cannot be written can still be read, and
//! a damaged file is refused without changing it.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use redb::StorageBackend;

use crate::recent::lock;

#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    base: u64,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    length: u64,
    /// Offsets and data, oldest first.
    writes: Vec<(u64, Vec<u8>)>,
}

impl Overlay {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)?;
        let base = file.metadata()?.len();
        Ok(Self { file, base, changes: Mutex::new(Changes { length: base, writes: Vec::new() }) })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        lock(&self.changes)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.changes().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let changes = self.changes();
        let end = offset.saturating_add(out.len() as u64);
        if end > changes.length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let there = usize::try_from(self.base.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        if let Some(part) = out.get_mut(..there) {
            self.file.read_exact_at(part, offset)?;
        }
        for (start, data) in &changes.writes {
            copy_overlap(*start, data, offset, out);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        self.changes().length = length;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.changes().writes.push((offset, data.to_vec()));
        Ok(())
    }
}

/// Copies the part of `data`, which begins at `start`, that overlaps `out`, which begins at `offset`.
fn copy_overlap(start: u64, data: &[u8], offset: u64, out: &mut [u8]) {
    let skip = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let (data, out) = (data.get(skip(start, offset)..), out.get_mut(skip(offset, start)..));
    if let (Some(data), Some(out)) = (data, out) {
        out.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_back_and_leave_the_file_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let overlay = Overlay::open(&path).unwrap();
        overlay.set_len(14).unwrap();
        for (offset, data) in [(2, &b"ab"[..]), (3, b"cde"), (11, b"xy")] {
            overlay.write(offset, data).unwrap();
        }
        let read = |offset, length| {
            let mut out = vec![b'?'; length];
            overlay.read(offset, &mut out).map(|()| out)
        };
        assert_eq!(read(0, 14).unwrap(), b"01acde6789\0xy\0");
        assert_eq!(read(4, 3).unwrap(), b"de6");
        assert!(read(12, 3).is_err(), "past its end");
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
    }
}
