//! Power that fails at any moment: every write to the disk is on a tape, and the disk is built again as it may have been
//! after each of them. What was acknowledged before must be there.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::backends::InMemoryBackend;
use redb::{Builder, StorageBackend};

use super::NEVER;
use super::file::{Opened, lay_out};
use super::writer::{Change, Writer};
use crate::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(0);

#[derive(Clone, Debug)]
enum Step {
    Length(u64),
    Write(u64, Vec<u8>),
    Flush,
    Acknowledged(String),
}

type Tape = Arc<Mutex<Vec<Step>>>;

/// A disk that remembers.
#[derive(Debug)]
struct Disk {
    memory: InMemoryBackend,
    tape: Tape,
}

impl Disk {
    fn note(&self, step: Step) {
        self.tape.lock().unwrap().push(step);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.note(Step::Length(length));
        self.memory.set_len(length)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.note(Step::Flush);
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.note(Step::Write(offset, data.to_vec()));
        self.memory.write(offset, data)
    }
}

/// The disk after `steps`. Of the writes that were not flushed yet, those stay that `lucky` says.
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

/// Writes sessions, three to a commit at times, and what happened.
fn record() -> Vec<Step> {
    let tape = Tape::default();
    let disk = Disk { memory: InMemoryBackend::new(), tape: tape.clone() };
    let database = Builder::new().create_with_backend(disk).unwrap();
    lay_out(&database).unwrap();
    let writer = Writer::start(Arc::new(Opened::over(database, Path::new("tape")))).unwrap();
    for round in 0..24 {
        let waiting: Vec<_> = (0..=round % 3)
            .map(|number| {
                let session = format!("s/{round}-{number}");
                let (listed, text) = (format!("u/1/{round}-{number}"), "x".repeat(900));
                let change =
                    Change::Session { session: session.clone(), listed, text, ends_at: NEVER, new: true, now: NOW };
                (session, writer.send(change))
            })
            .collect();
        for (session, answer) in waiting {
            assert_eq!(answer.blocking_recv().unwrap().unwrap(), 1);
            tape.lock().unwrap().push(Step::Acknowledged(session));
        }
    }
    tape.lock().unwrap().clone()
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_write() {
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
            let opened = Opened::over(database, Path::new("tape"));
            for step in steps {
                if let Step::Acknowledged(session) = step {
                    let found = opened.read(|items| items.value(session, NOW)).unwrap();
                    assert_eq!(found.map(|text| text.len()), Some(900), "cut {cut}, luck {luck}: {session} was lost");
                }
            }
        }
    }
}
