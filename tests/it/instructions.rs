//! The cost of a request, in user-space instructions, stays within the budget of `bench/instructions.toml`.
//!
//! callgrind counts them, so the machine's speed and load do not matter. Each kind of request is made N times and then
//! 2N times; the difference divided by N is the cost of one, without the fixed cost of a measurement.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use toml_edit::DocumentMut;

use crate::harness::{Client, FREELANCER, Raw, Upwarden, World, has, listener, program, until};
use crate::sessions::stores::arguments;

/// The binary under callgrind, as one more replica of a world.
struct Counted<'a> {
    process: Upwarden,
    public: SocketAddr,
    folder: &'a Path,
    dumps: usize,
}

impl<'a> Counted<'a> {
    async fn start(world: &World, folder: &'a Path) -> Self {
        let (public, admin) = (listener().local_addr().unwrap(), listener().local_addr().unwrap());
        let api = format!("http://{}", world.app_address());
        let own = [("workers", "1"), ("upwork.api_url", &api)];
        let out = format!("--callgrind-out-file={}", folder.join("out").display());
        let valgrind =
            ["valgrind", "--tool=callgrind", "--cache-sim=no", "--dump-instr=no", "--instr-atstart=no", &out];
        let arguments = arguments(world, &own, public, admin);
        let process = Upwarden::start_under(&valgrind, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let ready = Client::at(admin);
        until("it is ready", async || {
            let answer = ready.get("/readyz").attempt().await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Self { process, public, folder, dumps: 0 }
    }

    /// A command to callgrind, which carries it out at once.
    fn tell(&self, command: &[&str]) {
        let pid = format!("--pid={}", self.process.pid());
        let output = Command::new("vgdb").arg(pid).args(command).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The instructions since the last count.
    fn count(&mut self) -> u64 {
        self.tell(&["dump"]);
        self.dumps += 1;
        let text = std::fs::read_to_string(self.folder.join(format!("out.{}", self.dumps))).unwrap();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        total.expect("a total").trim().parse().unwrap()
    }

    /// Thousands of instructions for each of the requests that `ask` makes in a row.
    async fn cost(&mut self, times: u64, ask: impl AsyncFn(u64)) -> u64 {
        ask(times / 2).await;
        self.count();
        ask(times).await;
        let once = self.count();
        ask(2 * times).await;
        let twice = self.count();
        (twice - once) / times / 1000
    }
}

/// Sends the request this many times on one connection; each answer ends with `end`.
async fn repeat(to: SocketAddr, request: &str, end: &str, times: u64) {
    let mut connection = Raw::to(to).await;
    for _ in 0..times {
        connection.send(request).await;
        let answer = connection.until(end).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn requests_cost_no_more_instructions_than_their_budget() {
    if !has(program("valgrind").is_some() && program("vgdb").is_some(), "valgrind") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().start();
    let mut counted = Counted::start(&world, folder.path()).await;
    let public = counted.public;
    let client = world.client().through(public);
    let answer = world.sign_in_with(&client, FREELANCER, "/").await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let host = world.url("").replace("http://", "");
    let fields =
        format!("Host: {host}\r\nCookie: upwarden={}\r\nSec-Fetch-Site: same-origin", client.cookie("upwarden"));
    let get = format!("GET /page HTTP/1.1\r\n{fields}\r\n\r\n");
    let api = format!("GET /upwork/api/call HTTP/1.1\r\n{fields}\r\n\r\n");
    let post = format!("POST /form HTTP/1.1\r\n{fields}\r\nContent-Length: 16384\r\n\r\n{:.>16384}", "end");
    counted.tell(&["instrumentation", "on"]);
    let sign_in = async |times| {
        for _ in 0..times {
            world.sign_in_with(&world.client().through(public), FREELANCER, "/").await;
        }
    };
    let costs = [
        ("get", counted.cost(30, async |times| repeat(public, &get, "GET /page\n", times).await).await),
        ("post", counted.cost(30, async |times| repeat(public, &post, "...end", times).await).await),
        ("api", counted.cost(30, async |times| repeat(public, &api, "GET /api/call\n", times).await).await),
        ("sign-in", counted.cost(4, sign_in).await),
    ];
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions.toml");
    let budgets: DocumentMut = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let number = |value: &toml_edit::Item| u64::try_from(value.as_integer().unwrap()).unwrap();
    let margin = number(&budgets["margin"]);
    let over: Vec<_> =
        costs.iter().filter(|(name, cost)| *cost > number(&budgets["budget"][*name]) * (100 + margin) / 100).collect();
    assert!(over.is_empty(), "over budget: {over:?}; all, in thousands of instructions: {costs:?}");
}
