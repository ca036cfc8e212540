//! Faults in the credentials of programs: at the neighbour door, in a ticket, or in a personal access token.

use http::StatusCode;

use super::row::{FaultRow, words};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum NeighbourFault {
    Browser,
    /// `Host` is not one of the door's names.
    Host,
    Secret,
    /// Not a path of the API.
    Path,
    /// There is no service identity, and the request has no ticket.
    NoServiceIdentity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum TicketFault {
    /// It cannot be opened, or there is more than one.
    Bad,
    Expired,
    /// The session is over, or the access token in it.
    SessionOver,
    WrongDoor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum TokenFault {
    /// Unknown, revoked, expired, mistyped, or ended by `access.not_before`.
    Bad,
    /// Upwork ended the grant behind it.
    GrantOver,
    /// It was sent to the app, which tokens do not open here, or to one of our own endpoints.
    OnlyApi,
    /// Its owner chose that it opens something else.
    Scope,
    WrongDoor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum NoTokens {
    /// The cookie store cannot keep tokens.
    Store,
    /// The session cannot be renewed, so neither could a token.
    Refresh,
    /// The user has the maximum number of tokens.
    Limit,
}

impl NeighbourFault {
    pub(super) fn row(self) -> FaultRow {
        let (status, name, title, cause, remedy) = match self {
            Self::Browser => (
                StatusCode::FORBIDDEN,
                "neighbour-browser",
                "This door does not serve browsers",
                "The request carries `Origin` or `Sec-Fetch-Site`, so a web page made it. The neighbour door is for local programs.",
                "From a browser, use the public door.",
            ),
            Self::Host => (
                StatusCode::FORBIDDEN,
                "neighbour-host",
                "Unknown host name",
                "The request’s `Host` is not in `neighbour.hosts`. A web page whose name is pointed at this machine (DNS rebinding) looks like this.",
                "Call 127.0.0.1 or localhost, or add the name to `neighbour.hosts`.",
            ),
            Self::Secret => (
                StatusCode::FORBIDDEN,
                "neighbour-secret",
                "The shared secret is missing or wrong",
                "This door requires the `X-Upwarden-Secret` field.",
                "Send the secret from `neighbour.secret_file` in `X-Upwarden-Secret`.",
            ),
            Self::Path => (
                StatusCode::NOT_FOUND,
                "not-found",
                "Not found",
                "The neighbour door serves only Upwork’s API.",
                "Call a path under `{prefix}/api/`, or `{prefix}/graphql`.",
            ),
            Self::NoServiceIdentity => (
                StatusCode::UNAUTHORIZED,
                "no-service-identity",
                "No credentials for this call",
                "This upwarden has no service identity, and the request has no ticket.",
                "Set `service.grant` in the configuration, or send the ticket of the user you are calling for.",
            ),
        };
        FaultRow::new(status, name, words(title, cause, remedy))
    }
}

impl TicketFault {
    pub(super) fn row(self) -> FaultRow {
        let (name, title, cause, remedy) = match self {
            Self::Bad => (
                "bad-ticket",
                "Invalid ticket",
                "The ticket does not open, or the request has more than one.",
                "Send `X-Upwork-Ticket` exactly as it came with the request you are handling.",
            ),
            Self::Expired => (
                "ticket-expired",
                "The ticket has expired",
                "A ticket is valid for five minutes.",
                "Use the ticket of the request you are handling. For longer work, use the service identity.",
            ),
            Self::SessionOver => (
                "ticket-over",
                "The session behind this ticket has ended",
                "The user has signed out, or the sign-in has ended.",
                "Wait for the user’s next request, which brings a new ticket.",
            ),
            Self::WrongDoor => (
                "bad-ticket",
                "Tickets are for the neighbour door",
                "The public door does not accept tickets.",
                "Call the neighbour door with it.",
            ),
        };
        FaultRow::new(StatusCode::UNAUTHORIZED, name, words(title, cause, remedy))
    }
}

impl TokenFault {
    pub(super) fn row(self) -> FaultRow {
        let (name, title, cause, remedy) = match self {
            Self::Bad => (
                "bad-token",
                "Invalid personal access token",
                "The token is mistyped, revoked, expired or unknown.",
                "Create a new one on the account page, `{prefix}/auth/`.",
            ),
            Self::OnlyApi => (
                "bad-token",
                "Personal access tokens open only the API",
                "A personal access token calls the API as its owner, at `{prefix}/graphql` and `{prefix}/api/…`. Here it opens \
                 neither the app nor the account page.",
                "Call the API with it. For the app, sign in with a browser.",
            ),
            Self::Scope => (
                "token-scope",
                "This token has no access here",
                "A personal access token opens the API, the app, or both, as its owner chose when creating it.",
                "Create one with access to this on the account page, `{prefix}/auth/`.",
            ),
            Self::GrantOver => (
                "token-over",
                "The sign-in behind this token has ended",
                "Upwork has ended the grant that this personal access token uses.",
                "Its owner signs in again in a browser. The same token then works again.",
            ),
            Self::WrongDoor => (
                "bad-token",
                "Personal access tokens are for the public door",
                "The neighbour door does not accept personal access tokens.",
                "Call the public door with it, or leave out `Authorization`.",
            ),
        };
        // RFC 6750 section 3.1: the token is valid, but not for this.
        let status = if self == Self::Scope { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
        FaultRow::new(status, name, words(title, cause, remedy))
    }
}

impl NoTokens {
    pub(super) fn row(self) -> FaultRow {
        let (name, title, cause, remedy) = match self {
            Self::Store => (
                "tokens-need-store",
                "This site cannot store tokens",
                "Its sessions live in cookies only, so it has nowhere to keep personal access tokens.",
                "The site’s administrator can set `store.kind` to \"embedded\" or \"valkey\".",
            ),
            Self::Refresh => (
                "tokens-need-refresh",
                "This sign-in cannot be renewed",
                "Upwork gave this session no refresh token, so a personal access token would stop working within a day.",
                "Sign in again. With `upwork.grant = \"implicit\"`, personal access tokens are not available.",
            ),
            Self::Limit => (
                "too-many-tokens",
                "You have too many tokens",
                "A user can have 50 personal access tokens.",
                "Revoke the ones you no longer use.",
            ),
        };
        FaultRow::new(StatusCode::CONFLICT, name, words(title, cause, remedy))
    }
}
