//! The one thread that writes the file.
//!
//! In: changes, from anywhere. Out: an answer to each, after the commit that holds it. Changes that wait together share a
//! commit, so that a crowd pays for one flush of the disk.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{ReadableTable, Table};
use tokio::sync::oneshot;

use super::file::{Opened, TABLE, ending, living};
use super::{StoreError, Version, session_key};
use crate::clock::Timestamp;
use crate::recent::lock;
use crate::store::records::Expect;

/// Changes that share a commit, at the most.
const MOST: usize = 512;
/// After a fault of the disk the file is tried again this often.
const RETRY_EVERY: Duration = Duration::from_secs(2);

type Items<'a> = Table<'a, &'static str, &'static [u8]>;

/// What is to be done; each is done whole, or not at all.
#[derive(Debug)]
pub(super) enum Change {
    /// Writes a session and its line among its owner's; not where it should be there and is not.
    Session { session: String, listed: String, text: String, ends_at: Timestamp, new: bool, now: Timestamp },
    /// Removes all sessions that are listed under a prefix.
    EndOwned { prefix: String, now: Timestamp },
    /// Writes a record where it is as expected.
    Put { key: String, value: Vec<u8>, ends_at: Timestamp, expect: Expect, now: Timestamp },
    /// Adds to a counter.
    Add { key: String, by: u64, expires_at: Timestamp, now: Timestamp },
    /// Removes keys.
    Remove { keys: Vec<String> },
    /// Removes what has ended.
    Sweep { now: Timestamp },
}

/// How many were written or removed; a counter's sum.
type Done = Result<u64, StoreError>;

struct Job {
    change: Change,
    answer: oneshot::Sender<Done>,
}

/// The way to the thread. Dropping it writes what still waits, and closes the file.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(opened: Arc<Opened>) -> Result<Self, StoreError> {
        let (jobs, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("upwarden-store".to_owned())
            .spawn(move || work(&opened, &waiting))
            .map_err(|error| StoreError::Setup(format!("the store's thread cannot be started: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })
    }

    /// Sends a change off.
    pub(super) fn send(&self, change: Change) -> oneshot::Receiver<Done> {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // A thread that is gone answers by dropping the other end.
            let _ = jobs.send(Job { change, answer });
        }
        answered
    }

    /// Makes a change; it is carried out even if whoever waits goes away.
    pub(super) async fn change(&self, change: Change) -> Done {
        self.send(change).await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It has at most one commit to finish; a panic of it was told when it happened.
            let _ = thread.join();
        }
    }
}

fn work(opened: &Opened, waiting: &Receiver<Job>) {
    loop {
        let first = match waiting.recv_timeout(RETRY_EVERY) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        opened.retry();
        let Some(first) = first else { continue };
        let mut jobs = vec![first];
        while jobs.len() < MOST {
            match waiting.try_recv() {
                Ok(job) => jobs.push(job),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let changes: Vec<&Change> = jobs.iter().map(|job| &job.change).collect();
        let done = write(opened, &changes);
        for (place, job) in jobs.into_iter().enumerate() {
            let one = done.as_ref().map_err(Clone::clone).map(|done| done.get(place).copied().unwrap_or(0));
            // Whoever asked may have gone away.
            let _ = job.answer.send(one);
        }
    }
}

/// All of them in one durable commit.
fn write(opened: &Opened, changes: &[&Change]) -> Result<Vec<u64>, StoreError> {
    let database = opened.database()?;
    let done = (|| {
        let transaction = database.begin_write()?;
        let done = {
            let mut items = transaction.open_table(TABLE)?;
            changes.iter().map(|change| apply(&mut items, change)).collect::<Result<Vec<_>, redb::Error>>()?
        };
        // Durability::Immediate, redb's default: it returns when the disk has it.
        transaction.commit()?;
        Ok(done)
    })();
    drop(database);
    done.map_err(|error| opened.fail(&error))
}

fn apply(items: &mut Items<'_>, change: &Change) -> Result<u64, redb::Error> {
    match change {
        Change::Session { session, listed, text, ends_at, new, now } => {
            let there = items.get(session.as_str())?.is_some_and(|found| living(found.value(), *now).is_some());
            if !new && !there {
                return Ok(0);
            }
            items.insert(session.as_str(), ending(*ends_at, text.as_bytes()).as_slice())?;
            items.insert(listed.as_str(), ending(*ends_at, b"").as_slice())?;
            Ok(1)
        }
        Change::EndOwned { prefix, now } => {
            let mut ended = 0;
            for (key, id) in listed(items, prefix)? {
                let removed = items.remove(session_key(&id).as_str())?;
                ended += u64::from(removed.is_some_and(|found| living(found.value(), *now).is_some()));
                items.remove(key.as_str())?;
            }
            Ok(ended)
        }
        Change::Put { key, value, ends_at, expect, now } => {
            let good = {
                let found = items.get(key.as_str())?;
                let found = found.as_ref().and_then(|found| living(found.value(), *now));
                let version = found.and_then(|found| found.get(..Version::LENGTH));
                match expect {
                    Expect::Anything => true,
                    Expect::Absent => found.is_none(),
                    Expect::Version(expected) => version == Some(expected.0.as_bytes()),
                }
            };
            if good {
                items.insert(key.as_str(), ending(*ends_at, value).as_slice())?;
            }
            Ok(u64::from(good))
        }
        Change::Add { key, by, expires_at, now } => {
            let before = items.get(key.as_str())?.and_then(|found| count(found.value(), *now));
            let (sum, ends_at) = before.map_or((*by, *expires_at), |(sum, ends_at)| (sum.saturating_add(*by), ends_at));
            items.insert(key.as_str(), ending(ends_at, &sum.to_be_bytes()).as_slice())?;
            Ok(sum)
        }
        Change::Remove { keys } => {
            let mut removed = 0;
            for key in keys {
                removed += u64::from(items.remove(key.as_str())?.is_some());
            }
            Ok(removed)
        }
        Change::Sweep { now } => {
            let mut removed = 0;
            items.retain(|_, value| {
                let stays = living(value, *now).is_some();
                removed += u64::from(!stays);
                stays
            })?;
            Ok(removed)
        }
    }
}

/// Keys under a prefix, with what comes after it.
fn listed(items: &Items<'_>, prefix: &str) -> Result<Vec<(String, String)>, redb::Error> {
    let mut found = Vec::new();
    for item in items.range(prefix..)? {
        let (key, _) = item?;
        let Some(id) = key.value().strip_prefix(prefix) else { break };
        found.push((key.value().to_owned(), id.to_owned()));
    }
    Ok(found)
}

/// A counter's sum and its end, unless it has ended.
fn count(value: &[u8], now: Timestamp) -> Option<(u64, Timestamp)> {
    let sum = living(value, now)?.try_into().ok().map(u64::from_be_bytes)?;
    let ends_at = value.first_chunk().map(|end| Timestamp::from_millis(i64::from_be_bytes(*end)))?;
    Some((sum, ends_at))
}
