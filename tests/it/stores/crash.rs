//! The embedded file: one process at a time, and complete after every crash.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use tokio::runtime::Handle;
use upwarden::testing::clock::SystemClock;
use upwarden::testing::seal::{Key, Keyring, SharedKeyring};
use upwarden::testing::secret::Secret;
use upwarden::testing::session::Lifetime;
use upwarden::testing::store::{Config, Expect, NewRecord, Store, StoreError, StoredSession, open_store};

use super::world::{LIFETIME, START, World, session, within};

const TABLE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("upwarden");
/// The child's file, and the key of its ring.
const FILE: &str = "UPWARDEN_TEST_CRASH_FILE";
const KEY: &str = "UPWARDEN_TEST_CRASH_KEY";

#[tokio::test]
async fn the_error_for_a_file_in_use_names_its_process_and_the_remedy() {
    let world = World::embedded();
    let refused = world.open_again().unwrap_err();
    let StoreError::Setup(why) = refused else { panic!("{refused:?}") };
    for word in [world.path().to_str().unwrap(), &format!("process {}", std::process::id()), "one process", "valkey"] {
        assert!(why.contains(word), "{word} is missing: {why}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let world = World::embedded();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "something else, long enough to be read as a head of a file".repeat(100)).unwrap();
    for path in [path, folder.path().join("missing/sessions.db")] {
        let config = Config::Embedded { path };
        let clock = world.clock.clone();
        let refused = open_store(&config, world.ring.clone(), clock, Handle::current()).unwrap_err();
        assert!(matches!(&refused, StoreError::Setup(why) if why.contains("store.path")), "{refused:?}");
    }
}

#[tokio::test]
async fn a_file_survives_a_restart_and_loses_what_has_expired() {
    let mut world = World::embedded();
    let value = world.save(session("aa", "1")).await;
    let record = NewRecord { bytes: b"x", expires_at: Some(START.plus(LIFETIME)) };
    within(world.store.put("notes", "aa", record, &Expect::Absent)).await.unwrap().unwrap();
    world.store = World::cookie().store;
    world.store = world.open_again().unwrap();
    assert!(world.open(&value).await.is_some());
    world.clock.advance(LIFETIME);
    world.store = World::cookie().store;
    // Opening sweeps; closing waits for it.
    world.store = world.open_again().unwrap();
    world.save(session("bb", "1")).await;
    world.store = World::cookie().store;
    let database = redb::Database::open(world.path()).unwrap();
    let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
    let left: Vec<String> = table.iter().unwrap().map(|item| item.unwrap().0.value().to_owned()).collect();
    assert!(left.iter().all(|key| !key.contains("aa")) && table.len().unwrap() == 2, "{left:?}");
}

#[tokio::test]
async fn a_record_exchanged_in_the_file_is_no_session() {
    let mut world = World::embedded();
    let value = world.save(session("aa", "1")).await;
    world.save(session("bb", "1")).await;
    world.store = World::cookie().store;
    {
        let database = redb::Database::open(world.path()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            let other = table.get("s/bb").unwrap().unwrap().value().to_vec();
            table.insert("s/aa", other.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    world.store = world.open_again().unwrap();
    assert!(world.open(&value).await.is_none());
}

#[tokio::test]
async fn many_saves_at_once_are_all_kept() {
    let world = World::embedded();
    let ids: Vec<String> = (0..400).map(|number| format!("{number:032x}")).collect();
    let values = futures_util::future::join_all(ids.iter().map(|id| world.save(session(id, "1")))).await;
    for (id, value) in ids.iter().zip(&values) {
        assert_eq!(world.open(value).await.unwrap().session.id, *id);
    }
    assert_eq!(within(world.store.end_user("1", None)).await.unwrap(), 400);
}

/// A process of this binary that saves sessions and prints the cookie of each acknowledged one.
struct Saver {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Saver {
    fn start(path: &std::path::Path, key: &Secret) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stores::crash::saves_until_it_is_killed", "--ignored", "--nocapture"])
            .env(FILE, path)
            .env(KEY, key.expose())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next cookie.
    fn next(&mut self) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("saved ").map(str::to_owned))
    }
}

/// What [`Saver`] runs.
#[tokio::test]
#[ignore = "a child of the crash test"]
async fn saves_until_it_is_killed() {
    let (Some(path), Some(key)) = (std::env::var_os(FILE), std::env::var_os(KEY)) else { return };
    let store = open_for(path.as_ref(), &Secret::new(key.into_string().unwrap()));
    loop {
        let batch = (0..3).map(|_| {
            let id = format!("{:032x}", u128::from_be_bytes(upwarden::testing::seal::random().unwrap()));
            let store = store.clone();
            async move {
                let session = session(&id, "1");
                let ends_at = session.ends_at(Lifetime { idle: LIFETIME * 100, max: None });
                store.save(&StoredSession::new(session), ends_at).await.unwrap()
            }
        });
        for value in futures_util::future::join_all(batch).await {
            // One write a line, so that a line is complete or missing.
            std::io::stdout().write_all(format!("saved {value}\n").as_bytes()).unwrap();
        }
    }
}

fn open_for(path: &std::path::Path, key: &Secret) -> Store {
    let ring = SharedKeyring::new(Keyring::new(vec![Key::parse(key).unwrap()]).unwrap());
    open_store(&Config::Embedded { path: path.to_owned() }, ring, Arc::new(SystemClock), Handle::current()).unwrap()
}

#[tokio::test]
async fn acknowledged_sessions_survive_kill_9_at_any_point() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let key = Key::generate().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..24 {
        let mut saver = Saver::start(&path, &key);
        let wanted = acknowledged.len() + 1 + round % 7;
        while acknowledged.len() < wanted {
            acknowledged.push(saver.next().expect("it saves until it is killed"));
        }
        // Between two acknowledgements: in the middle of writing, committing or flushing.
        std::thread::yield_now();
        saver.child.kill().unwrap();
        saver.child.wait().unwrap();
        while let Some(value) = saver.next() {
            acknowledged.push(value);
        }
        let store = open_for(&path, &key);
        for value in &acknowledged {
            assert!(within(store.open(value)).await.unwrap().is_some(), "round {round}: a session was lost");
        }
    }
}
