//! The one table of everything we answer ourselves instead of what was asked for: whose fault, which status, which words.
//!
//! In: a [`Fault`]. Out: a page for a person, a problem document (RFC 9457) for a program, a level for the log. Its types
//! are stable and listed in `docs/faults.md`; its texts name no secret.

mod credential;
mod neighbour;
mod sign_in;

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::broker::pacing::Late;
use crate::listener::Refused;
use crate::oauth::UnavailableKind;
use crate::pages::texts::{self, Loop, Text};
use crate::telemetry::Side;
pub(crate) use credential::{NoTokens, TicketFault, TokenFault};

/// What went wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nobody is signed in; `sent` where something was sent that is lost to the app.
    SignInRequired {
        /// The request had a body or an unsafe method.
        sent: bool,
    },
    /// Signed in at Upwork, and not one of those who may enter.
    NotAdmitted {
        /// Name or nid.
        shown: String,
        /// `user.id`.
        id: String,
    },
    /// Another site's page made the request.
    CrossSite,
    /// A path under the prefix with two readings.
    AmbiguousPath,
    /// A path under the prefix with nothing at it.
    NotFound,
    /// Another method than the endpoint has.
    MethodNotAllowed(&'static str),
    /// Fields or a body that the endpoint cannot read.
    BadRequest(&'static str),
    /// The person declined at Upwork, in its words.
    Declined(String),
    /// Upwork would have had to ask the person first.
    Unasked(String),
    /// A state that is not ours.
    BadState,
    /// A code that was used before, or too old, in Upwork's words.
    CodeUsed(String),
    /// Upwork answered the authorization with another error.
    AuthorizationRefused(String),
    /// The way back names another issuer than ours.
    WrongIssuer(String),
    /// Upwork's authorization, token endpoint or who-am-I gave no usable answer.
    SignInUnavailable {
        /// What was seen, for the log.
        why: String,
        /// What kind of no answer that is.
        what: UnavailableKind,
        /// What Upwork asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Upwork refuses our key.
    KeyRefused(String),
    /// Three sign-ins in a row that did not hold.
    Looped(Loop),
    /// Too many sign-ins of one address.
    TooManySignIns,
    /// Too many requests of one address at the same time.
    TooManyAtOnce,
    /// Asked for at another host, again after a redirect.
    WrongHost {
        /// The host asked for.
        asked: String,
        /// `public_url`.
        public_url: String,
    },
    /// The tokens do not fit the cookies.
    SessionTooLarge(usize),
    /// The app cannot be reached.
    AppDown(String),
    /// The app shows a certificate that is not trusted.
    AppUntrusted(String),
    /// The app did not answer in time.
    AppSlow,
    /// The request went to the app from here before: `app.url` leads back to us.
    Circle,
    /// The app broke off, or answered what is no HTTP.
    AppBroken(String),
    /// The API cannot be reached, or broke off.
    ApiDown(String),
    /// The API did not answer in time.
    ApiSlow,
    /// The access token ended, and a new one cannot be had just now.
    RefreshUnavailable {
        /// What was seen, for the log.
        why: String,
        /// What Upwork asked us to wait.
        retry_after: Option<Duration>,
    },
    /// The API refused the token; it is fresh now, and the body is gone.
    SendAgain,
    /// The call's turn under Upwork's limits would come too late.
    Paced(Late),
    /// The session store cannot be reached.
    StoreDown(String),
    /// Upwork's OAuth endpoints are not brokered.
    ForbiddenTarget,
    /// The neighbour door: a browser.
    NeighbourBrowser,
    /// The neighbour door: a host name it does not answer to.
    NeighbourHost,
    /// The neighbour door: the shared secret is missing or wrong.
    NeighbourSecret,
    /// The neighbour door: not a path of the API.
    NeighbourPath,
    /// The neighbour door: no service identity is configured.
    NoServiceIdentity,
    /// The neighbour door: the service identity has no token.
    ServiceDead(String),
    /// A ticket that is of no use.
    Ticket(TicketFault),
    /// A personal access token that is of no use.
    Token(TokenFault),
    /// No personal access token can be made.
    NoTokens(NoTokens),
    /// The caller may only read.
    ReadOnly {
        /// What was refused.
        why: String,
        /// The body is longer than is looked through.
        too_long: bool,
    },
    /// A message that the listener would not pass on.
    Refused(Refused),
    /// The client broke off.
    ClientGone,
    /// No file descriptor is left for a connection to an upstream.
    Overloaded,
    /// A fault of this process.
    Internal(String),
}

/// What a fault comes to.
#[derive(Debug)]
pub(crate) struct Told {
    /// Whose fault.
    pub side: Side,
    /// The status.
    pub status: StatusCode,
    /// The last part of `urn:upwarden:…`, and the name in the log.
    pub name: &'static str,
    /// The words.
    pub text: Text,
    /// Seconds, for `Retry-After`.
    pub retry_after: Option<u64>,
    /// For the log only: what was seen.
    pub seen: Option<String>,
}

impl Told {
    fn new(side: Side, status: StatusCode, name: &'static str, text: Text) -> Self {
        Self { side, status, name, text, retry_after: None, seen: None }
    }

    fn retry(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn seen(mut self, seen: impl Into<String>) -> Self {
        self.seen = Some(seen.into());
        self
    }
}

fn words(title: &'static str, cause: impl Into<Cow<'static, str>>, remedy: &'static str) -> Text {
    Text { title, cause: cause.into(), remedy: Cow::Borrowed(remedy) }
}

impl Fault {
    /// The id of the user whom it is about, for the access line: who is asked to be let in is found there.
    pub(crate) fn user(&self) -> Option<&str> {
        if let Self::NotAdmitted { id, .. } = self { Some(id) } else { None }
    }

    /// The table.
    pub(crate) fn told(&self) -> Told {
        match self {
            Self::SignInRequired { .. }
            | Self::NotAdmitted { .. }
            | Self::CrossSite
            | Self::AmbiguousPath
            | Self::NotFound
            | Self::MethodNotAllowed(_)
            | Self::BadRequest(_)
            | Self::TooManyAtOnce
            | Self::Refused(_)
            | Self::ClientGone => self.by_client(),
            Self::Declined(_)
            | Self::Unasked(_)
            | Self::BadState
            | Self::CodeUsed(_)
            | Self::AuthorizationRefused(_)
            | Self::WrongIssuer(_)
            | Self::SignInUnavailable { .. }
            | Self::KeyRefused(_)
            | Self::Looped(_)
            | Self::TooManySignIns
            | Self::WrongHost { .. }
            | Self::SessionTooLarge(_) => self.by_sign_in(),
            Self::AppDown(_) | Self::AppUntrusted(_) | Self::AppSlow | Self::AppBroken(_) | Self::Circle => {
                self.by_app()
            }
            Self::ApiDown(_)
            | Self::ApiSlow
            | Self::RefreshUnavailable { .. }
            | Self::SendAgain
            | Self::Paced(_)
            | Self::ForbiddenTarget => self.by_api(),
            Self::NeighbourBrowser
            | Self::NeighbourHost
            | Self::NeighbourSecret
            | Self::NeighbourPath
            | Self::NoServiceIdentity
            | Self::ServiceDead(_) => self.by_neighbour(),
            Self::Ticket(_) | Self::Token(_) | Self::NoTokens(_) | Self::ReadOnly { .. } => self.by_credential(),
            Self::StoreDown(why) => {
                Told::new(Side::Ours, StatusCode::SERVICE_UNAVAILABLE, "store-down", texts::STORE_DOWN)
                    .retry(5)
                    .seen(why)
            }
            Self::Overloaded => {
                Told::new(Side::Ours, StatusCode::SERVICE_UNAVAILABLE, "overloaded", texts::OVERLOADED).retry(2)
            }
            Self::Internal(why) => Told::new(
                Side::Ours,
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                words(
                    "Something went wrong here",
                    "upwarden could not do its part.",
                    "Try again.\nIf it goes on, tell whoever runs this site; the log has more under the request id.",
                ),
            )
            .seen(why),
        }
    }

    fn by_client(&self) -> Told {
        let told = |status, name, text| Told::new(Side::Client, status, name, text);
        match self {
            Self::SignInRequired { sent: false } => told(StatusCode::UNAUTHORIZED, "sign-in-required", texts::SIGN_IN),
            Self::SignInRequired { sent: true } => {
                told(StatusCode::UNAUTHORIZED, "sign-in-required", texts::SIGN_IN_NOT_SENT)
            }
            Self::NotAdmitted { shown, id } => told(StatusCode::FORBIDDEN, "not-admitted", texts::refused(shown, id)),
            Self::CrossSite => told(StatusCode::FORBIDDEN, "cross-site", texts::CROSS_SITE),
            Self::AmbiguousPath => told(StatusCode::BAD_REQUEST, "ambiguous-path", texts::AMBIGUOUS_PATH),
            Self::MethodNotAllowed(_) => told(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                words("This address takes another method", "The method of this request is not one this address knows.", "Look into the `Allow` field of this answer for the ones it knows."),
            ),
            Self::BadRequest(why) => told(
                StatusCode::BAD_REQUEST,
                "bad-request",
                words("This request cannot be read", *why, "Correct it and send it again."),
            ),
            Self::Refused(refused) => told(
                refused.status,
                "bad-message",
                words(
                    "This message was refused",
                    format!("It breaks a rule of HTTP or a limit of this site: {} ({}).", refused.reason, refused.section),
                    "Send it as the rule says. A browser never does this by itself; a program or a proxy in between does.",
                ),
            )
            .seen(format!("{} ({})", refused.reason, refused.section)),
            Self::TooManyAtOnce => {
                told(StatusCode::SERVICE_UNAVAILABLE, "too-many-at-once", texts::TOO_MANY_AT_ONCE).retry(2)
            }
            Self::ClientGone => told(
                StatusCode::BAD_REQUEST,
                "request-cut",
                words("The request broke off", "It ended before its body was whole.", "Send it again."),
            ),
            _ => told(StatusCode::NOT_FOUND, "not-found", texts::NOT_FOUND),
        }
    }

    fn by_app(&self) -> Told {
        match self {
            Self::AppDown(why) => {
                Told::new(Side::App, StatusCode::BAD_GATEWAY, "app-down", texts::APP_DOWN).retry(2).seen(why)
            }
            Self::AppUntrusted(why) => {
                Told::new(Side::App, StatusCode::BAD_GATEWAY, "app-untrusted", texts::APP_UNTRUSTED).seen(why)
            }
            Self::AppBroken(why) => Told::new(
                Side::App,
                StatusCode::BAD_GATEWAY,
                "app-broken",
                words(
                    "The app broke off",
                    "The app behind this site took your request and closed the connection, or answered with something that is not HTTP.",
                    "Before you send anything again, look whether it was done.\nIf it happens again, tell whoever runs the app.",
                ),
            )
            .seen(why),
            Self::Circle => Told::new(Side::Ours, StatusCode::LOOP_DETECTED, "request-loop", texts::CIRCLE),
            _ => Told::new(Side::App, StatusCode::GATEWAY_TIMEOUT, "app-slow", texts::APP_SLOW),
        }
    }

    fn by_api(&self) -> Told {
        let told =
            |status, name, title, cause, remedy| Told::new(Side::Upwork, status, name, words(title, cause, remedy));
        match self {
            Self::ApiDown(why) => told(
                StatusCode::BAD_GATEWAY,
                "api-down",
                "Upwork’s API cannot be reached",
                "The connection to Upwork could not be made, or broke off before an answer.",
                "Try again in a moment. If this call changes something, look first whether it was done.",
            )
            .seen(why),
            Self::ApiSlow => told(
                StatusCode::GATEWAY_TIMEOUT,
                "api-slow",
                "Upwork’s API took too long",
                "Upwork took the call and did not answer in time.",
                "If this call changes something, look first whether it was done; then try again.",
            ),
            Self::RefreshUnavailable { why, retry_after } => told(
                StatusCode::SERVICE_UNAVAILABLE,
                "refresh-unavailable",
                "No fresh token just now",
                "The access token has ended, and Upwork could not be asked for a new one. You have not been signed out.",
                "Try again in a moment.",
            )
            .retry(retry_after.map_or(5, |wait| wait.as_secs().max(1)))
            .seen(why),
            Self::Paced(late) => Told::new(
                Side::Client,
                StatusCode::TOO_MANY_REQUESTS,
                "paced",
                words(
                    "Too fast for Upwork",
                    format!("Upwork allows so many calls from one address, and {}.", late.reason.text()),
                    "Send it again after the seconds that `Retry-After` names.",
                ),
            )
            .retry(late.retry_after_seconds()),
            Self::SendAgain => told(
                StatusCode::UNAUTHORIZED,
                "send-again",
                "Refreshed, send again",
                "Upwork refused the access token. It has been refreshed, but the body of this call was too long to keep.",
                "Send the same call again.",
            ),
            _ => Told::new(
                Side::Client,
                StatusCode::FORBIDDEN,
                "forbidden-target",
                words(
                    "This address is not for callers",
                    "Upwork’s OAuth endpoints are for the proxy alone: it signs in and refreshes by itself.",
                    "Call the API itself; the bearer is added for you.",
                ),
            ),
        }
    }
}
