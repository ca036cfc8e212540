//! The place that a browser is sent to after a sign-in or a sign-out.
//!
//! Turns an untrusted `return_to` into a path on this host, as a browser's URL parser understands it, or nothing. Never
//! contains an address on another host, or one that would itself begin or end a sign-in.

use std::sync::LazyLock;

use url::{Position, Url};

/// A path on this host with its query and fragment; begins with one slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo {
    target: String,
    /// It had a query that was too long.
    cut: bool,
}

/// Stands for this host, against which an address is resolved.
static HERE: LazyLock<Option<Url>> = LazyLock::new(|| Url::parse("https://here.invalid/").ok());

/// In bytes. A longer address loses its query, and its path too if that is too long. Sealed, it fits into two cookies.
pub const MAX_LENGTH: usize = 4096;

impl ReturnTo {
    /// `/`.
    pub fn home() -> Self {
        Self { target: "/".to_owned(), cut: false }
    }

    /// Resolves `text` as a browser on this host would (WHATWG URL), and accepts it only if it stays on this host. Under our
    /// `prefix` only the account page can be returned to.
    pub fn parse(text: &str, prefix: &str) -> Option<Self> {
        // Browsers drop tabs and line ends, and read a backslash as a slash.
        let mut bytes = text.bytes();
        let plain = bytes.next() == Some(b'/')
            && !matches!(bytes.next(), Some(b'/' | b'\\'))
            && !text.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\');
        if !plain {
            return None;
        }
        let here = HERE.as_ref()?;
        let there = here.join(text).ok()?;
        // The same scheme, host and port, and no user name or password.
        let stays = there[..Position::BeforePath] == here[..Position::BeforePath];
        if !stays || there.path().starts_with("//") {
            return None;
        }
        // As the router reads it, including the spellings that it refuses.
        let ours = super::below(prefix, there.path()).is_some();
        if ours && there.path() != format!("{prefix}/auth/") {
            return None;
        }
        Self::bounded(&there)
    }

    fn bounded(there: &Url) -> Option<Self> {
        let whole = &there[Position::BeforePath..];
        let target = [whole, there.path()].into_iter().find(|text| text.len() <= MAX_LENGTH)?;
        Some(Self { target: target.to_owned(), cut: target != whole })
    }

    /// For a `Location`.
    pub fn as_str(&self) -> &str {
        &self.target
    }

    /// Whether it was shortened and so leads to a different page.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// As a value in a query (`return_to=…`).
    pub fn encoded(&self) -> String {
        url::form_urlencoded::byte_serialize(self.target.as_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_this_host_is_kept_with_its_query() {
        for text in
            ["/", "/a?b=c&d=%2F", "/a#part", "/a//b", "/a%2Fb", "/a?next=https://evil.example", "/upwork/auth/", "/@x"]
        {
            assert_eq!(ReturnTo::parse(text, "/upwork").unwrap().as_str(), text);
        }
    }

    #[test]
    fn another_host_is_never_returned_to() {
        let table = [
            "",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "javascript:alert(1)",
            "a",
            "?x",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/./\\evil.example",
            "/%2e//evil.example",
            "/\r\nLocation: x",
            "/upwork/auth/logout",
            "/upwork/auth/login?return_to=/",
            "/upwork/auth/callback",
            "/upwork",
            "/x/../upwork/auth/logout",
            "/upwork%2fauth%2flogout",
            "/upwork;/auth/logout",
        ];
        for text in table {
            assert_eq!(ReturnTo::parse(text, "/upwork"), None, "{text:?}");
        }
    }

    #[test]
    fn an_over_long_address_loses_its_query_first() {
        let long = format!("/a?{}", "x".repeat(MAX_LENGTH));
        let cut = ReturnTo::parse(&long, "/upwork").unwrap();
        assert!(cut.as_str() == "/a" && cut.is_cut());
        let longest = &long[..MAX_LENGTH];
        let whole = ReturnTo::parse(longest, "/upwork").unwrap();
        assert!(whole.as_str() == longest && !whole.is_cut());
        assert_eq!(ReturnTo::parse(&format!("/{}", "x".repeat(MAX_LENGTH)), "/upwork"), None);
    }
}
