//! The settings of our clients at Upwork, and of the connection to it.

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::descriptors::Descriptors;
use crate::proxy::Client;
use crate::proxy::client::Timeouts;
use crate::proxy::connect::Connector;
use crate::proxy::endpoint::{Endpoint, SetupError};
use crate::secret::LiveSecret;
use crate::session::Grant;
use crate::telemetry::metrics::UpstreamMetrics;

/// Our client at Upwork, and Upwork's endpoints: docs/configuration.md "upwork".
#[derive(Clone, Debug)]
pub struct Config {
    pub client_id: String,
    /// Sent to the token and revocation endpoints only.
    pub client_secret: LiveSecret,
    pub grant: Grant,
    pub authorize_url: Url,
    pub token_url: Url,
    /// RFC 7009.
    pub revoke_url: Url,
    /// Says who signed in.
    pub graphql_url: Url,
    /// Compared with the callback's `iss` (RFC 9207); `None` compares nothing.
    pub issuer: Option<String>,
    /// `{public_url}{prefix}/auth/callback`, exactly as registered.
    pub redirect_uri: String,
    /// With the implicit grant: accept that a token may have been issued to another application.
    pub implicit_identity: bool,
    pub outbound: Outbound,
}

/// The connection to Upwork's hosts, for both the token endpoint's client and the broker.
#[derive(Clone, Default)]
pub struct Outbound {
    /// An HTTP proxy: `upwork.proxy`, or else `HTTPS_PROXY`.
    pub proxy: Option<Url>,
    /// A CA that is trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// `User-Agent` if the caller sends none.
    pub user_agent: String,
}

impl Outbound {
    /// One of Upwork's URLs, whose connections have places of their own among the descriptors.
    pub(crate) fn endpoint(
        &self,
        url: &Url,
        timeouts: Timeouts,
        descriptors: &Arc<Descriptors>,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Result<Endpoint, SetupError> {
        Endpoint::new(url, |upstream| {
            let connector = Connector::new(upstream, self.ca_file.as_deref(), self.proxy.clone())?;
            Ok(Client::new(connector, timeouts, descriptors.clone(), metrics.clone()).of_api())
        })
    }
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
    pub grant: ServiceGrant,
    /// By default `upwork.client_id`.
    pub client_id: String,
    pub client_secret: LiveSecret,
    /// Where Upwork sends the browser after `upwarden login`, exactly as registered; only that command needs it.
    pub redirect_uri: Option<String>,
}

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
