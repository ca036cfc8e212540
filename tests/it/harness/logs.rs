//! The log lines of this process: every world's, since logging is one for the process.

use std::io;
use std::sync::{LazyLock, Mutex};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static STARTED: LazyLock<()> = LazyLock::new(|| {
    // As `log.level = "trace"` would show them: of libraries never more than warnings.
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("upwarden", LevelFilter::TRACE);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(Keep).event_format(upwarden::testing::telemetry::json::Json);
    tracing_subscriber::registry().with(filter).with(lines).init();
});

struct Keep;

impl io::Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Keep {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Begins to keep lines; from the first world on.
pub(super) fn start() {
    LazyLock::force(&STARTED);
}

/// Every line so far, of all tests of this process.
pub(crate) fn logs() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned()
}
