//! Opens the database file, reads it, and opens it again after a disk failure. Errors name the file and the remedy.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::StoreError;
use super::keys::{expiry, unexpired};
use super::overlay::Overlay;
use crate::clock::Timestamp;
use crate::recent::lock;

pub(super) const TABLE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("upwarden");
/// How many bytes of the file to keep in memory.
const CACHE: usize = 16 << 20;

/// The open file. After a disk failure it is read-only or closed until it can be written again.
pub(super) struct DatabaseFile {
    path: PathBuf,
    state: Mutex<State>,
    /// Outside the mutex, which may be locked for a while when the file is opened.
    writable: AtomicBool,
}

enum State {
    Writable {
        database: Arc<Database>,
        inode: Option<u64>,
    },
    /// The file as last written, and why it cannot be written now.
    ReadOnly(Arc<Database>, String),
    Closed(String),
}

impl DatabaseFile {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(open(path).map_err(StoreError::Setup)?, path))
    }

    pub(super) fn new(database: Database, path: &Path) -> Self {
        let state = State::Writable { database: Arc::new(database), inode: inode(path) };
        Self { path: path.to_owned(), state: Mutex::new(state), writable: AtomicBool::new(true) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    pub(super) fn outage(&self) -> Option<String> {
        if self.is_writable() {
            return None;
        }
        match &*self.state() {
            State::Writable { .. } => None,
            State::ReadOnly(_, why) | State::Closed(why) => Some(why.clone()),
        }
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        match &*self.state() {
            State::Writable { database, .. } => Ok(database.clone()),
            State::ReadOnly(_, why) | State::Closed(why) => Err(StoreError::Down(why.clone())),
        }
    }

    /// After a disk failure: the file is only read from now on, if that works.
    pub(super) fn fail(&self, error: &redb::Error) -> StoreError {
        let why = format!("{} cannot be used: {error}", self.path.display());
        tracing::error!(%why, "the session store failed");
        let mut state = self.state();
        // Close it before opening the file again.
        *state = State::Closed(why.clone());
        *state = self.read_only(why.clone());
        drop(state);
        self.writable.store(false, Ordering::Relaxed);
        StoreError::Down(why)
    }

    /// Opens the file again after a failure. Closes a file that was removed from its path.
    pub(super) fn retry(&self) {
        let mut state = self.state();
        if let State::Writable { inode: Some(known), .. } = &*state
            && inode(&self.path) != Some(*known)
        {
            tracing::error!(path = %self.path.display(), "the file of the session store was removed: all users are signed out");
            *state = State::Closed(format!("{} was removed", self.path.display()));
            self.writable.store(false, Ordering::Relaxed);
        }
        let why = match &*state {
            State::Writable { .. } => return,
            // The file must not change under a reader; the next try may succeed.
            State::ReadOnly(database, _) if Arc::strong_count(database) > 1 => return,
            State::ReadOnly(_, why) | State::Closed(why) => why.clone(),
        };
        // Close it before writing the file. The mutex is locked, so no reader can start in the meantime.
        *state = State::Closed(why);
        let opened = open(&self.path).and_then(|database| check_writable(&database).map(|()| database));
        match opened {
            Ok(database) => {
                *state = State::Writable { database: Arc::new(database), inode: inode(&self.path) };
                self.writable.store(true, Ordering::Relaxed);
                tracing::info!(path = %self.path.display(), "the session store works again");
            }
            Err(why) => *state = self.read_only(why),
        }
    }

    /// Reads from a snapshot. If that fails, reads once more from the file on disk, without writing to it.
    pub(super) fn read<T>(&self, read: impl Fn(&Snapshot) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let mut failure = None;
        for _ in 0..2 {
            let database = match &*self.state() {
                State::Writable { database, .. } | State::ReadOnly(database, _) => database.clone(),
                State::Closed(why) => return Err(StoreError::Down(why.clone())),
            };
            let result = (|| {
                let snapshot = Snapshot { table: database.begin_read()?.open_table(TABLE)? };
                read(&snapshot)
            })();
            match result {
                Ok(result) => return Ok(result),
                Err(error) => {
                    // If another thread noticed first, a different database is open by now.
                    let ours = match &*self.state() {
                        State::Writable { database: now, .. } | State::ReadOnly(now, _) => Arc::ptr_eq(now, &database),
                        State::Closed(_) => false,
                    };
                    drop(database);
                    let unreadable = || StoreError::Down(format!("{} cannot be read: {error}", self.path.display()));
                    failure = Some(if ours { self.fail(&error) } else { unreadable() });
                }
            }
        }
        Err(failure.unwrap_or_else(StoreError::stopping))
    }

    fn read_only(&self, why: String) -> State {
        match open_read_only(&self.path) {
            Ok(database) => State::ReadOnly(Arc::new(database), why),
            Err(_) => State::Closed(why),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).map(|metadata| metadata.ino()).ok()
}

/// Opens the file without ever writing to it.
fn open_read_only(path: &Path) -> Result<Database, DatabaseError> {
    let overlay = Overlay::open(path).map_err(|error| DatabaseError::Storage(error.into()))?;
    Builder::new().set_cache_size(CACHE).create_with_backend(overlay)
}

/// Checks that the disk has room: writes more than a commit does, and deletes it again.
fn check_writable(database: &Database) -> Result<(), String> {
    let result = (|| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?.insert("probe", vec![0_u8; 256 << 10].as_slice())?;
        transaction.commit()?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?.remove("probe")?;
        Ok(transaction.commit()?)
    })();
    result.map_err(|error| format!("the store cannot be written: {error}"))
}

/// The file at one point in time.
pub(super) struct Snapshot {
    table: ReadOnlyTable<&'static str, &'static [u8]>,
}

impl Snapshot {
    /// A value that has not expired.
    pub(super) fn value(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, redb::Error> {
        let found = self.table.get(key)?;
        Ok(found.and_then(|found| unexpired(found.value(), now).map(<[u8]>::to_vec)))
    }

    /// The rest of each key with this prefix whose value has not expired.
    pub(super) fn names(&self, prefix: &str, now: Timestamp) -> Result<Vec<String>, redb::Error> {
        Ok(self.names_and_ends(prefix, now)?.into_iter().map(|(_, name)| name).collect())
    }

    /// Like [`Self::names`], in order of expiry.
    pub(super) fn names_by_end(&self, prefix: &str, now: Timestamp) -> Result<Vec<String>, redb::Error> {
        let mut names = self.names_and_ends(prefix, now)?;
        names.sort();
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    fn names_and_ends(&self, prefix: &str, now: Timestamp) -> Result<Vec<(Timestamp, String)>, redb::Error> {
        let mut names = Vec::new();
        for item in self.table.range(prefix..)? {
            let (key, value) = item?;
            let Some(name) = key.value().strip_prefix(prefix) else { break };
            names.extend(expiry(value.value()).filter(|end| now < *end).map(|end| (end, name.to_owned())));
        }
        Ok(names)
    }
}

fn open(path: &Path) -> Result<Database, String> {
    let shown = path.display();
    // Readable by its owner only, whatever the umask: its names reveal who signed in.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| format!("store.path {shown} cannot be opened: {error}"))?;
    let metadata = file.metadata().ok();
    let inode = metadata.as_ref().map(MetadataExt::ino);
    // A damaged file is refused before anything in it is repaired.
    if metadata.is_some_and(|metadata| metadata.len() > 0) {
        open_read_only(path).map(drop).map_err(|error| refusal(path, inode, &error))?;
    }
    let backend = FileBackend::new(file).map_err(|error| refusal(path, inode, &error))?;
    let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend);
    let database = database.map_err(|error| refusal(path, inode, &error))?;
    create_table(&database).map_err(|error| format!("store.path {shown} cannot be used: {error}"))?;
    Ok(database)
}

pub(super) fn create_table(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    Ok(transaction.commit()?)
}

fn refusal(path: &Path, inode: Option<u64>, error: &DatabaseError) -> String {
    let shown = path.display();
    if matches!(error, DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) {
        let holder = inode.and_then(holder).map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
        return format!(
            "store.path {shown} is in use by {holder}: the embedded store is for one process. Stop the other upwarden, \
             give each its own store.path, or share sessions with store.kind = \"valkey\""
        );
    }
    if matches!(error, DatabaseError::UpgradeRequired(_)) {
        return format!(
            "store.path {shown} was written by another version of the database; move it away, and all users sign in again"
        );
    }
    format!(
        "store.path {shown} is no session store, or is damaged: {error}. Move it away, and all users sign in again; or restore \
         it from a backup"
    )
}

/// The process that has locked this file, according to Linux.
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
