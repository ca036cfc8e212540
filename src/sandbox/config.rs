//! How the sandbox behaves, and the API keys it knows.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::Rates;
use crate::secret::Secret;

/// How the sandbox behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The lifetime of an access token.
    pub token_lifetime: Duration,
    /// Hex digits after a token's `oauth2v2_`; Upwork's have 32.
    pub token_chars: usize,
    /// The lifetime of an authorization code.
    pub code_lifetime: Duration,
    /// Whether using a replaced refresh token ends all tokens of its grant (RFC 9700 section 4.14.2), instead of working
    /// for another 24 hours as Upwork's do.
    pub strict: bool,
    /// Whether `rates` are enforced on API calls.
    pub limits: bool,
    /// The API calls that one address may make.
    pub rates: Rates,
    /// The API keys. If there are none, any client id of 32 hex digits is accepted, with any secret and a redirect on
    /// loopback.
    pub clients: Vec<Client>,
    /// A folder of canned answers: `NAME.json` for the GraphQL operation of that name, and for REST a file at the path of
    /// the request.
    pub fixtures: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_lifetime: Duration::from_hours(24),
            token_chars: 32,
            code_lifetime: Duration::from_mins(10),
            strict: false,
            limits: false,
            rates: Rates::default(),
            clients: Vec::new(),
            fixtures: None,
        }
    }
}

impl Config {
    pub(super) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|known| known.id == id)
    }

    /// No clients are configured, and the id has the form of Upwork's: 32 hex digits.
    pub(super) fn takes_any_client(&self, id: &str) -> bool {
        self.clients.is_empty() && id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// An API key as it would be registered at Upwork.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: Secret,
    /// The callback, which must match exactly.
    pub redirect_uri: String,
}

impl Client {
    /// Reads `ID:SECRET:REDIRECT`, the form of the command line; `None` if a part is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (id, secret, redirect_uri) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = !id.is_empty() && !secret.is_empty() && url::Url::parse(redirect_uri).is_ok();
        whole.then(|| Self { id: id.to_owned(), secret: Secret::new(secret), redirect_uri: redirect_uri.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_read_with_the_colons_of_its_redirect() {
        let client = Client::parse("abc:s3cr3t:http://localhost:3000/callback").unwrap();
        assert_eq!((client.id.as_str(), client.redirect_uri.as_str()), ("abc", "http://localhost:3000/callback"));
        assert!(client.secret.matches(b"s3cr3t"));
        assert!(Client::parse("abc:s3cr3t").is_none());
        assert!(Client::parse("abc::http://localhost/").is_none());
        assert!(Client::parse("abc:s3cr3t:nowhere").is_none());
    }
}
