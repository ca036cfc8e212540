//! What was not accepted from a client, and how its handler learns about it.

use http::StatusCode;

use super::Refusal;

/// What a handler gets with the request if the message was refused: it answers with this status and does nothing else.
/// The request is a placeholder without meaning. Also the error of a body that was refused midway; [`Rejection::of`]
/// finds it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({section})")]
pub struct Rejection {
    /// What to answer.
    pub status: StatusCode,
    /// A stable name.
    pub reason: &'static str,
    /// The rule, as a section of an RFC.
    pub section: &'static str,
}

impl Rejection {
    /// A head that took longer than allowed.
    pub(crate) const HEAD_TIMEOUT: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, reason: "head_timeout", section: "RFC 9110 15.5.9" };
    /// A body that paused for longer than allowed.
    pub(crate) const BODY_TIMEOUT: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, reason: "body_timeout", section: "RFC 9110 15.5.9" };
    /// A body longer than allowed.
    pub(crate) const BODY_TOO_LARGE: Self =
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, reason: "body_too_large", section: "RFC 9110 15.5.14" };
    /// HTTP/2: a field value that begins or ends with white space.
    pub(crate) const FIELD_VALUE: Self =
        Self { status: StatusCode::BAD_REQUEST, reason: "field_value", section: "RFC 9113 8.2.1" };

    /// The refusal that ended a body, wherever in the chain of causes it stands.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(this) = error {
            if let Some(refused) = this.downcast_ref::<Self>() {
                return Some(*refused);
            }
            error = this.source();
        }
        None
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), reason: refusal.reason(), section: refusal.section() }
    }
}
