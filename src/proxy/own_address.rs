//! Redirects of an app that knows itself only by its own address (`app.host = "app"`).
//!
//! Rewrites `Location` and `Content-Location` with exactly this scheme, host and port to the public address. The rest
//! after the authority stays unchanged, and so do relative and foreign addresses.

use http::header::{CONTENT_LOCATION, HeaderValue, LOCATION};
use url::{Origin, Url};

use super::connect::Upstream;
use crate::fields::Fields;

#[derive(Clone, Debug)]
pub(crate) struct OwnAddress {
    scheme: &'static str,
    origin: Origin,
    /// `https://tools.example.com`
    public: String,
}

impl OwnAddress {
    /// `None` for a Unix socket, which has no address that a redirect could name.
    pub(crate) fn new(upstream: &Upstream, public: &str) -> Option<Self> {
        let scheme = match upstream {
            Upstream::Tcp { tls: true, .. } => "https",
            Upstream::Tcp { tls: false, .. } => "http",
            Upstream::Unix(_) => return None,
        };
        let origin = Url::parse(&upstream.to_string()).ok()?.origin();
        Some(Self { scheme, origin, public: public.to_owned() })
    }

    pub(crate) fn rewrite(&self, headers: &mut Fields) {
        for name in [LOCATION, CONTENT_LOCATION] {
            for value in headers.get_all_mut(&name) {
                if let Some(public) = self.public(value) {
                    *value = public;
                }
            }
        }
    }

    fn public(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        let (scheme, rest) = text.split_once("//")?;
        // Without a scheme, the app means that of the request that it got (RFC 3986 section 4.2).
        let scheme = if scheme.is_empty() { self.scheme } else { scheme.strip_suffix(':')? };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        // An address with a name and password is not ours.
        if authority.contains('@') {
            return None;
        }
        let named = Url::parse(&format!("{scheme}://{authority}/")).ok()?;
        let ours = named.origin() == self.origin;
        ours.then(|| HeaderValue::from_bytes(format!("{}{rest}", self.public).as_bytes()).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(upstream: &str, location: &str) -> Option<String> {
        let upstream = Upstream::of(&Url::parse(upstream).unwrap()).unwrap();
        let own = OwnAddress::new(&upstream, "https://tools.example.com").unwrap();
        let public = own.public(&HeaderValue::from_bytes(location.as_bytes()).unwrap())?;
        Some(String::from_utf8(public.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn every_spelling_of_the_own_address_becomes_the_public_one() {
        for (upstream, location, public) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000/a?b#c", "/a?b#c"),
            ("http://127.0.0.1:3000", "http://127.1:3000/a", "/a"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000", ""),
            ("http://127.0.0.1:3000", "//127.0.0.1:3000/a", "/a"),
            ("http://app.internal", "HTTP://App.Internal:80/%7Ea//é", "/%7Ea//é"),
            ("https://app.internal", "https://app.internal:443?q=http://app.internal/", "?q=http://app.internal/"),
            ("http://[::1]:3000", "http://[0:0::1]:3000/", "/"),
        ] {
            let wanted = format!("https://tools.example.com{public}");
            assert_eq!(rewritten(upstream, location), Some(wanted), "{location}");
        }
    }

    #[test]
    fn relative_and_foreign_addresses_stay() {
        for location in [
            "",
            "/",
            "a/b",
            "?x",
            "/login?next=http://127.0.0.1:3000/",
            "http://127.0.0.1/",
            "http://127.0.0.1:30000/",
            "https://127.0.0.1:3000/",
            "http://localhost:3000/",
            "http://127.0.0.1:3000@evil.example/",
            "http://me@127.0.0.1:3000/",
            "http://127.0.0.1:3000.evil.example/",
            "//evil.example/",
            "http:/127.0.0.1:3000/",
            "ws://127.0.0.1:3000/",
        ] {
            assert_eq!(rewritten("http://127.0.0.1:3000", location), None, "{location}");
        }
    }
}
