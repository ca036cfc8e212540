//! A store of each kind, and a Redis server of the test's own. Groups of servers are in `nodes`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::runtime::Handle;
use upwarden::testing::clock::{Clock, ManualClock, SharedClock, Timestamp};
use upwarden::testing::seal::{Key, Keyring, SharedKeyring};
use upwarden::testing::secret::Secret;
use upwarden::testing::session::{AccessToken, Grant, IdentityFields, Lifetime, RefreshToken, Session, Tokens, User};
use upwarden::testing::store::{Config, ServerConfig, Store, StoreError, StoredSession, open_store};

use upwarden::testing::tls::CertificateFiles;

use super::nodes::Borrowed;
use crate::harness::{has, program};

/// No wait of a test is longer than this.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// What the documentation says the server must allow.
pub(super) const ACL: &str = "~upwarden:* +ping +get +set +del +incrby +persist +pexpire +pttl +time +zadd +zcount +zrem +zrange \
                   +zremrangebyscore +eval +evalsha +script|load";

pub(super) const START: Timestamp = Timestamp::from_seconds(1_795_485_600);
pub(super) const LIFETIME: Duration = Duration::from_hours(14 * 24);
pub(super) const WHOLE: Lifetime = Lifetime { idle: LIFETIME, max: None };

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came in 30 seconds")
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    within(async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

pub(crate) fn key() -> Key {
    Key::parse(&Key::generate().unwrap()).unwrap()
}

pub(crate) fn ring(keys: Vec<Key>) -> Keyring {
    Keyring::new(keys).unwrap()
}

/// A session of a user that begins now; its token is valid for a day.
pub(super) fn session(id: &str, user: &str) -> Session {
    Session {
        id: id.to_owned(),
        user: User { id: user.to_owned(), nid: "foofreelancer".to_owned(), name: Some("Foo Bar".to_owned()) },
        organization: None,
        grant: Grant::Code,
        tokens: tokens("oauth2v2_access", "oauth2v2_refresh"),
        began_at: START,
        refreshed: None,
        checked: None,
        identity: IdentityFields::default(),
    }
}

pub(super) fn tokens(access: &str, refresh: &str) -> Tokens {
    Tokens {
        access: AccessToken::parse(access.to_owned()).unwrap(),
        refresh: Some(RefreshToken::parse(refresh.to_owned()).unwrap()),
        issued_at: START,
        expires_at: START.plus(Duration::from_hours(24)),
    }
}

/// A store, with its ring and its clock.
pub(super) struct World {
    pub(super) kind: &'static str,
    pub(super) store: Store,
    pub(super) ring: SharedKeyring,
    pub(super) clock: Arc<ManualClock>,
    pub(super) config: Config,
    pub(super) server: Option<Server>,
    group: Option<Borrowed>,
    _folder: Option<TempDir>,
}

impl World {
    fn new(kind: &'static str, config: Config, server: Option<Server>, folder: Option<TempDir>) -> Self {
        let (ring, clock) = (SharedKeyring::new(ring(vec![key()])), ManualClock::at(START));
        let store = open(&config, &ring, clock.clone()).unwrap();
        Self { kind, store, ring, clock, config, server, group: None, _folder: folder }
    }

    pub(super) fn cookie() -> Self {
        Self::new("cookie", Config::Cookie, None, None)
    }

    pub(super) fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::Embedded { path: folder.path().join("sessions.db") };
        Self::new("embedded", config, None, Some(folder))
    }

    /// None where there is no redis-server.
    pub(super) fn valkey() -> Option<Self> {
        let server = Server::start(Transport::Socket)?;
        let config = Config::Valkey(ServerConfig::new(server.url.clone()));
        Some(Self::new("valkey", config, Some(server), None))
    }

    /// A primary, a replica and three Sentinels, or a cluster of three, which other tests use too.
    fn group(kind: &'static str, group: Option<Borrowed>) -> Option<Self> {
        let config = Config::Valkey(ServerConfig::new(group.as_ref()?.url()));
        Some(Self { group, ..Self::new(kind, config, None, None) })
    }

    /// A connection with all rights to each server that has records; none where there is a file.
    pub(super) async fn admins(&self) -> Vec<MultiplexedConnection> {
        let mut admins = Vec::new();
        if let Some(server) = &self.server {
            admins.push(server.admin().await);
        }
        for primary in self.group.iter().flat_map(Borrowed::primaries) {
            admins.push(primary.admin().await);
        }
        admins
    }

    /// The store of this configuration.
    pub(super) fn at(config: Config) -> Self {
        Self::new("valkey", config, None, None)
    }

    /// One of each kind that this machine can run.
    pub(super) fn all() -> Vec<Self> {
        // Waiting for them holds up the runtime, so it is done before a store connects.
        let groups = (Borrowed::sentinel_group(), Borrowed::cluster());
        let always = [Some(Self::cookie()), Some(Self::embedded()), Self::valkey()];
        let groups = [Self::group("sentinel", groups.0), Self::group("cluster", groups.1)];
        always.into_iter().chain(groups).flatten().collect()
    }

    /// Those that have records.
    pub(super) fn with_records() -> Vec<Self> {
        Self::all().into_iter().filter(|world| world.store.keeps_records()).collect()
    }

    /// Opens the same store again, as another process or a later one does.
    pub(super) fn open_again(&self) -> Result<Store, StoreError> {
        open(&self.config, &self.ring, self.clock.clone())
    }

    /// Saves a session for its lifetime from now on; its cookie's value.
    pub(super) async fn save(&self, session: Session) -> String {
        let ends_at = self.clock.now().plus(LIFETIME);
        within(self.store.save(&StoredSession::new(session), ends_at)).await.unwrap()
    }

    pub(super) async fn open(&self, value: &str) -> Option<StoredSession> {
        within(self.store.open(value)).await.unwrap()
    }

    pub(super) fn path(&self) -> &Path {
        let Config::Embedded { path } = &self.config else { panic!("{} has no file", self.kind) };
        path
    }
}

fn open(config: &Config, ring: &SharedKeyring, clock: SharedClock) -> Result<Store, StoreError> {
    open_store(config, ring.clone(), clock, Handle::current())
}

/// None where there is no server, with a line on stderr.
pub(super) fn server_program() -> Option<PathBuf> {
    let found = ["redis-server", "valkey-server"].into_iter().find_map(program);
    has(found.is_some(), "redis-server or valkey-server");
    found
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Socket,
    Tcp,
    Tls,
    /// TLS where the client shows a certificate too.
    MutualTls,
}

/// A Redis server that writes each command to its disk before it answers.
pub(crate) struct Server {
    pub(crate) url: Secret,
    pub(super) ca_file: PathBuf,
    admin: String,
    config: String,
    folder: TempDir,
    child: Child,
}

impl Server {
    /// None where there is no redis-server, with a line on stderr.
    pub(crate) fn start(transport: Transport) -> Option<Self> {
        server_program()?;
        // A port that was free a moment ago may be taken by now.
        (0..10).find_map(|_| Self::try_start(transport))
    }

    fn try_start(transport: Transport) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let (socket, ca_file) = (place("redis.sock"), place("cert.pem"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (url, ports) = match transport {
            Transport::Socket => {
                (format!("redis+unix://{}?user=upwarden&pass=s3cr3t", socket.display()), "port 0".to_owned())
            }
            Transport::Tcp => (format!("valkey://upwarden:s3cr3t@127.0.0.1:{port}"), format!("port {port}")),
            Transport::Tls | Transport::MutualTls => {
                let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
                std::fs::write(&ca_file, made.cert.pem()).unwrap();
                std::fs::write(place("key.pem"), made.signing_key.serialize_pem()).unwrap();
                let (cert, key) = (ca_file.display(), place("key.pem"));
                // The server's certificate is the client's too, so that one is enough.
                let clients =
                    if transport == Transport::Tls { "no".to_owned() } else { format!("yes\ntls-ca-cert-file {cert}") };
                let tls = format!(
                    "port 0\ntls-port {port}\ntls-auth-clients {clients}\ntls-cert-file {cert}\ntls-key-file {}",
                    key.display()
                );
                (format!("rediss://upwarden:s3cr3t@localhost:{port}"), tls)
            }
        };
        let config = format!(
            "{ports}\nbind 127.0.0.1\nunixsocket {}\ndir {}\nsave \"\"\nappendonly yes\nappendfsync always\n\
             user default off\nuser admin on nopass ~* &* +@all\nuser upwarden on >s3cr3t {ACL}\n",
            socket.display(),
            folder.path().display()
        );
        let admin = format!("redis+unix://{}?user=admin&pass=x", socket.display());
        let child = launch(&config)?;
        Some(Self { url: Secret::new(url), ca_file, admin, config, folder, child })
    }

    /// What a client shows it, for mutual TLS.
    pub(super) fn certificate(&self) -> CertificateFiles {
        CertificateFiles { cert_file: self.ca_file.clone(), key_file: self.folder.path().join("key.pem") }
    }

    /// Where its Unix socket is.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same files.
    pub(crate) fn restart(&mut self) {
        assert!(self.folder.path().exists());
        self.child = launch(&self.config).expect("it started before");
    }

    /// A connection with all rights.
    pub(crate) async fn admin(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.admin.as_str()).unwrap();
        // The usual time-outs are short for a busy machine.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        within(client.get_multiplexed_async_connection_with_config(&config)).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed by its test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server and waits until it is ready; none where it ends first.
fn launch(config: &str) -> Option<Child> {
    let mut child =
        Command::new(server_program()?).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("ready to accept connections"));
    if !ready {
        let _ = child.wait();
        return None;
    }
    // Its later output must not fill the pipe. The thread ends with the server.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Some(child)
}
