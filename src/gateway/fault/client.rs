//! What the client did, or has to do: requests that cannot be served as they are.

use http::StatusCode;

use super::row::{FaultRow, Links, words};
use crate::listener::Rejection;
use crate::pacing::RateLimited;
use crate::pages::texts::{self, Loop};

/// The client's side.
#[derive(Clone, Debug, strum::EnumCount)]
pub(in crate::gateway) enum ClientFault {
    /// No one is signed in. `sent` where the request changed something, which is lost to the app.
    SignInRequired {
        sent: bool,
    },
    /// Signed in at Upwork, and not admitted by the access rules.
    NotAdmitted {
        /// Name or nid.
        shown: String,
        /// `user.id`.
        id: String,
    },
    /// Another site's page made the request.
    CrossSite,
    /// Another site's link leads to the API, at this target of ours.
    CrossSiteLink {
        target: String,
    },
    /// A path under the prefix with two readings.
    AmbiguousPath,
    NotFound,
    /// The methods that the endpoint has, as `Allow` lists them.
    MethodNotAllowed(&'static str),
    /// Fields or a body that the endpoint cannot read.
    BadRequest(&'static str),
    /// A message that the listener refused.
    Refused(Rejection),
    /// The client broke off.
    RequestCut,
    /// Too many requests of one address in flight.
    TooManyAtOnce,
    /// The user declined at Upwork, in its words.
    Declined(String),
    /// Upwork would have had to ask the user first.
    LoginRequired(String),
    /// A state that is not ours.
    BadState,
    /// A code that was used before, or has expired, in Upwork's words.
    CodeUsed(String),
    /// Three sign-ins in a row that did not hold.
    Looped(Loop),
    /// Too many sign-ins from one address.
    TooManySignIns,
    /// The call's turn under Upwork's limits would come too late.
    Paced(RateLimited),
    /// Upwork's OAuth endpoints are not brokered.
    ForbiddenTarget,
    Neighbour(NeighbourFault),
    Ticket(TicketFault),
    Token(TokenFault),
    NoTokens(NoTokens),
    /// The caller may only read.
    ReadOnly {
        /// What was refused.
        why: String,
        /// The body is longer than is looked through.
        too_long: bool,
    },
}

/// Why the neighbour door refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum NeighbourFault {
    /// A web page made it.
    Browser,
    /// `Host` names something else.
    Host,
    /// The shared secret is missing or wrong.
    Secret,
    /// Not a path of the API.
    Path,
    /// There is no service identity, and the request shows no ticket.
    NoServiceIdentity,
}

/// Why a ticket is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum TicketFault {
    /// It does not open, or there are several.
    Bad,
    Expired,
    /// The session is over, or the access token in it.
    SessionOver,
    /// It was shown at the public door.
    WrongDoor,
}

/// Why a personal access token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum TokenFault {
    /// Unknown, revoked, expired, mistyped, or ended by `access.not_before`.
    Bad,
    /// Upwork ended the grant behind it.
    GrantOver,
    /// It was shown at the neighbour door.
    WrongDoor,
}

/// Why no personal access token can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum NoTokens {
    /// The cookie store keeps nothing here.
    Store,
    /// The session cannot be renewed, so neither could a token.
    Refresh,
    /// The user has as many as one user may have.
    Limit,
}

impl ClientFault {
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::SignInRequired { sent } => {
                let text = if *sent { texts::SIGN_IN_NOT_SENT } else { texts::SIGN_IN };
                FaultRow::new(StatusCode::UNAUTHORIZED, "sign-in-required", text).links(Links::SignIn)
            }
            Self::NotAdmitted { shown, id } => {
                FaultRow::new(StatusCode::FORBIDDEN, "not-admitted", texts::refused(shown, id))
                    .links(Links::SignInAgain)
            }
            Self::CrossSite => FaultRow::new(StatusCode::FORBIDDEN, "cross-site", texts::CROSS_SITE),
            Self::CrossSiteLink { .. } => {
                FaultRow::new(StatusCode::FORBIDDEN, "cross-site-link", texts::CROSS_SITE_LINK).links(Links::Open)
            }
            Self::AmbiguousPath => FaultRow::new(StatusCode::BAD_REQUEST, "ambiguous-path", texts::AMBIGUOUS_PATH),
            Self::NotFound => FaultRow::new(StatusCode::NOT_FOUND, "not-found", texts::NOT_FOUND),
            Self::MethodNotAllowed(_) => method_not_allowed(),
            Self::BadRequest(why) => bad_request(why),
            Self::Refused(refused) => bad_message(refused),
            Self::RequestCut => request_cut(),
            Self::TooManyAtOnce => {
                FaultRow::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-at-once", texts::TOO_MANY_AT_ONCE).retry(2)
            }
            Self::Declined(said) => sign_in(StatusCode::FORBIDDEN, "sign-in-declined", texts::DECLINED).seen(said),
            Self::LoginRequired(said) => {
                sign_in(StatusCode::FORBIDDEN, "upwork-not-asked", texts::UPWORK_NOT_ASKED).seen(said)
            }
            Self::BadState => sign_in(StatusCode::BAD_REQUEST, "bad-state", texts::BAD_STATE),
            Self::CodeUsed(said) => sign_in(StatusCode::BAD_REQUEST, "code-used", texts::CODE_USED).seen(said),
            Self::Looped(cause) => sign_in(StatusCode::BAD_REQUEST, "sign-in-loop", texts::looped(cause)),
            Self::TooManySignIns => {
                FaultRow::new(StatusCode::TOO_MANY_REQUESTS, "too-many-sign-ins", texts::TOO_MANY_SIGN_INS).retry(60)
            }
            Self::Paced(late) => paced(late),
            Self::ForbiddenTarget => forbidden_target(),
            Self::Neighbour(fault) => neighbour(*fault),
            Self::Ticket(fault) => ticket(*fault),
            Self::Token(fault) => token(*fault),
            Self::NoTokens(why) => no_tokens(*why),
            Self::ReadOnly { why, too_long } => read_only(why, *too_long),
        }
    }
}

/// A sign-in that did not end in a session, by no fault of the site's.
fn sign_in(status: StatusCode, name: &'static str, text: texts::Text) -> FaultRow {
    FaultRow::new(status, name, text).notable().links(Links::SignInAgain)
}

fn method_not_allowed() -> FaultRow {
    let text = words(
        "Method not allowed",
        "This address does not support the request’s method.",
        "Use one of the methods in the `Allow` field of this answer.",
    );
    FaultRow::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text)
}

fn bad_request(why: &'static str) -> FaultRow {
    let text = words("This request cannot be read", why, "Correct the request and send it again.");
    FaultRow::new(StatusCode::BAD_REQUEST, "bad-request", text)
}

fn bad_message(refused: &Rejection) -> FaultRow {
    let rule = format!("{} ({})", refused.reason, refused.section);
    let text = words(
        "The request was refused",
        format!("It breaks a rule of HTTP or a limit of this site: {rule}."),
        "Browsers do not send such requests, so look at the program that sent it, or at a proxy in between.",
    );
    FaultRow::new(refused.status, "bad-message", text).seen(&rule)
}

fn request_cut() -> FaultRow {
    let text = words("The request was cut off", "The connection ended before the body did.", "Send it again.");
    FaultRow::new(StatusCode::BAD_REQUEST, "request-cut", text)
}

fn paced(late: &RateLimited) -> FaultRow {
    let text = words(
        "Upwork’s rate limit is used up for now",
        format!("The call was not sent: {}.", late.cause()),
        "Send it again after the number of seconds in `Retry-After`.",
    );
    FaultRow::new(StatusCode::TOO_MANY_REQUESTS, "paced", text).retry(late.retry_after_seconds())
}

fn forbidden_target() -> FaultRow {
    let text = words(
        "This endpoint cannot be called through upwarden",
        "Upwork’s OAuth endpoints are off limits: upwarden signs in and refreshes tokens by itself.",
        "Call the API itself. The bearer token is added for you.",
    );
    FaultRow::new(StatusCode::FORBIDDEN, "forbidden-target", text)
}

fn neighbour(fault: NeighbourFault) -> FaultRow {
    let (status, name, text) = match fault {
        NeighbourFault::Browser => (
            StatusCode::FORBIDDEN,
            "neighbour-browser",
            words(
                "This door does not serve browsers",
                "The request carries `Origin` or `Sec-Fetch-Site`, so a web page made it. The neighbour door is for local programs.",
                "From a browser, use the public door.",
            ),
        ),
        NeighbourFault::Host => (
            StatusCode::FORBIDDEN,
            "neighbour-host",
            words(
                "Unknown host name",
                "The request’s `Host` is not in `neighbour.hosts`. A web page whose name is pointed at this machine (DNS rebinding) looks like this.",
                "Call 127.0.0.1 or localhost, or add the name to `neighbour.hosts`.",
            ),
        ),
        NeighbourFault::Secret => (
            StatusCode::FORBIDDEN,
            "neighbour-secret",
            words(
                "The shared secret is missing or wrong",
                "This door requires the `X-Upwarden-Secret` field.",
                "Send the secret from `neighbour.secret_file` in `X-Upwarden-Secret`.",
            ),
        ),
        NeighbourFault::Path => (
            StatusCode::NOT_FOUND,
            "not-found",
            words(
                "Not found",
                "The neighbour door serves only Upwork’s API.",
                "Call a path under /upwork/api/, or /upwork/graphql (or your own prefix).",
            ),
        ),
        NeighbourFault::NoServiceIdentity => (
            StatusCode::UNAUTHORIZED,
            "no-service-identity",
            words(
                "No credentials for this call",
                "This upwarden has no service identity, and the request has no ticket.",
                "Set `service.grant` in the configuration, or send the ticket of the user you are calling for.",
            ),
        ),
    };
    FaultRow::new(status, name, text)
}

fn ticket(fault: TicketFault) -> FaultRow {
    let (name, text) = match fault {
        TicketFault::Bad => (
            "bad-ticket",
            words(
                "Invalid ticket",
                "The ticket does not open, or the request has more than one.",
                "Send `X-Upwork-Ticket` exactly as it came with the request you are handling.",
            ),
        ),
        TicketFault::Expired => (
            "ticket-expired",
            words(
                "The ticket has expired",
                "A ticket is valid for five minutes.",
                "Use the ticket of the request you are handling. For longer work, use the service identity.",
            ),
        ),
        TicketFault::SessionOver => (
            "ticket-over",
            words(
                "The session behind this ticket is over",
                "The user has signed out, or the sign-in has ended.",
                "Wait for the user’s next request, which brings a new ticket.",
            ),
        ),
        TicketFault::WrongDoor => (
            "bad-ticket",
            words(
                "Tickets are for the neighbour door",
                "The public door does not accept tickets.",
                "Call the neighbour door with it.",
            ),
        ),
    };
    FaultRow::new(StatusCode::UNAUTHORIZED, name, text)
}

fn token(fault: TokenFault) -> FaultRow {
    let (name, text) = match fault {
        TokenFault::Bad => (
            "bad-token",
            words(
                "Invalid personal access token",
                "The token is mistyped, revoked, expired or unknown.",
                "Make a new one on the account page, /upwork/auth/ (or your own prefix).",
            ),
        ),
        TokenFault::GrantOver => (
            "token-over",
            words(
                "The sign-in behind this token is over",
                "Upwork has ended the grant that this personal access token uses.",
                "Its owner signs in again in a browser. The same token then works again.",
            ),
        ),
        TokenFault::WrongDoor => (
            "bad-token",
            words(
                "Personal access tokens are for the public door",
                "The neighbour door does not accept personal access tokens.",
                "Call the public door with it, or leave out `Authorization`.",
            ),
        ),
    };
    FaultRow::new(StatusCode::UNAUTHORIZED, name, text)
}

fn no_tokens(why: NoTokens) -> FaultRow {
    let (name, text) = match why {
        NoTokens::Store => (
            "tokens-need-store",
            words(
                "This site cannot store tokens",
                "Its sessions live in cookies only, so it has nowhere to keep personal access tokens.",
                "The operator of this site can set `store.kind` to \"embedded\" or \"valkey\".",
            ),
        ),
        NoTokens::Refresh => (
            "tokens-need-refresh",
            words(
                "This sign-in cannot be renewed",
                "Upwork gave this session no refresh token, so a personal access token would stop working within a day.",
                "Sign in again. With `upwork.grant = \"implicit\"` there are no personal access tokens.",
            ),
        ),
        NoTokens::Limit => (
            "too-many-tokens",
            words(
                "You have too many tokens",
                "A user can have 50 personal access tokens.",
                "Revoke the ones you no longer use.",
            ),
        ),
    };
    FaultRow::new(StatusCode::CONFLICT, name, text)
}

fn read_only(why: &str, too_long: bool) -> FaultRow {
    let mut letters = why.chars();
    let capital = letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect());
    let text = words(
        "This caller may only read",
        format!("{capital}."),
        "The site’s administrator sets `read_only` for a door. For a token, its owner chose it.",
    );
    let status = if too_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::FORBIDDEN };
    FaultRow::new(status, "read-only", text)
}
