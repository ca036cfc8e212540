//! What is the matter with a ticket, a personal access token, or what its holder wants to do.
//!
//! In: a fault of one of these. Out: its status and words. Whoever reads them is a program's author.

use http::StatusCode;

use super::{Fault, Told, words};
use crate::telemetry::Side;

/// Why a ticket is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TicketFault {
    /// It does not open, or there are several.
    Bad,
    /// It is older than a ticket may be.
    Expired,
    /// The session is over, or the access token in it.
    Over,
    /// It was shown at the public door.
    Elsewhere,
}

/// Why a personal access token is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// Unknown, revoked, expired, mistyped, or ended by `access.not_before`.
    Bad,
    /// Upwork ended the sign-in that it stands for.
    Over,
    /// It was shown at the neighbour door.
    Elsewhere,
}

/// Why no personal access token can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTokens {
    /// The cookie store keeps nothing here.
    Store,
    /// The session cannot be renewed, so neither could a token.
    Refresh,
    /// There are as many as one person may have.
    Many,
}

type Row = (&'static str, &'static str, &'static str, &'static str);

impl Fault {
    pub(super) fn by_credential(&self) -> Told {
        let told = |status, (name, title, cause, remedy): Row| {
            Told::new(Side::Client, status, name, words(title, cause, remedy))
        };
        match self {
            Self::Ticket(fault) => told(StatusCode::UNAUTHORIZED, ticket(*fault)),
            Self::Token(fault) => told(StatusCode::UNAUTHORIZED, token(*fault)),
            Self::NoTokens(why) => told(StatusCode::CONFLICT, no_tokens(*why)),
            Self::ReadOnly { why, too_long } => Told::new(
                Side::Client,
                if *too_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::FORBIDDEN },
                "read-only",
                words(
                    "Only reading is allowed",
                    format!("{}.", capital(why)),
                    "Whoever runs the site sets `read_only` for a door; for a token it was chosen when it was made.",
                ),
            ),
            _ => told(StatusCode::UNAUTHORIZED, ticket(TicketFault::Bad)),
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn ticket(fault: TicketFault) -> Row {
    match fault {
        TicketFault::Bad => (
            "bad-ticket",
            "This is no ticket of ours",
            "It does not open, or the request shows more than one.",
            "Send `X-Upwork-Ticket` back as it came with the request that you are handling.",
        ),
        TicketFault::Expired => (
            "ticket-expired",
            "The ticket has expired",
            "A ticket is good for five minutes.",
            "Use the one that came with the request you are handling; for longer work use the service identity.",
        ),
        TicketFault::Over => (
            "ticket-over",
            "The ticket’s session is over",
            "The user has signed out, or the sign-in behind the ticket has ended.",
            "Wait for the user’s next request, which brings a new ticket.",
        ),
        TicketFault::Elsewhere => (
            "bad-ticket",
            "Tickets are for the neighbour door",
            "A ticket is not taken at the public door.",
            "Call the neighbour door with it.",
        ),
    }
}

fn token(fault: TokenFault) -> Row {
    match fault {
        TokenFault::Bad => (
            "bad-token",
            "This token is not good",
            "The personal access token is mistyped, revoked, expired or unknown.",
            "Make a new one on the account page, /upwork/auth/ (or your own prefix).",
        ),
        TokenFault::Over => (
            "token-over",
            "The sign-in behind this token is over",
            "Upwork has ended the grant that the personal access token uses.",
            "Its owner signs in again in a browser; then the same token works.",
        ),
        TokenFault::Elsewhere => (
            "bad-token",
            "Personal access tokens are for the public door",
            "A personal access token is not taken at the neighbour door.",
            "Call the public door with it, or leave `Authorization` out.",
        ),
    }
}

fn no_tokens(why: NoTokens) -> Row {
    match why {
        NoTokens::Store => (
            "tokens-need-store",
            "No place to keep tokens",
            "This site keeps its sessions in cookies only, so there is no place for personal access tokens.",
            "Whoever runs the site sets `store.kind` to \"embedded\" or \"valkey\".",
        ),
        NoTokens::Refresh => (
            "tokens-need-refresh",
            "This sign-in cannot be renewed",
            "Upwork gave this session no refresh token, so a personal access token would end within a day.",
            "Sign in again; with `upwork.grant = \"implicit\"` there are no personal access tokens.",
        ),
        NoTokens::Many => (
            "too-many-tokens",
            "You have too many tokens",
            "One person may have 50 personal access tokens.",
            "Revoke those that are not used any more.",
        ),
    }
}
