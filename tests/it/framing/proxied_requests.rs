//! Every message of the tables in `framing`, through the whole sidecar to an app that reads strictly.

use std::sync::{LazyLock, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use crate::harness::strict::{Read, Strict};
use crate::harness::{Raw, World, access_line};

/// One for all tables, since each message has a connection of its own.
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

    /// The answers that the client got, and the whole requests that the app got.
    pub(super) fn pass(&self, message: &[u8]) -> (String, Vec<Read>) {
        let answers = self.runtime.block_on(async {
            let mut client = Raw::to(self.world.public_address()).await;
            // The server may answer and close before everything was sent.
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

/// Sends `message`, of which the strict reader says `said`, to a sidecar: whole requests are answered in order, a refused
/// one is refused and closes the connection, and the app sees nothing more and nothing that can be read in two ways.
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
    // If the gate does not take a path for public, it answers in the app's place.
    assert!(before.len() == whole && before.iter().all(|status| matches!(status, 200 | 401)), "{shown:?}\n{answers}");
    if said.contains("refused") {
        let refused = matches!(after, [400 | 408 | 413 | 414 | 417 | 421 | 431 | 501 | 505]);
        let last = answers.rsplit("HTTP/1.").next().unwrap_or_default();
        let closed = last.starts_with('0') || last.contains("connection: close");
        assert!(refused && closed, "{shown:?}: {said}\n{answers}");
    } else {
        // An incomplete request is cut or refused, never answered with success.
        assert!(matches!(after, [] | [400 | 408]), "{shown:?}: {said}\n{answers}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_refused_one_ends_them() {
    let gauntlet = Gauntlet::new();
    let good = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
                POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                PUT /c HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy";
    let last = "GET /last HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bad, reason) in [
        ("GET /d HTTP/1.1\r\nHost : a\r\n\r\n", "space_before_colon"),
        (
            "POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "content_length_with_transfer_encoding",
        ),
    ] {
        let (answers, read) = gauntlet.pass([good, bad, last].concat().as_bytes());
        assert_eq!(statuses(&answers), [200, 200, 200, 400], "{answers}");
        let lines: Vec<&str> = read.iter().map(|read| read.line.as_str()).collect();
        assert_eq!(lines, ["GET /a HTTP/1.1", "POST /b HTTP/1.1", "PUT /c HTTP/1.1"]);
        assert_eq!([&read[0].body, &read[1].body, &read[2].body], [&b""[..], b"abc", b"xy"]);
        let ends = ["HTTP/1.1 400", "connection: close"].map(str::to_owned);
        let places = lines.iter().map(|line| format!("{line} with")).chain(ends);
        let places: Vec<_> =
            places.map(|part| answers.find(&part).unwrap_or_else(|| panic!("{part} in {answers}"))).collect();
        assert!(places.is_sorted(), "{answers}");
        assert!(!answers.contains("/last"), "{answers}");
        assert!(access_line(&answers).contains(&format!("\"reason\":\"{reason}\"")), "{reason}");
    }
    let counted = "upwarden_refused_total{door=\"public\",reason=\"bad_message\"}";
    assert_eq!(gauntlet.runtime.block_on(gauntlet.world.metric(counted)), 2);
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
