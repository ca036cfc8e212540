//! The labels of the metrics, as enums, so that no value from outside can become one.

use strum::{IntoStaticStr, VariantArray};

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SignInOutcome {
    /// A browser was sent to Upwork.
    Started,
    Completed,
    Declined,
    /// The state was missing, stale or not ours.
    BadState,
    /// The access rules do not admit the user.
    Refused,
    /// Upwork could not be reached, or its answer was unusable.
    Failed,
    /// Stopped at a page after too many in a row.
    Looping,
}

/// The result of a request's session cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CookieOutcome {
    Live,
    /// A live session, sealed with an older key.
    Resealed,
    /// None of our cookies.
    None,
    /// One of our cookies that did not open: bad, old, foreign or expired.
    Unusable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RefreshOutcome {
    Renewed,
    /// `invalid_grant`: the grant has ended.
    Revoked,
    /// Upwork refused our client: an error in the configuration.
    Misconfigured,
    /// No usable answer.
    Unavailable,
}

/// Why the listener refused or ended something before a handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// A message that parsers read differently, or cannot read.
    BadMessage,
    HeadTooLarge,
    HeadTimeout,
    BodyTooLarge,
    /// A request's body that made no progress.
    BodyTimeout,
    /// A client that does not read its response.
    AnswerTimeout,
    /// A response that broke off, or stalled, after its head.
    AnswerCut,
    Connections,
    ConnectionsPerAddress,
    Tls,
    /// A connection that did not begin with a trusted proxy's header.
    ProxyProtocol,
    /// An HTTP/2 connection aborted too many of its requests.
    Http2Abuse,
    /// Accepting failed, mostly because no file descriptor was free.
    Accept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PaceRefusal {
    /// It would have had to wait too long.
    Busy,
    /// Upwork asked for a pause.
    #[strum(serialize = "held")]
    Paused,
    Day,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum StoreOperation {
    Read,
    Write,
    /// A lock for refreshing a session was taken, extended or released.
    Lock,
}

impl StoreOperation {
    /// The name of its span.
    pub(crate) fn span(self) -> &'static str {
        match self {
            Self::Read => "store read",
            Self::Write => "store write",
            Self::Lock => "store lock",
        }
    }
}
