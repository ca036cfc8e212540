//! Redis servers in groups: a primary with its replicas and Sentinels, and a cluster. Processes of the test's own, on free ports.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Commands, Connection, FromRedisValue, Value, cmd};
use tempfile::TempDir;
use upwarden::testing::secret::Secret;

use super::world::{ACL, PATIENCE, server_program, within};

/// What the documentation says that Sentinel's servers and a cluster's nodes must allow besides.
const MORE: &str = "+wait +readonly +asking +cluster|slots";
const PRIMARY: &str = "main";
/// Servers that lose their primary choose another one this fast.
const DOWN_AFTER: u32 = 800;

/// A process of redis-server.
pub(crate) struct Node {
    pub(crate) port: u16,
    /// Its standard input is open. When that is closed, also because the test's process has ended, the server is killed.
    shell: Child,
    pid: String,
    mode: &'static str,
    folder: TempDir,
    password: &'static str,
}

/// What a node is.
enum Role<'a> {
    Server { primary: Option<u16> },
    Cluster,
    Sentinel { primary: &'a Node },
}

impl Node {
    fn start(role: &Role<'_>) -> Self {
        // A port that was free a moment ago may be taken by now.
        (0..10).find_map(|_| Self::try_start(role)).expect("a server starts")
    }

    fn try_start(role: &Role<'_>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let [port, bus] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let server = format!(
            "save \"\"\nappendonly yes\nrepl-diskless-sync-delay 0\nuser default off\nuser admin on nopass ~* &* +@all\n\
             user upwarden on >s3cr3t {ACL} {MORE}\nmasteruser admin\nmasterauth x\n"
        );
        let (own, mode, password) = match role {
            Role::Server { primary } => {
                let follows = primary.map_or_else(String::new, |port| format!("replicaof 127.0.0.1 {port}\n"));
                (format!("{server}{follows}"), "", "admin:x@")
            }
            Role::Cluster => {
                let cluster = format!(
                    "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout {DOWN_AFTER}\n\
                     cluster-replica-validity-factor 0\ncluster-allow-reads-when-down yes\n"
                );
                (format!("{server}{cluster}"), "", "admin:x@")
            }
            Role::Sentinel { primary } => {
                let watched = format!(
                    "requirepass w4tch\nsentinel sentinel-pass w4tch\nsentinel monitor {PRIMARY} 127.0.0.1 {} 2\n\
                     sentinel auth-user {PRIMARY} admin\nsentinel auth-pass {PRIMARY} x\n\
                     sentinel down-after-milliseconds {PRIMARY} {DOWN_AFTER}\nsentinel failover-timeout {PRIMARY} 1000\n",
                    primary.port
                );
                (watched, "--sentinel", ":w4tch@")
            }
        };
        let common = format!("port {port}\nbind 127.0.0.1\ndir {}\n", folder.path().display());
        std::fs::write(folder.path().join("node.conf"), format!("{common}{own}")).unwrap();
        let (shell, pid) = launch(&folder, mode)?;
        let node = Self { port, shell, pid, mode, folder, password };
        node.until_answers().then_some(node)
    }

    fn until_answers(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.connect().is_ok_and(|mut server| cmd("PING").query::<()>(&mut server).is_ok()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.password, self.port)
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(PATIENCE)
    }

    /// Sends a command as the administrator.
    pub(crate) fn order<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, arguments) = words.split_first().unwrap();
        cmd(name).arg(arguments).query(&mut self.connect().unwrap()).unwrap()
    }

    /// A connection with all rights.
    pub(crate) async fn admin(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        within(client.get_multiplexed_async_connection()).await.unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid]).status().unwrap().success());
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.shell.wait().unwrap();
    }

    /// Starts it again on the same files.
    pub(crate) fn restart(&mut self) {
        (self.shell, self.pid) = launch(&self.folder, self.mode).expect("it started before");
        assert!(self.until_answers());
    }

    /// Waits until a replica says that it has everything that was written so far: it follows a moment earlier.
    fn is_confirmed(&self) {
        let number = |text: &str, name: &str| text.split_once(name).and_then(|(_, rest)| rest.parse::<u64>().ok());
        let written = self.info("replication").lines().find_map(|line| number(line, "master_repl_offset:"));
        let written = written.expect("its place in the stream of writes");
        until("a replica confirms", || {
            let confirmed = |line: &str| number(line.split(',').find(|part| part.starts_with("offset="))?, "offset=");
            let replicas = self.info("replication");
            let mut replicas = replicas.lines().filter(|line| line.starts_with("slave"));
            replicas.any(|line| line.contains("state=online") && confirmed(line) >= Some(written))
        });
    }

    fn info(&self, part: &str) -> String {
        self.order(&["INFO", part])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A server that was stopped by its test too.
        let _ = Command::new("kill").args(["-KILL", &self.pid]).stderr(Stdio::null()).status();
        let _ = self.shell.wait();
    }
}

/// The shell that watches a server, and the server's process id.
fn launch(folder: &TempDir, mode: &str) -> Option<(Child, String)> {
    let watched = "\"$@\" >/dev/null 2>&1 </dev/null & echo $!; (read _; kill -9 $!) 2>/dev/null <&3 & wait %1";
    let mut shell = Command::new("sh")
        .args(["-c", &format!("exec 3<&0; {watched}"), "sh"])
        .args([server_program()?.as_os_str(), folder.path().join("node.conf").as_os_str()])
        .args((!mode.is_empty()).then_some(mode))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    Some((shell, pid.trim().to_owned()))
}

pub(super) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in 30 seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A primary, one replica, and three Sentinels.
pub(crate) struct SentinelGroup {
    pub(crate) servers: Vec<Node>,
    pub(crate) sentinels: Vec<Node>,
}

impl SentinelGroup {
    /// None where there is no redis-server, with a line on stderr.
    pub(crate) fn start() -> Option<Self> {
        server_program()?;
        let primary = Node::start(&Role::Server { primary: None });
        let replica = Node::start(&Role::Server { primary: Some(primary.port) });
        until("the replica follows", || replica.info("replication").contains("master_link_status:up"));
        let sentinels: Vec<Node> = (0..3).map(|_| Node::start(&Role::Sentinel { primary: &primary })).collect();
        for sentinel in &sentinels {
            // Sentinels say what they know every two seconds, and ask every ten.
            sentinel.order::<()>(&["SENTINEL", "DEBUG", "publish-period", "100", "info-period", "200"]);
        }
        let this = Self { servers: vec![primary, replica], sentinels };
        this.settle();
        Some(this)
    }

    /// Waits until every Sentinel knows the others and a replica that could take over, and the replica has everything.
    pub(crate) fn settle(&self) {
        for sentinel in &self.sentinels {
            until("the Sentinels know each other", || {
                let facts: String = sentinel.order(&["INFO", "sentinel"]);
                facts.contains("status=ok,") && facts.contains("slaves=1,sentinels=3")
            });
            until("the replica is well", || {
                let replicas: Vec<Vec<String>> = sentinel.order(&["SENTINEL", "REPLICAS", PRIMARY]);
                let says = |name: &str, value: &str| {
                    replicas.iter().any(|facts| facts.chunks(2).any(|fact| fact[0] == name && fact[1] == value))
                };
                says("flags", "slave") && says("master-link-status", "ok")
            });
        }
        self.servers[self.primary()].is_confirmed();
    }

    /// The place of the primary among the servers, as the Sentinels see it.
    pub(crate) fn primary(&self) -> usize {
        let (_, port): (String, u16) = self.sentinels[0].order(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY]);
        self.servers.iter().position(|server| server.port == port).unwrap()
    }

    /// The first Sentinel's address has no server.
    pub(crate) fn url(&self) -> Secret {
        let sentinels: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        let hosts = sentinels.join(",");
        Secret::new(format!("redis+sentinel://upwarden:s3cr3t@127.0.0.1:1,{hosts}/{PRIMARY}?sentinel_password=w4tch"))
    }
}

/// A cluster of three primaries, each with as many replicas.
pub(crate) struct Cluster {
    /// First those that began as primaries.
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// None where there is no redis-server, with a line on stderr.
    pub(crate) fn start(replicas: usize) -> Option<Self> {
        server_program()?;
        let nodes: Vec<Node> = (0..3 * (1 + replicas)).map(|_| Node::start(&Role::Cluster)).collect();
        let bus = |node: &Node| node.order::<Vec<String>>(&["CONFIG", "GET", "cluster-port"])[1].clone();
        for (number, node) in nodes.iter().enumerate() {
            node.order::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let (port, bus) = (node.port.to_string(), bus(node));
            nodes[0].order::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for (node, (first, last)) in nodes.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
            node.order::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        let this = Self { nodes };
        this.settle();
        let ids: Vec<String> = this.nodes.iter().map(|node| node.order(&["CLUSTER", "MYID"])).collect();
        for (number, node) in this.nodes.iter().enumerate().skip(3) {
            node.order::<()>(&["CLUSTER", "REPLICATE", &ids[number % 3]]);
            until("it replicates", || node.info("replication").contains("master_link_status:up"));
        }
        this.replicated(replicas);
        Some(this)
    }

    /// Waits until every node knows every other one, and all slots are served.
    fn settle(&self) {
        let all = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            until("the cluster is complete", || {
                let facts: String = node.order(&["CLUSTER", "INFO"]);
                facts.contains("cluster_state:ok") && facts.contains(&all)
            });
        }
    }

    /// Waits until every node knows this many replicas of each primary, and they have everything.
    pub(crate) fn replicated(&self, replicas: usize) {
        for node in &self.nodes {
            until("the replicas are known", || {
                let ranges: Vec<Vec<Value>> = node.order(&["CLUSTER", "SLOTS"]);
                ranges.len() == 3 && ranges.iter().all(|range| range.len() == 3 + replicas)
            });
        }
        if replicas > 0 {
            let primaries = (0..self.nodes.len()).filter(|number| self.is_primary(*number));
            primaries.for_each(|number| self.nodes[number].is_confirmed());
        }
    }

    pub(crate) fn is_primary(&self, number: usize) -> bool {
        self.nodes[number].info("replication").contains("role:master")
    }

    /// Only some of the nodes; the others are found by them.
    pub(crate) fn url(&self) -> Secret {
        let (one, other) = (self.nodes[0].port, self.nodes[1].port);
        Secret::new(format!("valkey+cluster://upwarden:s3cr3t@127.0.0.1:{one},127.0.0.1:{other}"))
    }
}

/// One group of each kind for the tests that break none; it is theirs one after the other, and empty at first.
static SENTINEL_GROUP: LazyLock<Option<Mutex<SentinelGroup>>> =
    LazyLock::new(|| SentinelGroup::start().map(Mutex::new));
static CLUSTER: LazyLock<Option<Mutex<Cluster>>> = LazyLock::new(|| Cluster::start(0).map(Mutex::new));

/// A shared group, while a test has it.
pub(super) enum Borrowed {
    SentinelGroup(MutexGuard<'static, SentinelGroup>),
    Cluster(MutexGuard<'static, Cluster>),
}

impl Borrowed {
    pub(super) fn sentinel_group() -> Option<Self> {
        let this = Self::SentinelGroup(SENTINEL_GROUP.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner));
        this.empty();
        Some(this)
    }

    pub(super) fn cluster() -> Option<Self> {
        let this = Self::Cluster(CLUSTER.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner));
        this.empty();
        Some(this)
    }

    fn empty(&self) {
        for primary in self.primaries() {
            primary.connect().unwrap().flushall::<()>().unwrap();
        }
    }

    pub(super) fn url(&self) -> Secret {
        match self {
            Self::SentinelGroup(group) => group.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    pub(super) fn primaries(&self) -> &[Node] {
        match self {
            Self::SentinelGroup(group) => &group.servers[..1],
            Self::Cluster(cluster) => &cluster.nodes[..3],
        }
    }
}
