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

/// What the session cookies of a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CookieOutcome {
    Live,
    /// A live session, sealed with an older key.
    Resealed,
    /// No cookie of ours.
    None,
    /// A cookie of ours that did not open: bad, old, foreign or expired.
    Unusable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RefreshOutcome {
    Renewed,
    /// `invalid_grant`: the grant is over.
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
    /// No progress of a request's body.
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
    /// Accepting failed, mostly for want of file descriptors.
    Accept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PaceRefusal {
    /// Its turn would have come too late.
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
    /// The right to refresh a session, taken, extended or given back.
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
