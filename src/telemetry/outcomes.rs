//! What is counted, as enums: the labels of the metrics, so that no value from outside can become one.
//!
//! In: nothing. Out: for each kind its values and their names. It counts nothing itself.

use super::{Door, Side};

/// The values of a label.
pub(super) trait Label: Copy + PartialEq + 'static {
    /// Each of them once.
    const ALL: &[Self];

    /// The name in metrics.
    fn text(self) -> &'static str;
}

impl Label for Door {
    const ALL: &[Self] = &[Self::Public, Self::Neighbour];

    fn text(self) -> &'static str {
        self.as_str()
    }
}

impl Label for Side {
    const ALL: &[Self] = &[Self::App, Self::Upwork];

    fn text(self) -> &'static str {
        self.as_str()
    }
}

/// How a sign-in went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// A browser was sent to Upwork.
    Started,
    /// A session was made.
    Completed,
    /// The person declined.
    Declined,
    /// The state was missing, stale or not ours.
    BadState,
    /// The access rules said no.
    Refused,
    /// Upwork could not be asked, or answered nonsense.
    Failed,
    /// Too many in a row: stopped at a page.
    Looping,
}

impl Label for SignIn {
    const ALL: &[Self] =
        &[Self::Started, Self::Completed, Self::Declined, Self::BadState, Self::Refused, Self::Failed, Self::Looping];

    fn text(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Declined => "declined",
            Self::BadState => "bad_state",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Looping => "looping",
        }
    }
}

/// What became of the session cookies of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A live session.
    Live,
    /// A session sealed by an older key.
    Resealed,
    /// No cookie of ours at all.
    None,
    /// A cookie of ours that did not open: bad, old, foreign or expired.
    Unusable,
}

impl Label for Opened {
    const ALL: &[Self] = &[Self::Live, Self::Resealed, Self::None, Self::Unusable];

    fn text(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Resealed => "resealed",
            Self::None => "none",
            Self::Unusable => "unusable",
        }
    }
}

/// How a refresh went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// New tokens.
    Renewed,
    /// `invalid_grant`: the grant is over.
    Revoked,
    /// Our client was refused: a fault of the configuration.
    Misconfigured,
    /// No usable answer.
    Unavailable,
}

impl Label for Refreshed {
    const ALL: &[Self] = &[Self::Renewed, Self::Revoked, Self::Misconfigured, Self::Unavailable];

    fn text(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Revoked => "revoked",
            Self::Misconfigured => "misconfigured",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why the listener refused or ended something before a handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A message with more than one reading, or none.
    BadMessage,
    /// A head over its limit of bytes or fields.
    HeadTooLarge,
    /// A head that took too long.
    HeadTimeout,
    /// A body over its limit.
    BodyTooLarge,
    /// A body of which nothing came for too long.
    BodyTimeout,
    /// An answer of which the client takes nothing for too long.
    AnswerTimeout,
    /// Too many connections in all.
    Connections,
    /// Too many connections of one address.
    ConnectionsPerAddress,
    /// A TLS handshake that failed.
    Tls,
    /// An HTTP/2 connection that aborted too many of its requests.
    Http2Abuse,
    /// Accepting failed: file descriptors, mostly.
    Accept,
}

impl Label for Refusal {
    const ALL: &[Self] = &[
        Self::BadMessage,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::AnswerTimeout,
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Tls,
        Self::Http2Abuse,
        Self::Accept,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::BadMessage => "bad_message",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::AnswerTimeout => "answer_timeout",
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Tls => "tls",
            Self::Http2Abuse => "http2_abuse",
            Self::Accept => "accept",
        }
    }
}

/// Why a call to the API did not get its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaceRefusal {
    /// Its turn would have come too late.
    Busy,
    /// Upwork wants a pause.
    Paused,
    /// The day's budget is used up.
    Day,
}

impl Label for PaceRefusal {
    const ALL: &[Self] = &[Self::Busy, Self::Paused, Self::Day];

    fn text(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Paused => "held",
            Self::Day => "day",
        }
    }
}
