//! What the end-to-end tests are made of: a whole world in this process, on ports of its own.
//!
//! ```text
//! Client, Browser ──(Tap)── sidecar ──(Tap)── App or sample app
//!                              └──── sandbox of Upwork
//! ```
//! A [`World`] starts the sandbox, an app and the sidecar, with one clock that the test turns; when it is dropped,
//! everything is told to end and joined, and whatever went wrong there fails the test. Nothing here sleeps for luck:
//! waits are on conditions, and bounded.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper fails its test as a test does")]

mod answer;
mod app;
mod browser;
mod client;
mod jar;
mod logs;
mod process;
mod replicas;
mod tap;
mod wire;
mod world;

use std::future::Future;
use std::io::Write;
use std::time::Duration;

pub(crate) use answer::{Answer, Streaming, between};
pub(crate) use app::App;
pub(crate) use browser::Browser;
pub(crate) use client::{Call, Client, feed};
pub(crate) use logs::logs;
pub(crate) use process::{Upwarden, command};
pub(crate) use tap::Tap;
pub(crate) use world::{Plan, World, listener};

/// The sandbox's people.
pub(crate) const FREELANCER: &str = "1181921839933591552";
pub(crate) const AGENCY: &str = "1282032950044702663";
pub(crate) const CLIENT: &str = "1383143061155813774";
/// What every token of the sandbox begins with.
pub(crate) const TOKEN: &str = "oauth2v2_";

/// No wait of a test is longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The future's output, or the test fails.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

/// Asks until there is an answer; the test fails with `what` where there is none in time.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "in vain waited for: {what}");
        // Between two looks, not for luck.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Whether a tool that a test needs is there. Where it is not, that is said, and the test is left out; under
/// `UPWARDEN_TESTS_REQUIRE=1` it fails instead.
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
pub(crate) fn has(found: bool, what: &str) -> bool {
    if !found {
        let required = std::env::var("UPWARDEN_TESTS_REQUIRE").is_ok_and(|value| value == "1");
        assert!(!required, "{what} is missing, and UPWARDEN_TESTS_REQUIRE=1");
        let _ = writeln!(std::io::stderr(), "left out: {}: {what} is missing", test_name());
    }
    found
}

fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Where a program is, as a shell would find it.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
