//! What the gateway needs of the configuration.

use std::sync::Arc;

use http::HeaderName;

use super::upstreams::AddedHeader;
use crate::pages::Branding;
use crate::proxy::forwarded::Trust;
use crate::router::SignOutTo;
use crate::secret::LiveSecret;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) public: PublicConfig,
    pub(crate) neighbour: NeighbourConfig,
    /// Requests to the app carry a ticket.
    pub(crate) tickets: bool,
    /// Additional headers about the user.
    pub(crate) app_headers: Vec<AddedHeader>,
    /// The audience of the assertions that the app gets; `None` where it gets none.
    pub(crate) assertion: Option<String>,
}

/// The public listener.
#[derive(Clone, Debug)]
pub(crate) struct PublicConfig {
    /// `https://tools.example.com`: scheme, host and, where it is not the scheme's own, port; no path, no final slash.
    pub(crate) url: String,
    /// The proxies whose `X-Forwarded-*` and `Forwarded` are trusted.
    pub(crate) trust: Trust,
    /// More headers of that family that a trusted proxy may send to the app.
    pub(crate) trusted_headers: Vec<HeaderName>,
    pub(crate) app: AppConfig,
    /// GraphQL queries and REST by GET only.
    pub(crate) read_only: bool,
    pub(crate) limits: ClientLimits,
    pub(crate) pages: PagesConfig,
}

/// What opens the app besides a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppConfig {
    /// CORS preflights go to the app without a session (`app.preflight = "pass"`).
    pub(crate) preflight_pass: bool,
    /// Personal access tokens may open the app.
    pub(crate) tokens: bool,
}

/// What one client address may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// Sign-ins that it may begin in a burst.
    pub(crate) sign_ins: u32,
    /// Requests in flight behind a trusted proxy; `None` for any number.
    pub(crate) requests: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct PagesConfig {
    pub(crate) branding: Arc<Branding>,
    /// Other sites that a sign-out may lead to.
    pub(crate) sign_out_to: SignOutTo,
}

/// The neighbour listener.
#[derive(Clone, Debug)]
pub(crate) struct NeighbourConfig {
    /// GraphQL queries and REST by GET only.
    pub(crate) read_only: bool,
    /// Host names it answers to, in lower case and without a port; any port matches.
    pub(crate) hosts: Vec<String>,
    /// The secret that callers send, required if it listens beyond loopback.
    pub(crate) secret: Option<LiveSecret>,
    /// Where it listens, for the account page; `None` where it is off.
    pub(crate) address: Option<String>,
}
