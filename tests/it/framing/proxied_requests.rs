//! Every message of the tables in `framing`, through the whole sidecar to an app that reads strictly.

use std::sync::{LazyLock, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use crate::harness::strict::{Read, Strict};
use crate::harness::{Raw, World};

/// One for all tables: each message has a connection of its own.
static GAUNTLET: LazyLock<Mutex<Gauntlet>> = LazyLock::new(|| Mutex::new(Gauntlet::new()));

pub(super) struct Gauntlet {
    runtime: Runtime,
    world: World,
    strict: Strict,
}

impl Gauntlet {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let strict = Strict::default();
        let world = World::open(strict.app()).start();
        Self { runtime, world, strict }
    }

    /// What the client got, and what whole requests the app did.
    pub(super) fn pass(&self, message: &[u8]) -> (String, Vec<Read>) {
        let answers = self.runtime.block_on(async {
            let mut client = Raw::to(self.world.public_address()).await;
            // A server that has answered and closed may do so before everything was sent.
            let _ = client.0.write_all(message).await;
            let _ = client.0.shutdown().await;
            client.rest().await
        });
        (answers, self.strict.take())
    }
}

/// The statuses of the answers, without interim ones.
pub(super) fn statuses(answers: &str) -> Vec<u16> {
    let all = answers.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)?.parse().ok());
    all.filter(|status| *status >= 200).collect()
}

/// Sends `message`, of which the strict reader says `said`, to a sidecar: what the reader found whole is answered, in
/// order; what it refused is refused, with the connection; and the app sees no more, and nothing in two readings.
pub(super) fn pass(message: &[u8], said: &str) {
    let shown = String::from_utf8_lossy(message);
    let gauntlet = GAUNTLET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (answers, read) = gauntlet.pass(message);
    let words: Vec<&str> = said.split(", ").collect();
    let whole = words.iter().filter(|word| word.starts_with("none") || **word == "end").count();
    let statuses = statuses(&answers);
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(read.len() <= whole && served == read.len(), "{shown:?}: {said}\n{answers}\n{read:?}");
    let (before, after) = statuses.split_at(whole.min(statuses.len()));
    // Where a spelling is not public, the gate has answered in the app's place.
    assert!(before.len() == whole && before.iter().all(|status| matches!(status, 200 | 401)), "{shown:?}\n{answers}");
    if said.contains("refused") {
        let refused = matches!(after, [400 | 408 | 413 | 414 | 417 | 421 | 431 | 501 | 505]);
        let last = answers.rsplit("HTTP/1.").next().unwrap_or_default();
        let closed = last.starts_with('0') || last.contains("connection: close");
        assert!(refused && closed, "{shown:?}: {said}\n{answers}");
    } else {
        // What is half there is cut, or answered as what it is; never with success.
        assert!(matches!(after, [] | [400 | 408]), "{shown:?}: {said}\n{answers}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_refused_one_ends_them() {
    let gauntlet = Gauntlet::new();
    let one = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let bad = "POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let all = [one("a"), post.to_owned(), one("c"), bad.to_owned(), one("e")].concat();
    let (answers, read) = gauntlet.pass(all.as_bytes());
    assert_eq!(statuses(&answers), [200, 200, 200, 400], "{answers}");
    let lines: Vec<&str> = read.iter().map(|read| read.line.as_str()).collect();
    assert_eq!(lines, ["GET /a HTTP/1.1", "POST /b HTTP/1.1", "GET /c HTTP/1.1"]);
    assert_eq!(read[1].body, b"abc");
    let places: Vec<_> = lines.iter().map(|line| answers.find(&format!("{line} with")).unwrap()).collect();
    assert!(places.is_sorted(), "{answers}");
}

#[test]
fn the_app_gets_the_target_byte_for_byte() {
    let gauntlet = Gauntlet::new();
    for target in ["/", "/?", "/a%20b", "/a;b=c?d=e&f", "/\u{fc}?\u{fc}", "/%c3%bc?%2F%2e%2e//", "/a?b?c", "/{a}|^[]~"]
    {
        let message = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (answers, read) = gauntlet.pass(message.as_bytes());
        assert_eq!(read.len(), 1, "{answers}");
        assert_eq!(read[0].line, format!("GET {target} HTTP/1.1"));
    }
}
