//! `public_url`, the only address that browsers should use, and the redirect from other hosts to it.

/// Appended to a redirect to `public_url`'s host, so that a second one in a row is noticed.
const MARKER: &str = "upwarden_host=1";

/// `public_url`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicUrl {
    /// `https://tools.example.com`: no path, no final slash.
    pub(crate) text: String,
    scheme_end: usize,
}

impl PublicUrl {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), scheme_end: text.find("://").unwrap_or(0) }
    }

    pub(crate) fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// Whether `host` is ours, in any case, with or without the scheme's default port.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        let default = if self.is_https() { ":443" } else { ":80" };
        let ours = self.text.get(self.scheme_end + 3..).unwrap_or_default();
        let [host, ours] = [host, ours].map(|host| host.strip_suffix(default).unwrap_or(host));
        host.eq_ignore_ascii_case(ours)
    }

    /// `target` on our host, as an absolute URL: `//evil.example` or `/\evil.example` alone would lead to another host.
    pub(crate) fn at(&self, target: &str) -> String {
        let slash = if target.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{target}", self.text)
    }

    /// Removes our scheme and host, which fronts add, from an address.
    pub(crate) fn relative<'a>(&self, address: &'a str) -> &'a str {
        address.strip_prefix(&self.text).unwrap_or(address)
    }

    /// [`PublicUrl::at`] with the marker.
    pub(crate) fn marked(&self, target: &str) -> String {
        let join = if target.contains('?') { '&' } else { '?' };
        format!("{}{join}{MARKER}", self.at(target))
    }
}

/// Removes the marker that a redirect to `public_url` leaves at the end of a target.
pub(crate) fn without_marker(target: &str) -> &str {
    target.strip_suffix(MARKER).and_then(|rest| rest.strip_suffix(['?', '&'])).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_taken_off_the_end_only() {
        assert_eq!(without_marker("/x?upwarden_host=1"), "/x");
        assert_eq!(without_marker("/x?a=b&upwarden_host=1"), "/x?a=b");
        assert_eq!(without_marker("/x?upwarden_host=1&a=b"), "/x?upwarden_host=1&a=b");
        assert_eq!(without_marker("/xupwarden_host=1"), "/xupwarden_host=1");
    }

    #[test]
    fn a_target_stays_on_our_host_however_it_begins() {
        let ours = PublicUrl::new("https://tools.example.com");
        for target in ["/", "//evil.example/", "/\\evil.example", "?x", "*", "@evil.example/", ".evil.example/", ""] {
            let there = url::Url::parse(&ours.at(target)).unwrap();
            assert_eq!(there.origin().ascii_serialization(), "https://tools.example.com", "{target}");
        }
    }

    #[test]
    fn only_our_own_scheme_and_host_are_taken_off() {
        let ours = PublicUrl::new("https://tools.example.com");
        assert_eq!(ours.relative("https://tools.example.com/x?a=b"), "/x?a=b");
        assert_eq!(ours.relative("/x"), "/x");
        for other in [
            "https://tools.example.com.evil/x",
            "https://tools.example.com@evil/",
            "https://tools.example.com//evil",
            "https://evil/",
        ] {
            assert_eq!(super::super::ReturnTo::parse(ours.relative(other), "/upwork"), None, "{other}");
        }
    }

    #[test]
    fn hosts_are_compared_with_their_schemes_port() {
        let ours = PublicUrl::new("https://tools.example.com");
        assert!(ours.has_host("Tools.example.com") && ours.has_host("tools.example.com:443"));
        assert!(!ours.has_host("tools.example.com:80"));
        assert!(!PublicUrl::new("http://127.0.0.1:4180").has_host("localhost:4180"));
    }
}
