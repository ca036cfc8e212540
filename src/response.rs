//! A response to a client of a door, or from an upstream. The plain servers use `http::Response`.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::body::Body;
use crate::fields::Fields;

#[derive(Debug, Default)]
pub struct Response {
    pub status: StatusCode,
    pub headers: Fields,
    pub body: Body,
}

impl Response {
    /// Sets one field, replacing an earlier value.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    #[must_use]
    pub(crate) fn map(self, body: impl FnOnce(Body) -> Body) -> Self {
        Self { body: body(self.body), ..self }
    }
}

impl From<http::Response<Body>> for Response {
    fn from(response: http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers.into(), body }
    }
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> Self {
        let mut other = Self::new(response.body);
        *other.status_mut() = response.status;
        *other.headers_mut() = HeaderMap::from(response.headers);
        other
    }
}
