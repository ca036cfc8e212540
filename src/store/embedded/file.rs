//! The database file: opened, read, and opened again after a disk's fault.
//!
//! In: a path. Out: what is in it. Its errors name the file and what to do.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::StoreError;
use super::overlay::Overlay;
use crate::clock::Timestamp;
use crate::recent::lock;

/// Everything: see the room's head.
pub(super) const TABLE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("upwarden");
/// Bytes of the file that are kept in memory.
const CACHE: usize = 16 << 20;

/// The open file. After a fault of the disk it is read only, or not at all, until it can be written again.
pub(super) struct Opened {
    path: PathBuf,
    state: Mutex<State>,
    /// Apart from the lock, which opening the file may hold for a while.
    good: AtomicBool,
}

enum State {
    Good {
        database: Arc<Database>,
        /// The file's number, where it has one.
        inode: Option<u64>,
    },
    /// As it was written last; no more is written.
    ReadOnly(Arc<Database>, String),
    Gone(String),
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::over(open(path).map_err(StoreError::Setup)?, path))
    }

    /// Over a database that is open already.
    pub(super) fn over(database: Database, path: &Path) -> Self {
        let state = State::Good { database: Arc::new(database), inode: inode(path) };
        Self { path: path.to_owned(), state: Mutex::new(state), good: AtomicBool::new(true) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_good(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }

    /// Why nothing can be written.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.is_good() {
            return None;
        }
        match &*self.state() {
            State::Good { .. } => None,
            State::ReadOnly(_, why) | State::Gone(why) => Some(why.clone()),
        }
    }

    /// To be written.
    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        match &*self.state() {
            State::Good { database, .. } => Ok(database.clone()),
            State::ReadOnly(_, why) | State::Gone(why) => Err(StoreError::Down(why.clone())),
        }
    }

    /// The disk failed: what was written is read from now on, where that works, and nothing is written.
    pub(super) fn fail(&self, error: &redb::Error) -> StoreError {
        let why = format!("{} cannot be used: {error}", self.path.display());
        tracing::error!(%why, "the session store failed");
        let mut state = self.state();
        // Closed before its file is looked at.
        *state = State::Gone(why.clone());
        *state = self.for_reading(why.clone());
        drop(state);
        self.good.store(false, Ordering::Relaxed);
        StoreError::Down(why)
    }

    /// Opens the file again, where it was let go of; lets go of one that is not at its path any more.
    pub(super) fn retry(&self) {
        let mut state = self.state();
        if let State::Good { inode: Some(known), .. } = &*state
            && inode(&self.path) != Some(*known)
        {
            tracing::error!(path = %self.path.display(), "the session store's file was removed: all sign in anew");
            *state = State::Gone(format!("{} was removed", self.path.display()));
            self.good.store(false, Ordering::Relaxed);
        }
        let why = match &*state {
            State::Good { .. } => return,
            // Who reads it now would find the file changed below: then the next try.
            State::ReadOnly(database, _) if Arc::strong_count(database) > 1 => return,
            State::ReadOnly(_, why) | State::Gone(why) => why.clone(),
        };
        // Closed before the file is written; nobody begins to read meanwhile, since the lock is held.
        *state = State::Gone(why);
        let opened = open(&self.path).and_then(|database| prove(&database).map(|()| database));
        match opened {
            Ok(database) => {
                *state = State::Good { database: Arc::new(database), inode: inode(&self.path) };
                self.good.store(true, Ordering::Relaxed);
                tracing::info!(path = %self.path.display(), "the session store works again");
            }
            Err(why) => *state = self.for_reading(why),
        }
    }

    /// Reads; what fails is read once more, from the file as it is, without writing it.
    pub(super) fn read<T>(&self, read: impl Fn(&Items) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let mut failed = None;
        for _ in 0..2 {
            let database = match &*self.state() {
                State::Good { database, .. } | State::ReadOnly(database, _) => database.clone(),
                State::Gone(why) => return Err(StoreError::Down(why.clone())),
            };
            let done = (|| {
                let items = Items { table: database.begin_read()?.open_table(TABLE)? };
                read(&items)
            })();
            match done {
                Ok(done) => return Ok(done),
                Err(error) => {
                    // Where somebody else noticed first, another one is open by now.
                    let ours = match &*self.state() {
                        State::Good { database: now, .. } | State::ReadOnly(now, _) => Arc::ptr_eq(now, &database),
                        State::Gone(_) => false,
                    };
                    drop(database);
                    let told = StoreError::Down(format!("{} cannot be read: {error}", self.path.display()));
                    failed = Some(if ours { self.fail(&error) } else { told });
                }
            }
        }
        Err(failed.unwrap_or_else(StoreError::stopping))
    }

    fn for_reading(&self, why: String) -> State {
        match look(&self.path) {
            Ok(database) => State::ReadOnly(Arc::new(database), why),
            Err(_) => State::Gone(why),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).map(|about| about.ino()).ok()
}

/// The file as it is, without writing it.
fn look(path: &Path) -> Result<Database, DatabaseError> {
    let overlay = Overlay::open(path).map_err(|error| DatabaseError::Storage(error.into()))?;
    Builder::new().set_cache_size(CACHE).create_with_backend(overlay)
}

/// Writes more than is written at a time, and takes it away again: whether the disk has room.
fn prove(database: &Database) -> Result<(), String> {
    let done = (|| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?.insert("probe", vec![0_u8; 256 << 10].as_slice())?;
        transaction.commit()?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?.remove("probe")?;
        Ok(transaction.commit()?)
    })();
    done.map_err(|error| format!("the store cannot be written: {error}"))
}

/// The file as it was at one moment.
pub(super) struct Items {
    table: ReadOnlyTable<&'static str, &'static [u8]>,
}

impl Items {
    /// A value that has not ended.
    pub(super) fn value(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, redb::Error> {
        let found = self.table.get(key)?;
        Ok(found.and_then(|found| living(found.value(), now).map(<[u8]>::to_vec)))
    }

    /// What has not ended under a prefix, by what comes after the prefix.
    pub(super) fn below(&self, prefix: &str, now: Timestamp) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let mut found = Vec::new();
        for item in self.table.range(prefix..)? {
            let (key, value) = item?;
            let Some(name) = key.value().strip_prefix(prefix) else { break };
            if let Some(value) = living(value.value(), now) {
                found.push((name.to_owned(), value.to_vec()));
            }
        }
        Ok(found)
    }
}

/// What a value holds, unless it has ended.
pub(super) fn living(value: &[u8], now: Timestamp) -> Option<&[u8]> {
    let (ends_at, rest) = value.split_first_chunk()?;
    (now.millis() < i64::from_be_bytes(*ends_at)).then_some(rest)
}

/// A value with its end.
pub(super) fn ending(ends_at: Timestamp, value: &[u8]) -> Vec<u8> {
    [&ends_at.millis().to_be_bytes(), value].concat()
}

fn open(path: &Path) -> Result<Database, String> {
    let shown = path.display();
    // For its owner only, whatever the umask says: names in it tell who signed in.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| format!("store.path {shown} cannot be opened: {error}"))?;
    let inode = file.metadata().map(|about| about.ino()).ok();
    // A damaged one is refused before anything is repaired in it.
    if file.metadata().is_ok_and(|about| about.len() > 0) {
        look(path).map(drop).map_err(|error| refusal(path, inode, &error))?;
    }
    let backend = FileBackend::new(file).map_err(|error| refusal(path, inode, &error))?;
    let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend);
    let database = database.map_err(|error| refusal(path, inode, &error))?;
    lay_out(&database).map_err(|error| format!("store.path {shown} cannot be used: {error}"))?;
    Ok(database)
}

/// Makes the table, where there is none yet.
pub(super) fn lay_out(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    Ok(transaction.commit()?)
}

fn refusal(path: &Path, inode: Option<u64>, error: &DatabaseError) -> String {
    let shown = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            let holder =
                inode.and_then(holder).map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
            format!(
                "store.path {shown} is in use by {holder}: the embedded store is for one process. Stop the other upwarden, \
                 give each its own store.path, or share sessions with store.kind = \"valkey\""
            )
        }
        DatabaseError::UpgradeRequired(_) => {
            format!(
                "store.path {shown} was written by another version of the database; move it away, and all sign in anew"
            )
        }
        other => format!(
            "store.path {shown} is no store, or is damaged: {other}. Move it away, or restore it from a copy; without it all \
             sign in anew"
        ),
    }
}

/// The process that holds a lock on this file, where Linux tells.
fn holder(inode: u64) -> Option<u32> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF"
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let (process, file) = (words.next()?, words.next()?);
        let same = file.rsplit(':').next()?.parse() == Ok(inode);
        if same { process.parse().ok().filter(|id| *id > 0) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_until_its_end() {
        let value = ending(Timestamp::from_seconds(5), b"x");
        assert_eq!(living(&value, Timestamp::from_millis(4999)), Some(&b"x"[..]));
        assert_eq!(living(&value, Timestamp::from_seconds(5)), None);
        assert_eq!(living(b"short", Timestamp::from_seconds(0)), None);
    }
}
