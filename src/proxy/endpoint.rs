//! One URL of another server: Upwork's API and OAuth endpoints, a collector of spans.
//!
//! It follows no redirect.

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::client::Client;
use super::connect::Upstream;
use super::error::Error;
use crate::body::Body;
use crate::http1::Outgoing;
use crate::response::Response;
use crate::tls;

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) client: Client,
    /// What `Host` says.
    pub(crate) host: HeaderValue,
    target: PathAndQuery,
}

/// Why a URL cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("{0} cannot be used")]
    Unusable(&'static str),
}

impl Endpoint {
    /// `client` makes the client for the URL's server.
    pub(crate) fn new(
        url: &Url,
        client: impl FnOnce(&Upstream) -> Result<Client, tls::Error>,
    ) -> Result<Self, SetupError> {
        let upstream = Upstream::of(url).ok_or(SetupError::Unusable("a URL without a host or port"))?;
        let host = upstream.authority().try_into().map_err(|_| SetupError::Unusable("a host name"))?;
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let target = target.try_into().map_err(|_| SetupError::Unusable("the path of a URL"))?;
        Ok(Self { client: client(&upstream)?, host, target })
    }

    /// The same URL with its own connections, for another worker.
    #[must_use]
    pub(crate) fn sibling(&self) -> Self {
        Self { client: self.client.sibling(), ..self.clone() }
    }

    /// Sends a request with these fields and `Host`.
    pub(crate) async fn send(
        &self,
        method: &Method,
        fields: &[(HeaderName, HeaderValue)],
        body: impl Into<Bytes>,
    ) -> Result<Response, Error> {
        let lines = std::iter::once((&HOST, &self.host)).chain(fields.iter().map(|(name, value)| (name, value)));
        self.client.send(Outgoing::new(method, Some(&self.target), lines, Body::full(body))).await
    }
}
