//! Faults of Upwork: its authorization endpoint, its token endpoint, its API.

use std::time::Duration;

use http::StatusCode;

use super::row::{FaultRow, Links, words};
use crate::oauth::{Unavailable, UnavailableKind};
use crate::pages::texts;

/// `Retry-After` if Upwork is busy and names no time itself.
const BUSY_RETRY: Duration = Duration::from_secs(60);
/// `Retry-After` if a token may be available in a moment.
const TOKEN_RETRY: Duration = Duration::from_secs(5);

/// The texts say what was seen, for the log.
#[derive(Clone, Debug, strum::EnumCount)]
pub(in crate::gateway) enum UpworkFault {
    /// It answered the authorization request with an error about our client.
    AuthorizationRefused(String),
    /// The authorization response names another issuer (RFC 9207).
    WrongIssuer(String),
    /// Its authorization, token endpoint or who-am-I gave no usable answer.
    SignInUnavailable(Unavailable),
    ApiDown(String),
    /// The API did not begin to answer in time.
    ApiSlow,
    /// The access token has expired, and a new one is not available right now.
    RefreshUnavailable {
        why: String,
        /// The wait that Upwork asked for.
        retry_after: Option<Duration>,
    },
    /// The API refused the token. The token has been refreshed, but the call's body was not kept.
    SendAgain,
    ServiceUnavailable(String),
}

impl UpworkFault {
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::AuthorizationRefused(said) => {
                FaultRow::new(StatusCode::BAD_GATEWAY, "authorization-refused", texts::KEY_REFUSED)
                    .seen(said)
                    .links(Links::SignInAgain)
            }
            Self::WrongIssuer(seen) => FaultRow::new(StatusCode::BAD_GATEWAY, "wrong-issuer", texts::WRONG_ISSUER)
                .seen(seen)
                .links(Links::SignInAgain),
            Self::SignInUnavailable(Unavailable { reason, kind, retry_after }) => {
                unavailable(*kind, *retry_after).seen(reason).links(Links::SignInAgain)
            }
            Self::ApiDown(why) => api_down().seen(why),
            Self::ApiSlow => api_slow(),
            Self::RefreshUnavailable { why, retry_after } => {
                refresh_unavailable().retry(seconds(retry_after.unwrap_or(TOKEN_RETRY))).seen(why)
            }
            Self::SendAgain => send_again(),
            Self::ServiceUnavailable(why) => service_unavailable().retry(seconds(TOKEN_RETRY)).seen(why),
        }
    }
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs().max(1)
}

fn unavailable(kind: UnavailableKind, retry_after: Option<Duration>) -> FaultRow {
    match kind {
        UnavailableKind::NoResponse => {
            FaultRow::new(StatusCode::BAD_GATEWAY, "upwork-unreachable", texts::UPWORK_UNREACHABLE)
        }
        UnavailableKind::ServerError => FaultRow::new(StatusCode::BAD_GATEWAY, "upwork-error", texts::UPWORK_ERROR),
        UnavailableKind::Invalid => FaultRow::new(StatusCode::BAD_GATEWAY, "upwork-nonsense", texts::UPWORK_NONSENSE),
        UnavailableKind::Busy => FaultRow::new(StatusCode::SERVICE_UNAVAILABLE, "upwork-busy", texts::UPWORK_BUSY)
            .retry(seconds(retry_after.unwrap_or(BUSY_RETRY))),
    }
}

fn api_down() -> FaultRow {
    let text = words(
        "Upwork’s API cannot be reached",
        "The connection to Upwork failed, or closed before an answer came.",
        "Try again in a moment. If this call changes something, check first whether it was done.",
    );
    FaultRow::new(StatusCode::BAD_GATEWAY, "api-down", text)
}

fn api_slow() -> FaultRow {
    let text = words(
        "Upwork’s API took too long",
        "Upwork accepted the call but did not answer in time.",
        "If this call changes something, check first whether it was done. Then try again.",
    );
    FaultRow::new(StatusCode::GATEWAY_TIMEOUT, "api-slow", text)
}

fn refresh_unavailable() -> FaultRow {
    let text = words(
        "No fresh access token right now",
        "The access token has expired, and Upwork did not issue a new one. You are still signed in.",
        "Try again in a moment.",
    );
    FaultRow::new(StatusCode::SERVICE_UNAVAILABLE, "refresh-unavailable", text)
}

fn send_again() -> FaultRow {
    let text = words(
        "Token refreshed: send the call again",
        "Upwork refused the access token. upwarden has refreshed it, but the body of this call was too long to keep for a retry.",
        "Send the same call again.",
    );
    FaultRow::new(StatusCode::UNAUTHORIZED, "send-again", text)
}

fn service_unavailable() -> FaultRow {
    let text = words(
        "The service identity has no token",
        "Upwork did not issue a token for the service identity.",
        "The site’s administrator finds the reason in the log and in the body of /readyz.",
    );
    FaultRow::new(StatusCode::SERVICE_UNAVAILABLE, "service-unavailable", text)
}
