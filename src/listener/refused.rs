//! What the listener would not pass on, and how a handler learns of it.

use http::StatusCode;

use crate::framing::Refusal;
use crate::telemetry::metrics;

/// What a handler finds in a request's extensions when the message was refused: it answers with this status, and nothing
/// else happens. The request it stands in is made up: its path and fields say nothing. Also the error of a body that was
/// refused in the middle; [`Refused::of`] finds it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({section})")]
pub struct Refused {
    /// What to answer.
    pub status: StatusCode,
    /// A stable name.
    pub reason: &'static str,
    /// The rule, as a section of an RFC.
    pub section: &'static str,
}

impl Refused {
    /// A head that took longer than allowed.
    pub(super) const HEAD_TIMEOUT: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, reason: "head_timeout", section: "RFC 9110 15.5.9" };
    /// A body of which nothing came for longer than allowed.
    pub(super) const BODY_TIMEOUT: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, reason: "body_timeout", section: "RFC 9110 15.5.9" };
    /// A body longer than allowed.
    pub(super) const BODY_TOO_LARGE: Self =
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, reason: "body_too_large", section: "RFC 9110 15.5.14" };
    /// HTTP/2: a field value that begins or ends with white space.
    pub(super) const FIELD_VALUE: Self =
        Self { status: StatusCode::BAD_REQUEST, reason: "field_value", section: "RFC 9113 8.2.1" };

    /// The refusal that ended a body, wherever in the chain of causes it stands.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(this) = error {
            if let Some(refused) = this.downcast_ref::<Self>() {
                return Some(*refused);
            }
            // An io::Error does not name what it wraps as its source, but that one's source.
            let inner = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<Self>()) {
                return Some(*refused);
            }
            error = this.source();
        }
        None
    }

    /// The label it is counted under.
    pub(super) fn counted(self) -> metrics::Refusal {
        match self.status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => metrics::Refusal::HeadTooLarge,
            StatusCode::PAYLOAD_TOO_LARGE => metrics::Refusal::BodyTooLarge,
            StatusCode::REQUEST_TIMEOUT if self == Self::HEAD_TIMEOUT => metrics::Refusal::HeadTimeout,
            StatusCode::REQUEST_TIMEOUT => metrics::Refusal::BodyTimeout,
            _ => metrics::Refusal::BadMessage,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), reason: refusal.reason(), section: refusal.section() }
    }
}

impl From<Refused> for std::io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_behind_other_errors() {
        let io = std::io::Error::from(Refused::BODY_TOO_LARGE);
        assert_eq!(Refused::of(&io), Some(Refused::BODY_TOO_LARGE));
        assert_eq!(Refused::of(&std::io::Error::other(io)), None, "an io::Error inside another is nobody's doing");
        assert_eq!(Refused::of(&std::fmt::Error), None);
    }
}
