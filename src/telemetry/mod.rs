//! Logs, metrics and the access line, and the names that every module shares.
//!
//! It takes facts as enums and numbers, never a header map, a body or a token, so there is nothing secret for it to print.

pub(crate) mod access;
pub(crate) mod json;
pub(crate) mod metrics;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};
use strum::{IntoStaticStr, VariantArray};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A door that requests are counted at; the admin door is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// Browsers: the app, the API with a session, the sign-in.
    Public,
    /// Processes of the same pod or host: the API only.
    Neighbour,
}

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Side {
    Client,
    App,
    /// Upwork's authorization, token endpoint or API.
    Upwork,
    /// Ourselves, our configuration or our store.
    Ours,
}

/// Whom a request goes to from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Upstream {
    App,
    /// Upwork's API, called for a client.
    Api,
    /// Upwork's token, revocation and who-am-I endpoints, called for ourselves.
    Oauth,
}

/// The kind of path that was requested; the `route` of metrics and of the access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray, Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// Anything outside the prefix.
    App,
    /// `/upwork/api/…`
    Api,
    /// `/upwork/graphql`
    Graphql,
    /// `/upwork/auth/…`
    Auth,
    /// `/upwork/auth/verify`: a front's question about each of its requests.
    Verify,
    /// Nothing that we have, or a message refused before it had a route.
    None,
}

impl Door {
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Side {
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Upstream {
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

impl RouteKind {
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Links the page, the problem, the log line and the upstream's log: 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64, u64);

static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

impl RequestId {
    /// Unique in this process and, by its random half, among processes; not a secret.
    pub fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        let process = *PROCESS.get_or_init(|| {
            let mut bytes = [0; 8];
            // Without randomness the ids of two processes may collide, which is harmless.
            let _ = aws_lc_rs::rand::fill(&mut bytes);
            u64::from_ne_bytes(bytes)
        });
        Self(process, NEXT_REQUEST.fetch_add(1, Ordering::Relaxed))
    }

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

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.digits()).unwrap_or("-"))
    }
}

impl From<RequestId> for http::HeaderValue {
    fn from(id: RequestId) -> Self {
        Self::from_bytes(&id.digits()).unwrap_or_else(|_| Self::from_static("-"))
    }
}

/// An error and the chain of its causes, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub format: Format,
    /// The level of our own lines; libraries log from `warn` on.
    pub level: LevelFilter,
    /// Whether requests have a line each.
    pub access: bool,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

/// How this process logs; `None` before [`start`].
fn config() -> Option<&'static Config> {
    CONFIG.get()
}

/// Starts logging on stderr, for the whole process. A second call changes nothing.
pub(crate) fn start(config: Config) {
    let filter = Targets::new()
        .with_default(config.level.min(LevelFilter::WARN))
        // Warns of late answers to pings that the listener no longer waits for.
        .with_target("h2::proto::ping_pong", config.level.min(LevelFilter::ERROR))
        .with_target("upwarden", config.level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A file or a journal would keep the escapes; on a terminal NO_COLOR turns them off.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let registry = tracing_subscriber::registry().with(filter);
    let _ = CONFIG.set(config);
    // An error says that logging was started before, by a test for example; then that one stands.
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
