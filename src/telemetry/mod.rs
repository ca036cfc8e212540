//! Logs, metrics and the access line, and the names that every module shares.
//!
//! Takes facts as enums and numbers, never a header map, a body or a token, so it cannot print a secret.

pub(crate) mod access;
pub(crate) mod json;
pub(crate) mod metrics;
mod share;
pub(crate) mod trace;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use share::AccessShare;
use strum::{IntoStaticStr, VariantArray};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A door that requests are counted at; the admin door is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Door {
    /// Browsers: the app, the API with a session, the sign-in.
    Public,
    /// Processes in the same pod or on the same host: the API only.
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
    /// upwarden, its configuration or its store.
    Ours,
}

/// Where a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Upstream {
    App,
    /// Upwork's API, called for a client.
    Api,
    /// Upwork's token, revocation and who-am-I endpoints, for our own requests.
    Oauth,
}

/// The kind of path that was requested; the `route` of metrics and of the access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RouteKind {
    /// Anything outside the prefix.
    App,
    /// `/upwork/api/…`
    Api,
    /// `/upwork/graphql`
    Graphql,
    /// `/upwork/auth/…`
    Auth,
    /// `/upwork/auth/verify`: what a front asks for each of its requests.
    Verify,
    /// An unknown path, or a message refused before it had a route.
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

/// Links the page, the problem, the log line and the logs of the servers in front of and behind us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// 32 hex digits.
    Own([u8; 32]),
    /// A trusted proxy's.
    Given(http::HeaderValue),
}

/// Longer ones are not kept.
const LONGEST_ID: usize = 128;

static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

impl RequestId {
    /// Unique in this process and, through its random half, among processes; not a secret.
    pub(crate) fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        let process = *PROCESS.get_or_init(|| {
            let mut bytes = [0; 8];
            // Without randomness the ids of two processes may collide, which is harmless.
            let _ = aws_lc_rs::rand::fill(&mut bytes);
            u64::from_ne_bytes(bytes)
        });
        let number = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
        Self(Id::Own(Self::digits((u128::from(process) << 64) | u128::from(number))))
    }

    /// The id from a proxy, if it can be used unchanged in a log, a page and a header.
    pub(crate) fn given(value: &http::HeaderValue) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/@~".contains(byte);
        let text = value.as_bytes();
        let fits = !text.is_empty() && text.len() <= LONGEST_ID && text.iter().all(plain);
        fits.then(|| Self(Id::Given(value.clone())))
    }

    fn digits(value: u128) -> [u8; 32] {
        let mut digits = [b'0'; 32];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            let nibble = u8::try_from((value >> (4 * place)) & 0xf).unwrap_or(0);
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        digits
    }
}

impl RequestId {
    fn as_str(&self) -> &str {
        let bytes = match &self.0 {
            Id::Own(digits) => digits.as_slice(),
            Id::Given(value) => value.as_bytes(),
        };
        std::str::from_utf8(bytes).unwrap_or("-")
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&RequestId> for http::HeaderValue {
    fn from(id: &RequestId) -> Self {
        match &id.0 {
            Id::Own(digits) => Self::from_bytes(digits).unwrap_or_else(|_| Self::from_static("-")),
            Id::Given(value) => value.clone(),
        }
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
    /// The level of our own lines; libraries log from `warn` up.
    pub level: LevelFilter,
    /// Which requests have a line.
    pub access: AccessShare,
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
    // An error means that logging was started before, for example by a test, and stays as it is.
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
        assert_eq!(http::HeaderValue::from(&one), one.to_string());
        assert_eq!(one.to_string().len(), 32);
        assert!(one.to_string().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    }

    #[test]
    fn a_given_id_is_kept_only_if_it_is_plain() {
        let given = |text: &str| RequestId::given(&http::HeaderValue::from_str(text).unwrap());
        for text in ["4f0e-8c1d", "Root=1-67891233-abcdef012345678912345678", "a:b/c@d.e_f+g~h", &"x".repeat(128)] {
            let id = given(text).unwrap();
            assert_eq!((id.to_string().as_str(), http::HeaderValue::from(&id).as_bytes()), (text, text.as_bytes()));
        }
        for text in ["", "a b", "a,b", "\"", "<b>", "a\\b", "é", "{}", &"x".repeat(129)] {
            assert_eq!(given(text), None, "{text}");
        }
    }
}
