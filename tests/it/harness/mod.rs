//! The building blocks of the tests. Every wait is for a condition and has a limit; nothing depends on the length of a
//! pause.
//!
//! ```text
//! Client, Raw, Frames, Browser ──(Tap)── sidecar ──── App or sample app
//!                                           └──── sandbox of Upwork
//! ```
//! - A [`World`] is all of this in the test's process, with one clock that the test sets. When it is dropped,
//!   everything ends and is joined, and an error in it fails the test.
//! - A [`Sidecar`] is the real binary in its own process, in front of an [`App`] in the test's process.
//! - A [`Door`] is the listener alone, with the test's own handler.

mod answer;
mod app;
mod browser;
mod certificates;
mod client;
pub(crate) mod door;
pub(crate) mod frames;
mod jar;
mod logs;
mod process;
mod raw;
mod replicas;
mod sidecar;
mod sign_in;
pub(crate) mod strict;
mod tap;
mod wire;
mod world;

use std::future::Future;
use std::io::Write;
use std::time::Duration;

pub(crate) use answer::{Answer, Streaming, between};
pub(crate) use app::App;
pub(crate) use browser::Browser;
pub(crate) use certificates::{BOTH_VERSIONS, Certificate, connect, setting, trusting};
pub(crate) use client::{Call, Client, feed};
pub(crate) use door::{Door, OpenDoor};
pub(crate) use logs::{access_line, logs};
pub(crate) use process::{Upwarden, command};
pub(crate) use raw::{Raw, head, talk};
pub(crate) use sidecar::{Sidecar, Start};
pub(crate) use tap::Tap;
pub(crate) use world::{Plan, World, listener};

/// Accounts of the sandbox.
pub(crate) const FREELANCER: &str = "1181921839933591552";
pub(crate) const AGENCY: &str = "1282032950044702663";
pub(crate) const CLIENT: &str = "1383143061155813774";
/// The beginning of every token of the sandbox.
pub(crate) const TOKEN: &str = "oauth2v2_";

/// No test waits longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The future's output; a future that takes too long fails the test.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

/// Asks until there is an answer; if there is none in time, the test fails and names `what` it waited for.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    until_in(PATIENCE, what, ask).await
}

/// The same, with another bound: for programs that are slow to start.
pub(crate) async fn until_in<T, F: Future<Output = Option<T>>>(
    bound: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = tokio::time::Instant::now() + bound;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited without success for: {what}");
        // A pause between two looks; nothing depends on its length.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Whether a tool that a test needs is there. If it is missing, this says so, and the test is left out; with
/// `UPWARDEN_TESTS_REQUIRE=1` the test fails instead.
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
pub(crate) fn has(found: bool, what: &str) -> bool {
    if !found {
        let required = std::env::var("UPWARDEN_TESTS_REQUIRE").is_ok_and(|value| value == "1");
        assert!(!required, "{what} is missing, and UPWARDEN_TESTS_REQUIRE=1");
        let _ = writeln!(std::io::stderr(), "left out: {}: {what} is missing", test_name());
    }
    found
}

/// Whether tests run at their full size: `UPWARDEN_TESTS_QUICK=1` makes the heavy ones smaller.
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
pub(crate) fn full() -> bool {
    std::env::var("UPWARDEN_TESTS_QUICK").map_or(true, |value| value != "1")
}

/// Whether ten thousand sign in while servers are lost: `UPWARDEN_TESTS_CHAOS=1`.
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
pub(crate) fn chaos() -> bool {
    std::env::var("UPWARDEN_TESTS_CHAOS").is_ok_and(|value| value == "1")
}

fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Where a program is, as a shell would find it.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
