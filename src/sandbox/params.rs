//! The fields of a query or a posted form. They may hold secrets, so they have no `Debug`.

use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};

use crate::body::Body;

const MAX_BODY: usize = 64 * 1024;

pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The posted form, or the status to answer if there is none.
    pub(super) async fn posted(request: Request<Body>) -> Result<Self, StatusCode> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        match request.into_body().collect(MAX_BODY).await {
            Ok(form) => Ok(Self::parse(&form)),
            Err(_) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        }
    }

    /// The value; an empty one counts as missing (RFC 6749 section 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether one of these is repeated, which RFC 6749 section 3.1 forbids.
    pub(super) fn repeats(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.iter().filter(|(known, _)| known == name).count() > 1)
    }

    pub(super) fn missing<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        names.iter().filter(|name| self.get(name).is_none()).copied().collect()
    }
}
