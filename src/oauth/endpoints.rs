//! Upwork's token, revocation and GraphQL endpoints, for our own requests.
//!
//! Sends a form or a query; reads a bounded part of the response.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use url::Url;

use super::config::Config;
use super::response::{Response, Unavailable, quote};
use crate::body::CollectError;
use crate::clock::SharedClock;
use crate::descriptors::Descriptors;
use crate::pacing::{Permit, retry_after};
use crate::proxy::client::Timeouts;
use crate::proxy::endpoint::{Endpoint, SetupError};
use crate::session::tokens::AccessToken;
use crate::telemetry::causes;
use crate::telemetry::metrics::UpstreamMetrics;

/// How long a call may take, without its wait under Upwork's limits.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(5), first_byte: TIMEOUT, idle: TIMEOUT };
const MAX_BODY: usize = 256 << 10;
/// The byte order mark in UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Token,
    Revoke,
    Graphql,
}

impl To {
    /// The name of its span.
    pub(super) const fn span(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Revoke => "revoke",
            Self::Graphql => "who am I",
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Token | Self::Revoke => "application/x-www-form-urlencoded",
            Self::Graphql => "application/json",
        }
    }
}

pub(super) struct Post {
    pub(super) to: To,
    pub(super) body: String,
    pub(super) bearer: Option<AccessToken>,
}

#[derive(Debug)]
pub(super) struct Endpoints {
    token: Endpoint,
    revoke: Endpoint,
    graphql: Endpoint,
    user_agent: HeaderValue,
}

impl Endpoints {
    pub(super) fn new(
        config: &Config,
        descriptors: &Arc<Descriptors>,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Result<Self, SetupError> {
        let outbound = &config.outbound;
        let endpoint = |url: &Url| outbound.endpoint(url, TIMEOUTS, descriptors, metrics);
        let user_agent = outbound.user_agent.parse().map_err(|_| SetupError::Unusable("upwork.user_agent"))?;
        let (token, revoke) = (endpoint(&config.token_url)?, endpoint(&config.revoke_url)?);
        Ok(Self { token, revoke, graphql: endpoint(&config.graphql_url)?, user_agent })
    }

    pub(super) async fn post(&self, post: Post, permit: Permit, clock: &SharedClock) -> Result<Response, Unavailable> {
        let Post { to, body, bearer } = post;
        let endpoint = match to {
            To::Token => &self.token,
            To::Revoke => &self.revoke,
            To::Graphql => &self.graphql,
        };
        let mut fields = vec![
            (CONTENT_TYPE, HeaderValue::from_static(to.content_type())),
            // Without the field, any coding would be allowed (RFC 9110 section 12.5.3).
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (USER_AGENT, self.user_agent.clone()),
            (ACCEPT, HeaderValue::from_static("*/*")),
        ];
        // A token is visible ASCII.
        let bearer = bearer.and_then(|token| HeaderValue::try_from(["Bearer ", token.expose()].concat()).ok());
        fields.extend(bearer.map(|bearer| (AUTHORIZATION, bearer)));
        let response = match endpoint.send(&Method::POST, &fields, body).await {
            Ok(response) => response,
            Err(error) => {
                if error.is_connect() {
                    permit.cancel();
                }
                return Err(Unavailable::no_response(causes(&error)));
            }
        };
        let (status, after) = (response.status, response.headers.get(RETRY_AFTER));
        permit.answered(status, after);
        let retry_after = after.and_then(|after| retry_after(after, clock.now()));
        let coding = response.headers.get(CONTENT_ENCODING).map(|coding| String::from_utf8_lossy(coding.as_bytes()));
        if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let (status, coding) = (status.as_u16(), quote(&coding, &[]));
            return Err(Unavailable::invalid(format!(
                "status {status} with the content coding {coding}, which we did not accept"
            )));
        }
        let body = response.body.collect(MAX_BODY).await.map_err(|error| {
            Unavailable::no_response(match error {
                CollectError::TooLong => format!("status {} with a body that is too long", status.as_u16()),
                CollectError::Cut(_) => causes(&error),
            })
        })?;
        // RFC 8259 section 8.1: a byte order mark may be ignored.
        let body = body.strip_prefix(BOM).unwrap_or(&body).to_vec();
        Ok(Response { status, retry_after, body })
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn sweep(&self) {
        for endpoint in [&self.token, &self.revoke, &self.graphql] {
            endpoint.client.sweep();
        }
    }
}
