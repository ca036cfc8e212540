//! Every answer of the tables, sent by an app: the client gets it whole, cut, or as a 502, never as a short success,
//! and a connection with any error is not used again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::harness::{App, World, head};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

static LIAR: LazyLock<Mutex<Liar>> = LazyLock::new(|| Mutex::new(Liar::new()));

/// Bytes, and whether the connection is closed after them.
type Lie = (Vec<u8>, bool);

#[derive(Clone, Default)]
struct Script {
    /// Target → what is answered there.
    lies: Arc<Mutex<HashMap<String, Lie>>>,
    /// The number of requests on connections on which there was a lie before.
    again: Arc<AtomicUsize>,
}

struct Liar {
    runtime: Runtime,
    world: World,
    script: Script,
}

impl Liar {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let script = Script::default();
        let app = {
            let script = script.clone();
            App::raw(move |stream| serve(script.clone(), stream))
        };
        let world = World::open(app).set("workers", 1).start();
        Self { runtime, world, script }
    }
}

async fn serve(script: Script, mut stream: TcpStream) {
    let mut lied = false;
    while let Some(head) = head(&mut stream).await {
        if lied {
            script.again.fetch_add(1, Ordering::Relaxed);
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let lie = script.lies.lock().unwrap().get(&target).cloned();
        lied = lie.is_some();
        let (bytes, close) = lie.unwrap_or_else(|| (GOOD.to_vec(), false));
        if stream.write_all(&bytes).await.is_err() || close {
            return;
        }
    }
}

/// Lets an app answer a GET with `answer`, of which the strict reader says `said`.
pub(super) fn pass(answer: &[u8], said: &str) {
    let liar = LIAR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wrong = said.contains("refused") || said.contains("cut");
    let close = said.contains("cut") || said.contains("until close");
    liar.script.lies.lock().unwrap().insert("/lie".to_owned(), (answer.to_vec(), close));
    let shown = String::from_utf8_lossy(answer);
    liar.runtime.block_on(async {
        let client = liar.world.client();
        // If the answer is cut before its head is sent, the connection just ends.
        let got = match client.get("/lie").attempt().await {
            Ok(answer) => Some(answer.whole().await),
            Err(_) => None,
        };
        let cut = got.as_ref().is_none_or(|got| got.broken || got.status == 502);
        let ended = said.contains(", end") || said.starts_with("none") || said.contains("until close");
        if wrong && !ended {
            assert!(cut, "a short success of {shown:?}: {said}\n{got:?}");
        } else if !wrong {
            assert!(!cut, "{shown:?}: {said}\n{got:?}");
        }
        // There is one worker, so a pooled connection would be used next.
        for _ in 0..2 {
            let next = client.get("/good").await;
            assert_eq!((next.status.as_u16(), next.text().as_str()), (200, "good"), "after {shown:?}");
        }
        if wrong {
            let again = liar.script.again.swap(0, Ordering::Relaxed);
            assert_eq!(again, 0, "a connection was used again after {shown:?}");
        }
        liar.script.again.store(0, Ordering::Relaxed);
    });
}

#[test]
fn an_endless_answer_head_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(300 << 10));
    pass(long.as_bytes(), "refused head_too_large");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(400));
    pass(many.as_bytes(), "refused too_many_fields");
    let flood = format!("{}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 103 X\r\n\r\n".repeat(1000));
    pass(flood.as_bytes(), "refused too_many_interim_responses");
}
