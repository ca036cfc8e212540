//! Disk failures: a power cut after any write, a full disk, a file that is removed or truncated.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, StorageBackend};

use super::file::{DatabaseFile, create_table};
use super::keys::NEVER;
use super::writer::{Change, Writer};
use crate::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(0);

#[derive(Clone, Debug)]
enum Step {
    Length(u64),
    Write(u64, Vec<u8>),
    Flush,
    /// The session of this key was reported as written.
    Acknowledged(String),
}

type Steps = Arc<Mutex<Vec<Step>>>;

/// A disk that records what is written, until it is full.
#[derive(Debug)]
struct Disk<B> {
    inner: B,
    full: Arc<AtomicBool>,
    steps: Steps,
}

impl<B> Disk<B> {
    fn record(&self, step: Step) -> Result<(), Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.steps.lock().unwrap().push(step);
        Ok(())
    }
}

impl<B: StorageBackend> StorageBackend for Disk<B> {
    fn len(&self) -> Result<u64, Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        self.record(Step::Length(length))?;
        self.inner.set_len(length)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.record(Step::Flush)?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.record(Step::Write(offset, data.to_vec()))?;
        self.inner.write(offset, data)
    }
}

fn change(id: &str) -> Change {
    let (session, listed, text) = (format!("s/{id}"), format!("u/1/{id}"), "x".repeat(900));
    Change::Session { session, listed, text, ends_at: NEVER, replaces: None, now: NOW }
}

/// The disk after `steps`. `lucky` decides which unflushed writes are kept.
fn disk_after(steps: &[Step], mut lucky: impl FnMut() -> bool) -> InMemoryBackend {
    let disk = InMemoryBackend::new();
    let flushed = steps.iter().rposition(|step| matches!(step, Step::Flush)).unwrap_or(0);
    for (place, step) in steps.iter().enumerate() {
        match step {
            Step::Length(length) => disk.set_len(*length).unwrap(),
            Step::Write(offset, data) if place < flushed || lucky() => disk.write(*offset, data).unwrap(),
            Step::Write(..) | Step::Flush | Step::Acknowledged(_) => {}
        }
    }
    disk
}

/// Writes sessions, up to three to a commit, and returns what happened.
fn record() -> Vec<Step> {
    let steps = Steps::default();
    let disk = Disk { inner: InMemoryBackend::new(), full: Arc::default(), steps: steps.clone() };
    let database = Builder::new().create_with_backend(disk).unwrap();
    create_table(&database).unwrap();
    let writer = Writer::start(Arc::new(DatabaseFile::new(database, Path::new("recorded")))).unwrap();
    for round in 0..24 {
        let ids = (0..=round % 3).map(|number| format!("{round}-{number}"));
        let waiting: Vec<_> = ids.map(|id| (format!("s/{id}"), writer.send(change(&id)))).collect();
        for (session, answer) in waiting {
            assert_eq!(answer.blocking_recv().unwrap().unwrap(), 1);
            steps.lock().unwrap().push(Step::Acknowledged(session));
        }
    }
    steps.lock().unwrap().clone()
}

#[test]
fn acknowledged_writes_survive_a_power_cut_after_any_write() {
    let steps = record();
    assert!(steps.len() > 50);
    let first = steps.iter().position(|step| matches!(step, Step::Acknowledged(_))).unwrap();
    let mut coin = 1_u32;
    for cut in first + 1..=steps.len() {
        let steps = &steps[..cut];
        for luck in [1_u32, 0, 2] {
            let disk = disk_after(steps, || {
                coin = coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                luck == 1 || (luck == 2 && coin >> 31 == 1)
            });
            let database =
                Builder::new().create_with_backend(disk).unwrap_or_else(|error| panic!("{cut} {luck}: {error}"));
            let file = DatabaseFile::new(database, Path::new("recorded"));
            for step in steps {
                if let Step::Acknowledged(session) = step {
                    let found = file.read(|snapshot| snapshot.value(session, NOW)).unwrap();
                    assert_eq!(found.map(|text| text.len()), Some(900), "cut {cut}, luck {luck}: {session} was lost");
                }
            }
        }
    }
}

fn has(file: &DatabaseFile, id: &str) -> bool {
    file.read(|snapshot| snapshot.value(&format!("s/{id}"), NOW)).unwrap().is_some()
}

/// A database on a disk that can be full.
fn on_a_disk(path: &Path) -> (Arc<DatabaseFile>, Arc<AtomicBool>) {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let full = Arc::<AtomicBool>::default();
    let disk = Disk { inner: FileBackend::new(file).unwrap(), full: full.clone(), steps: Steps::default() };
    let database = Builder::new().create_with_backend(disk).unwrap();
    create_table(&database).unwrap();
    (Arc::new(DatabaseFile::new(database, path)), full)
}

#[test]
fn a_full_disk_is_read_and_is_written_again_once_it_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let (file, full) = on_a_disk(&folder.path().join("sessions.db"));
    let writer = Writer::start(file.clone()).unwrap();
    assert_eq!(writer.send(change("aa")).blocking_recv().unwrap().unwrap(), 1);
    full.store(true, Ordering::SeqCst);
    assert!(writer.send(change("bb")).blocking_recv().unwrap().is_err());
    assert!(!file.is_writable() && file.outage().is_some());
    assert!(has(&file, "aa") && !has(&file, "bb"));
    // The file itself has room: the next try finds that.
    file.retry();
    assert!(file.is_writable() && has(&file, "aa"));
    assert_eq!(writer.send(change("cc")).blocking_recv().unwrap().unwrap(), 1);
    assert!(has(&file, "cc"));
}

#[test]
fn a_file_that_was_removed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (file, _) = on_a_disk(&path);
    let writer = Writer::start(file.clone()).unwrap();
    assert_eq!(writer.send(change("aa")).blocking_recv().unwrap().unwrap(), 1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(writer.send(change("bb")).blocking_recv().unwrap().unwrap(), 1);
    assert!(path.exists() && has(&file, "bb") && !has(&file, "aa"), "a new one is at its path");
}

#[test]
fn a_truncated_file_is_refused_and_left_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (file, _) = on_a_disk(&path);
    let writer = Writer::start(file.clone()).unwrap();
    for number in 0..200 {
        assert_eq!(writer.send(change(&number.to_string())).blocking_recv().unwrap().unwrap(), 1);
    }
    drop(writer);
    drop(file);
    let whole = std::fs::read(&path).unwrap();
    for part in [2, 3, 4] {
        let cut = &whole[..whole.len() / part];
        std::fs::write(&path, cut).unwrap();
        assert!(DatabaseFile::open(&path).is_err(), "a {part}th of it");
        assert!(std::fs::read(&path).unwrap() == cut, "a {part}th of it was changed");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(has(&DatabaseFile::open(&path).unwrap(), "199"));
}
