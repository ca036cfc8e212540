//! Faults of the app behind upwarden.

use http::StatusCode;

use super::row::{FaultRow, Links, words};
use crate::pages::texts;

/// The texts say what was seen, for the log.
#[derive(Clone, Debug, strum::EnumCount)]
pub(in crate::gateway) enum AppFault {
    Down(String),
    Untrusted(String),
    /// It did not begin to answer in time.
    Slow,
    /// It closed the connection, or its answer was not HTTP.
    Broken(String),
}

impl AppFault {
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::Down(why) => FaultRow::new(StatusCode::BAD_GATEWAY, "app-down", texts::APP_DOWN)
                .retry(2)
                .seen(why)
                .links(Links::Reload),
            Self::Untrusted(why) => {
                FaultRow::new(StatusCode::BAD_GATEWAY, "app-untrusted", texts::APP_UNTRUSTED).seen(why)
            }
            Self::Slow => FaultRow::new(StatusCode::GATEWAY_TIMEOUT, "app-slow", texts::APP_SLOW),
            Self::Broken(why) => {
                let text = words(
                    "The app broke off",
                    "The app behind this site accepted your request and then closed the connection, or answered with something that is not HTTP.",
                    "Before you send anything again, check whether it was done.\nIf this happens again, contact the app’s administrator.",
                );
                FaultRow::new(StatusCode::BAD_GATEWAY, "app-broken", text).seen(why)
            }
        }
    }
}
