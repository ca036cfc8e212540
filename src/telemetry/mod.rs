//! Logs, metrics and the access line, and the bare names that every room shares.
//!
//! In: facts as enums and numbers. Out: log lines on stderr, metrics for the admin door. It never takes a header map, a
//! body or a token, so there is nothing secret for it to print.

pub(crate) mod access;
pub(crate) mod json;
pub(crate) mod metrics;
mod outcomes;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A door that requests are counted at; the admin door is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Browsers: the app, the API with a session, the sign-in.
    Public,
    /// Processes of the same pod or host: the API only.
    Neighbour,
}

impl Door {
    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Neighbour => "neighbour",
        }
    }
}

/// Whose fault something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one who asked.
    Client,
    /// The app behind us.
    App,
    /// Upwork: its authorization, token endpoint or API.
    Upwork,
    /// Ourselves, our configuration or our store.
    Ours,
}

impl Side {
    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::App => "app",
            Self::Upwork => "upwork",
            Self::Ours => "ours",
        }
    }
}

/// What kind of path was asked for; the `route` of metrics and of the access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Anything outside the prefix: the app.
    App,
    /// `/upwork/api/…`
    Api,
    /// `/upwork/graphql`
    Graphql,
    /// `/upwork/auth/…`
    Auth,
    /// Nothing that we know, or a message that was refused before it had a route.
    None,
}

impl RouteKind {
    /// Every kind, for tables.
    pub const ALL: [Self; 5] = [Self::App, Self::Api, Self::Graphql, Self::Auth, Self::None];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Api => "api",
            Self::Graphql => "graphql",
            Self::Auth => "auth",
            Self::None => "none",
        }
    }
}

/// Ties the page, the problem, the log line and the upstream's log together: 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64, u64);

static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

impl RequestId {
    /// The next one. Unique in this process and, by its random half, among processes; it is not a secret.
    pub fn next() -> Self {
        static PROCESS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let process = *PROCESS.get_or_init(|| {
            let mut bytes = [0; 8];
            // Without randomness the ids of two processes may meet; nothing rests on that.
            let _ = aws_lc_rs::rand::fill(&mut bytes);
            u64::from_ne_bytes(bytes)
        });
        Self(process, NEXT_REQUEST.fetch_add(1, Ordering::Relaxed))
    }

    /// The 32 digits, without an allocation.
    pub fn digits(self) -> [u8; 32] {
        let mut digits = [b'0'; 32];
        let value = (u128::from(self.0) << 64) | u128::from(self.1);
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            let nibble = u8::try_from((value >> (4 * place)) & 0xf).unwrap_or(0);
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        digits
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or("-"))
    }
}

impl From<RequestId> for http::HeaderValue {
    fn from(id: RequestId) -> Self {
        Self::from_bytes(&id.digits()).unwrap_or_else(|_| Self::from_static("-"))
    }
}

/// An error and the chain of its causes, on one line. What an error must not show, it must not say.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a person at a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Text or JSON.
    pub format: Format,
    /// The least level that is shown of our own lines; libraries are shown from `warn` on.
    pub level: LevelFilter,
}

/// Starts logging on stderr, for the whole process. A second call changes nothing.
pub(crate) fn start(config: Config) {
    let filter = Targets::new()
        .with_default(config.level.min(LevelFilter::WARN))
        // A late answer to a ping that the listener has given up on is nobody's fault.
        .with_target("h2::proto::ping_pong", config.level.min(LevelFilter::ERROR))
        .with_target("upwarden", config.level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A file or a journal would keep the escapes; on a terminal NO_COLOR still turns them off.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let registry = tracing_subscriber::registry().with(filter);
    // An error says that logging was started before: embedded in a test, say. Then the first one stands.
    let _ = match config.format {
        Format::Json => registry.with(lines.event_format(json::Json)).try_init(),
        Format::Text => registry.with(lines.compact()).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ_and_have_32_digits() {
        let (one, other) = (RequestId::next(), RequestId::next());
        assert_ne!(one, other);
        assert_eq!(String::from_utf8(one.digits().to_vec()).unwrap(), one.to_string());
        assert_eq!(one.to_string().len(), 32);
    }
}
