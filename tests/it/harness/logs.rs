//! The log lines of this process, which all worlds share.

use std::io;
use std::sync::{LazyLock, Mutex};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static STARTED: LazyLock<()> = LazyLock::new(|| {
    // As `log.level = "trace"` shows them: of libraries only warnings.
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("upwarden", LevelFilter::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_writer(Keep).event_format(upwarden::testing::telemetry::Json);
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

/// Starts to keep lines, when the first world starts.
pub(super) fn start() {
    LazyLock::force(&STARTED);
}

/// Every line so far, of all tests of this process.
pub(crate) fn logs() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned()
}

/// The access line of the last of these raw answers, found by its request id.
pub(crate) fn access_line(answers: &str) -> String {
    let id = answers.rsplit("x-request-id: ").next().and_then(|rest| rest.get(..32)).expect("a request id");
    let (all, id) = (logs(), format!("\"request_id\":\"{id}\""));
    all.lines().rfind(|line| line.contains(&id) && line.contains("\"route\":")).expect(&id).to_owned()
}
