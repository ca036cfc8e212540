//! Sign-in, callback, token endpoint, refresh: OAuth 2 as Upwork speaks it (RFC 6749, RFC 7636).
//!
//! In: a browser's wish to sign in, a callback, a token that ends. Out: addresses to go to, sessions' tokens, typed errors.
//! It writes no cookie and answers no request: the gateway does.

pub(crate) mod callback;
mod failures;
pub(crate) mod login;
pub(crate) mod refresh;
pub(crate) mod service;
pub(crate) mod token;
mod unwritten;
pub(crate) mod upwork;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::secret::Secret;

pub use crate::session::Grant;

/// Our client at Upwork, and where Upwork is: docs/configuration.md "upwork".
#[derive(Clone, Debug)]
pub struct Config {
    /// The key's id.
    pub client_id: String,
    /// The key's secret; goes to the token endpoint only.
    pub client_secret: Secret,
    /// Code or implicit.
    pub grant: Grant,
    /// Where browsers are sent.
    pub authorize_url: Url,
    /// The token endpoint.
    pub token_url: Url,
    /// The revocation endpoint (RFC 7009).
    pub revoke_url: Url,
    /// Where who-am-I is asked.
    pub graphql_url: Url,
    /// `iss` of the callback is compared with it (RFC 9207); `None` compares nothing.
    pub issuer: Option<String>,
    /// `{public_url}{prefix}/auth/callback`, exactly as registered.
    pub redirect_uri: String,
    /// With the implicit grant: identity may rest on a token that somebody else's application may have been given.
    pub implicit_identity: bool,
    /// How Upwork is reached.
    pub outbound: Outbound,
}

/// How Upwork's hosts are reached, by the token endpoint's client and by the broker alike.
#[derive(Clone, Default)]
pub struct Outbound {
    /// An HTTP proxy: `upwork.proxy`, else `HTTPS_PROXY`.
    pub proxy: Option<Url>,
    /// A CA trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// `User-Agent` where the caller sends none.
    pub user_agent: String,
}

impl std::fmt::Debug for Outbound {
    /// Without the proxy's password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proxy = self.proxy.as_ref().and_then(Url::host_str);
        f.debug_struct("Outbound").field("proxy", &proxy).field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

/// The service identity: docs/configuration.md "service".
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// How it gets its tokens.
    pub grant: ServiceGrant,
    /// Its own key's id, by default upwork's.
    pub client_id: String,
    /// Its own key's secret.
    pub client_secret: Secret,
    /// Where `upwarden login` is called back, exactly as registered; only that command needs it.
    pub redirect_uri: Option<String>,
}

/// How the service identity gets its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceGrant {
    /// RFC 6749 section 4.4; enterprise keys.
    ClientCredentials,
    /// A refresh token that we keep alive.
    RefreshToken {
        /// Imported once, when the store has none.
        file: Option<PathBuf>,
    },
}

/// What came where no usable answer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing, or not in time.
    Silence,
    /// Upwork's word that it cannot just now.
    Busy,
    /// Something that is no answer.
    Nonsense,
}

impl Unusable {
    /// What an error's status says (RFC 9110 section 15.6.4, RFC 6585 section 4).
    pub(crate) fn of(status: http::StatusCode) -> Self {
        let busy = [http::StatusCode::SERVICE_UNAVAILABLE, http::StatusCode::TOO_MANY_REQUESTS].contains(&status);
        if busy { Self::Busy } else { Self::Nonsense }
    }
}

/// A token endpoint's or who-am-I's answer is waited for this long.
pub(crate) const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);
