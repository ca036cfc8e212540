//! The thread that writes the file.
//!
//! Takes changes from all threads and answers each after its commit. Waiting changes share a commit, so that concurrent
//! requests cost one flush of the disk.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{ReadableTable, Table};
use tokio::sync::oneshot;

use super::StoreError;
use super::file::{DatabaseFile, TABLE};
use super::keys::{session_key, unexpired, with_expiry};
use crate::clock::Timestamp;
use crate::recent::lock;
use crate::store::backend::{Expect, Version};

const MAX_CHANGES: usize = 512;
/// How often to retry the file after a disk failure.
const RETRY_EVERY: Duration = Duration::from_secs(2);

type Values<'a> = Table<'a, &'static str, &'static [u8]>;

/// A change that is made as a whole or not at all.
#[derive(Debug)]
pub(super) enum Change {
    /// Writes a session and lists it under its owner, if the record that it replaces is there.
    Session {
        session: String,
        listed: String,
        text: String,
        ends_at: Timestamp,
        replaces: Option<String>,
        now: Timestamp,
    },
    /// Deletes all sessions that are listed under a prefix.
    EndOwned {
        prefix: String,
        now: Timestamp,
    },
    Put {
        key: String,
        value: Vec<u8>,
        expires_at: Timestamp,
        expect: Expect,
        now: Timestamp,
    },
    Add {
        key: String,
        by: u64,
        expires_at: Timestamp,
        now: Timestamp,
    },
    Remove {
        keys: Vec<String>,
    },
    Sweep {
        now: Timestamp,
    },
}

/// The number of values written or removed, the sum of a counter, or 0 for a sweep.
type ChangeResult = Result<u64, StoreError>;

struct Job {
    change: Change,
    answer: oneshot::Sender<ChangeResult>,
}

/// Sends changes to the thread. Dropping it completes the waiting changes and closes the file.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(file: Arc<DatabaseFile>) -> Result<Self, StoreError> {
        let (jobs, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("upwarden-store".to_owned())
            .spawn(move || run(&file, &waiting))
            .map_err(|error| StoreError::Setup(format!("the store's thread cannot be started: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn send(&self, change: Change) -> oneshot::Receiver<ChangeResult> {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // A thread that is gone answers by dropping the other end.
            let _ = jobs.send(Job { change, answer });
        }
        answered
    }

    /// Makes a change, even if the caller stops waiting.
    pub(super) async fn change(&self, change: Change) -> ChangeResult {
        self.send(change).await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It has at most one commit to finish. A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(file: &DatabaseFile, waiting: &Receiver<Job>) {
    loop {
        let first = match waiting.recv_timeout(RETRY_EVERY) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        file.retry();
        let Some(first) = first else { continue };
        let jobs: Vec<Job> = std::iter::once(first).chain(waiting.try_iter()).take(MAX_CHANGES).collect();
        let results = write(file, jobs.iter().map(|job| &job.change));
        for (place, job) in jobs.into_iter().enumerate() {
            let result = results.as_ref().map_err(Clone::clone).map(|done| done.get(place).copied().unwrap_or(0));
            // The caller may have stopped waiting.
            let _ = job.answer.send(result);
        }
    }
}

/// Makes all changes in one durable commit.
fn write<'a>(file: &DatabaseFile, changes: impl Iterator<Item = &'a Change>) -> Result<Vec<u64>, StoreError> {
    let database = file.database()?;
    let result = (|| {
        let transaction = database.begin_write()?;
        let done = {
            let mut values = transaction.open_table(TABLE)?;
            changes.map(|change| apply(&mut values, change)).collect::<Result<Vec<_>, redb::Error>>()?
        };
        // With redb's default durability, this returns once everything is on disk.
        transaction.commit()?;
        Ok(done)
    })();
    drop(database);
    result.map_err(|error| file.fail(&error))
}

fn apply(values: &mut Values<'_>, change: &Change) -> Result<u64, redb::Error> {
    match change {
        Change::Session { session, listed, text, ends_at, replaces, now } => {
            if let Some(replaces) = replaces {
                let found = values.get(session.as_str())?;
                let there = found.as_ref().and_then(|found| unexpired(found.value(), *now));
                if !there.is_some_and(|there| there.starts_with(replaces.as_bytes())) {
                    return Ok(0);
                }
            }
            values.insert(session.as_str(), with_expiry(*ends_at, text.as_bytes()).as_slice())?;
            values.insert(listed.as_str(), with_expiry(*ends_at, b"").as_slice())?;
            Ok(1)
        }
        Change::EndOwned { prefix, now } => {
            let mut ended = 0;
            for (key, id) in listed(values, prefix)? {
                let removed = values.remove(session_key(&id).as_str())?;
                ended += u64::from(removed.is_some_and(|found| unexpired(found.value(), *now).is_some()));
                values.remove(key.as_str())?;
            }
            Ok(ended)
        }
        Change::Put { key, value, expires_at, expect, now } => {
            let as_expected = {
                let found = values.get(key.as_str())?;
                let found = found.as_ref().and_then(|found| unexpired(found.value(), *now));
                let version = found.and_then(|found| found.get(..Version::LENGTH));
                match expect {
                    Expect::Anything => true,
                    Expect::Absent => found.is_none(),
                    Expect::Version(expected) => version == Some(expected.0.as_bytes()),
                }
            };
            if as_expected {
                values.insert(key.as_str(), with_expiry(*expires_at, value).as_slice())?;
            }
            Ok(u64::from(as_expected))
        }
        Change::Add { key, by, expires_at, now } => {
            let before = values.get(key.as_str())?.and_then(|found| count(found.value(), *now));
            let (sum, end) = before.map_or((*by, *expires_at), |(sum, end)| (sum.saturating_add(*by), end));
            values.insert(key.as_str(), with_expiry(end, &sum.to_be_bytes()).as_slice())?;
            Ok(sum)
        }
        Change::Remove { keys } => {
            let mut removed = 0;
            for key in keys {
                removed += u64::from(values.remove(key.as_str())?.is_some());
            }
            Ok(removed)
        }
        Change::Sweep { now } => {
            values.retain(|_, value| unexpired(value, *now).is_some())?;
            Ok(0)
        }
    }
}

/// Keys under a prefix, with what follows it.
fn listed(values: &Values<'_>, prefix: &str) -> Result<Vec<(String, String)>, redb::Error> {
    let mut found = Vec::new();
    for item in values.range(prefix..)? {
        let (key, _) = item?;
        let Some(id) = key.value().strip_prefix(prefix) else { break };
        found.push((key.value().to_owned(), id.to_owned()));
    }
    Ok(found)
}

/// A counter's sum and its expiry, unless it has expired.
fn count(value: &[u8], now: Timestamp) -> Option<(u64, Timestamp)> {
    let sum = unexpired(value, now)?.try_into().ok().map(u64::from_be_bytes)?;
    let expires_at = value.first_chunk().map(|end| Timestamp::from_millis(i64::from_be_bytes(*end)))?;
    Some((sum, expires_at))
}
