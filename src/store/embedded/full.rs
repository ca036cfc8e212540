//! A disk that is full: nothing is written, and what was is read.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use super::NEVER;
use super::file::{Opened, lay_out};
use super::writer::{Change, Writer};
use crate::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(0);

/// A disk that may be full.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> Result<(), Error> {
        if self.full.load(Ordering::SeqCst) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        self.room()?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.room()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.room()?;
        self.file.write(offset, data)
    }
}

fn change(id: &str) -> Change {
    let (session, listed, text) = (format!("s/{id}"), format!("u/1/{id}"), "x".repeat(900));
    Change::Session { session, listed, text, ends_at: NEVER, new: true, now: NOW }
}

fn is_there(opened: &Opened, id: &str) -> bool {
    opened.read(|items| items.value(&format!("s/{id}"), NOW)).unwrap().is_some()
}

fn on_a_disk(path: &Path) -> (Arc<Opened>, Arc<AtomicBool>) {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let full = Arc::<AtomicBool>::default();
    let disk = Disk { file: FileBackend::new(file).unwrap(), full: full.clone() };
    let database = Builder::new().create_with_backend(disk).unwrap();
    lay_out(&database).unwrap();
    (Arc::new(Opened::over(database, path)), full)
}

#[test]
fn what_was_written_is_read_while_the_disk_is_full_and_written_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let (opened, full) = on_a_disk(&folder.path().join("sessions.db"));
    let writer = Writer::start(opened.clone()).unwrap();
    assert_eq!(writer.send(change("aa")).blocking_recv().unwrap().unwrap(), 1);
    full.store(true, Ordering::SeqCst);
    assert!(writer.send(change("bb")).blocking_recv().unwrap().is_err());
    assert!(!opened.is_good() && opened.trouble().is_some());
    assert!(is_there(&opened, "aa") && !is_there(&opened, "bb"));
    // The file itself has room: the next try finds that.
    opened.retry();
    assert!(opened.is_good() && is_there(&opened, "aa"));
    assert_eq!(writer.send(change("cc")).blocking_recv().unwrap().unwrap(), 1);
    assert!(is_there(&opened, "cc"));
}

#[test]
fn a_file_that_was_removed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (opened, _) = on_a_disk(&path);
    let writer = Writer::start(opened.clone()).unwrap();
    assert_eq!(writer.send(change("aa")).blocking_recv().unwrap().unwrap(), 1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(writer.send(change("bb")).blocking_recv().unwrap().unwrap(), 1);
    assert!(path.exists() && is_there(&opened, "bb") && !is_there(&opened, "aa"), "it is begun anew, at its path");
}

#[test]
fn a_file_that_was_cut_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (opened, _) = on_a_disk(&path);
    let writer = Writer::start(opened.clone()).unwrap();
    for number in 0..200 {
        assert_eq!(writer.send(change(&number.to_string())).blocking_recv().unwrap().unwrap(), 1);
    }
    drop(writer);
    drop(opened);
    let whole = std::fs::read(&path).unwrap();
    for part in [2, 3, 4] {
        let cut = &whole[..whole.len() / part];
        std::fs::write(&path, cut).unwrap();
        assert!(Opened::open(&path).is_err(), "a {part}th of it");
        assert!(std::fs::read(&path).unwrap() == cut, "a {part}th of it was changed");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(is_there(&Opened::open(&path).unwrap(), "199"));
}
