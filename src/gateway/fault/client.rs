//! Faults of the client: requests that cannot be served as they are.

use http::StatusCode;

use super::credentials::{NeighbourFault, NoTokens, TicketFault, TokenFault};
use super::row::{FaultRow, Links, words};
use crate::listener::Rejection;
use crate::pacing::RateLimited;
use crate::pages::texts::{self, Loop};

#[derive(Clone, Debug, strum::EnumCount)]
pub(in crate::gateway) enum ClientFault {
    /// No one is signed in. `sent`: the request would have changed something, and did not reach the app.
    SignInRequired {
        sent: bool,
    },
    /// No one is signed in, and the address is too long to be carried through a sign-in.
    AddressTooLong,
    /// Signed in at Upwork, but not admitted by the access rules.
    NotAdmitted {
        /// Name or nid.
        shown: String,
        /// `user.id`.
        id: String,
    },
    /// Admitted, but not to this part of the app.
    NotAdmittedHere {
        /// `user.id`.
        id: String,
    },
    CrossSite,
    /// A link of another site leads to the API, at this target.
    CrossSiteLink {
        target: String,
    },
    /// A path under the prefix that can be read in two ways.
    AmbiguousPath,
    NotFound,
    /// The methods that the endpoint has, as `Allow` lists them.
    MethodNotAllowed(&'static str),
    /// Header fields or a body that the endpoint cannot read.
    BadRequest(&'static str),
    Refused(Rejection),
    RequestCut,
    /// Too many requests of one address in flight.
    TooManyAtOnce,
    /// The user declined at Upwork; with Upwork's message.
    Declined(String),
    /// Upwork would have had to ask the user first.
    LoginRequired(String),
    /// An unknown state.
    BadState,
    /// A code that was used before or has expired; with Upwork's message.
    CodeUsed(String),
    /// Three sign-ins in a row that did not last.
    Looped(Loop),
    TooManySignIns,
    /// Under Upwork's limits, the call would have to wait too long.
    Paced(RateLimited),
    /// Upwork's OAuth endpoints are not brokered.
    ForbiddenTarget,
    Neighbour(NeighbourFault),
    Ticket(TicketFault),
    Token(TokenFault),
    NoTokens(NoTokens),
    ReadOnly {
        why: String,
        too_long: bool,
    },
}

const SIGN_IN_DETAIL: &str = "The request has no session, or one that has ended, and no personal access token, so it was not \
                              passed on. Open `login_url` in a browser to sign in. A script calls the API with a personal \
                              access token from `{prefix}/auth/`, sent as `Authorization: Bearer`.";
const CROSS_SITE_DETAIL: &str = "The request has a session, and its fields say that a page on another site made it, or its address \
                                 may change its method. Send it from a page of this site, or with a personal access token \
                                 instead of the cookie.";

impl ClientFault {
    pub(super) fn row(&self) -> FaultRow {
        match self {
            Self::SignInRequired { sent } => sign_in_required(*sent),
            Self::AddressTooLong => {
                FaultRow::new(StatusCode::UNAUTHORIZED, "address-too-long", texts::ADDRESS_TOO_LONG)
                    .links(Links::SignInElsewhere)
                    .detail(SIGN_IN_DETAIL)
            }
            Self::NotAdmitted { shown, id } => not_admitted(shown, id),
            Self::NotAdmittedHere { id } => not_admitted_here(id),
            Self::CrossSite => {
                FaultRow::new(StatusCode::FORBIDDEN, "cross-site", texts::CROSS_SITE).detail(CROSS_SITE_DETAIL)
            }
            Self::CrossSiteLink { .. } => {
                FaultRow::new(StatusCode::FORBIDDEN, "cross-site-link", texts::CROSS_SITE_LINK)
                    .links(Links::Open)
                    .detail(CROSS_SITE_DETAIL)
            }
            Self::AmbiguousPath => {
                let detail = "The path contains dots, slashes or escapes that programs interpret differently (such as `..`, `//` \
                              or `%2f`). Write it without them.";
                FaultRow::new(StatusCode::BAD_REQUEST, "ambiguous-path", texts::AMBIGUOUS_PATH).detail(detail)
            }
            Self::NotFound => {
                let detail = "Paths under `{prefix}/` belong to upwarden, and it has nothing at this one. Call the API at \
                              `{prefix}/graphql` or `{prefix}/api/…`.";
                FaultRow::new(StatusCode::NOT_FOUND, "not-found", texts::NOT_FOUND).detail(detail)
            }
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
            Self::Neighbour(fault) => fault.row(),
            Self::Ticket(fault) => fault.row(),
            Self::Token(fault) => fault.row(),
            Self::NoTokens(why) => why.row(),
            Self::ReadOnly { why, too_long } => read_only(why, *too_long),
        }
    }
}

fn sign_in_required(sent: bool) -> FaultRow {
    let (text, links) =
        if sent { (texts::SIGN_IN_NOT_SENT, Links::SignInElsewhere) } else { (texts::SIGN_IN, Links::SignIn) };
    FaultRow::new(StatusCode::UNAUTHORIZED, "sign-in-required", text).links(links).detail(SIGN_IN_DETAIL)
}

fn not_admitted(shown: &str, id: &str) -> FaultRow {
    FaultRow::new(StatusCode::FORBIDDEN, "not-admitted", texts::refused(shown, id))
        .links(Links::SignInAgain)
        .notable()
        .seen(&format!("to admit {shown}, add \"{id}\" to access.users"))
        .detail(format!(
            "{shown} (user id {id}) is signed in at Upwork and is not allowed here. The site’s administrator can add the user id \
             to `access.users`."
        ))
}

fn not_admitted_here(id: &str) -> FaultRow {
    let text = words(
        "This part of the site is not open to you",
        format!("You are signed in, but your account (user id {id}) is not among those that are allowed here."),
        "If you need access, give the site’s administrator your user id.",
    );
    FaultRow::new(StatusCode::FORBIDDEN, "not-admitted-here", text)
        .notable()
        .seen(&format!("to admit this user, add \"{id}\" to `users` of the route"))
}

/// A sign-in that failed through no fault of the site.
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
        "Upwork’s OAuth endpoints cannot be used: upwarden itself signs users in and refreshes tokens.",
        "Call the API itself. The bearer token is added for you.",
    );
    FaultRow::new(StatusCode::FORBIDDEN, "forbidden-target", text)
}

fn read_only(why: &str, too_long: bool) -> FaultRow {
    let mut letters = why.chars();
    let capital = letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect());
    let text = words(
        "This caller may only read",
        format!("{capital}."),
        "The site’s administrator sets `read_only` for a door or a route. For a token, its owner chose it.",
    );
    let status = if too_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::FORBIDDEN };
    FaultRow::new(status, "read-only", text)
}
