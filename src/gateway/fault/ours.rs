//! Faults of upwarden itself, its configuration or its store.

use http::StatusCode;

use super::row::{FaultRow, Links, words};
use crate::pages::texts;

/// The texts say what was seen, for the log.
#[derive(Clone, Debug, strum::EnumCount)]
pub(in crate::gateway) enum OurFault {
    StoreDown(String),
    /// No file descriptor is left for a connection to an upstream.
    Overloaded,
    /// A request to the app came back: `app.url` leads to us.
    RequestLoop,
    KeyRefused(String),
    /// Requested under another host name, even after a redirect.
    WrongHost {
        asked: String,
        public_url: String,
    },
    /// The tokens, with this size in bytes once sealed, do not fit into cookies.
    SessionTooLarge(usize),
    Internal(String),
}

impl OurFault {
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::StoreDown(why) => {
                FaultRow::new(StatusCode::SERVICE_UNAVAILABLE, "store-down", texts::STORE_DOWN).retry(5).seen(why)
            }
            Self::Overloaded => {
                FaultRow::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", texts::OVERLOADED).retry(2)
            }
            Self::RequestLoop => FaultRow::new(StatusCode::LOOP_DETECTED, "request-loop", texts::CIRCLE),
            Self::KeyRefused(why) => FaultRow::new(StatusCode::BAD_GATEWAY, "key-refused", texts::KEY_REFUSED)
                .seen(why)
                .links(Links::SignInAgain),
            Self::WrongHost { asked, public_url } => {
                FaultRow::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", texts::wrong_host(asked, public_url))
            }
            Self::SessionTooLarge(bytes) => {
                FaultRow::new(StatusCode::INTERNAL_SERVER_ERROR, "session-too-large", texts::too_large(*bytes))
            }
            Self::Internal(why) => {
                let text = words(
                    "Internal error",
                    "upwarden could not do its part.",
                    "Try again.\nIf this keeps happening, contact the site’s administrator: the log has more under the request id.",
                );
                FaultRow::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text).seen(why)
            }
        }
    }
}
