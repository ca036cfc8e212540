//! Addresses on other hosts that a sign-out may lead to (`pages.sign_out_to`).
//!
//! Turns an untrusted `return_to` into an address at or below a listed one, as a URL parser writes it, or nothing.

use url::Url;

use super::return_to::MAX_LENGTH;
use super::{covers, is_ambiguous};

/// Each an origin and a path.
#[derive(Clone, Debug, Default)]
pub struct SignOutTo(Vec<Url>);

impl SignOutTo {
    pub fn new(listed: Vec<Url>) -> Self {
        Self(listed)
    }

    /// The origin must be that of a listed address, and the path its path or one below it, by whole segments. Query and
    /// fragment are free.
    pub fn resolve(&self, text: &str) -> Option<String> {
        // Browsers drop tabs and line ends, and read a backslash as a slash.
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') && text.len() <= MAX_LENGTH;
        let absolute = text.starts_with("https://") || text.starts_with("http://");
        let there = Url::parse(text).ok().filter(|_| plain && absolute)?;
        let nobody = there.username().is_empty() && there.password().is_none();
        let listed = |place: &Url| place.origin() == there.origin() && covers(place.path(), there.path());
        (nobody && !is_ambiguous(there.path()) && self.0.iter().any(listed)).then(|| there.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> SignOutTo {
        SignOutTo::new(
            ["https://www.example.com/bye", "https://intranet.example.com/", "http://localhost:8080/"]
                .map(|text| Url::parse(text).unwrap())
                .to_vec(),
        )
    }

    #[test]
    fn listed_addresses_and_those_below_them_are_allowed() {
        for text in [
            "https://www.example.com/bye",
            "https://www.example.com/bye?from=tools#top",
            "https://www.example.com/bye/now",
            "https://intranet.example.com/",
            "https://intranet.example.com/a/b?next=https://evil.example",
            "http://localhost:8080/x",
        ] {
            assert_eq!(listed().resolve(text).as_deref(), Some(text));
        }
        let same = "https://www.example.com/bye";
        for text in
            ["https://WWW.Example.com/bye", "https://www.example.com:443/bye", "https://www.example.com/a/../bye"]
        {
            assert_eq!(listed().resolve(text).as_deref(), Some(same), "{text}");
        }
        assert_eq!(listed().resolve("https://intranet.example.com").unwrap(), "https://intranet.example.com/");
    }

    #[test]
    fn look_alikes_are_not_allowed() {
        for text in [
            "",
            "/bye",
            "//www.example.com/bye",
            "https:www.example.com/bye",
            "https:/www.example.com/bye",
            "https:\\\\www.example.com/bye",
            "HTTPS://www.example.com/bye",
            "http://www.example.com/bye",
            "https://www.example.com/",
            "https://www.example.com/byebye",
            "https://www.example.com/bye/../x",
            "https://www.example.com/bye/%2e%2e/x",
            "https://www.example.com/bye%2f..%2fx",
            "https://www.example.com/bye/..%2fx",
            "https://www.example.com/bye/..;/x",
            "https://www.example.com/bye/%252e%252e/x",
            "https://www.example.com/bye\\..\\x",
            "https://www.example.com/bye//x",
            "https://www.example.com/%62ye",
            "https://www.example.com/Bye",
            "https://www.example.com:444/bye",
            "https://www.example.com./bye",
            "https://www.example.com.evil.example/bye",
            "https://www.example.com@evil.example/bye",
            "https://evil.example/https://www.example.com/bye",
            "https://evil.example?https://www.example.com/bye",
            "https://evil.example#https://www.example.com/bye",
            "https://evil.example\\@www.example.com/bye",
            "https://me@www.example.com/bye",
            "https://me:pw@www.example.com/bye",
            "https://www\u{ff0e}example.com/bye",
            "https://www.ex\u{430}mple.com/bye",
            "https://www.example.com/bye\r\nSet-Cookie: x=y",
            "https://www.exam\tple.com/bye",
            " https://www.example.com/bye",
            "javascript:alert(1)//https://www.example.com/bye",
            "data:text/html,https://www.example.com/bye",
            "https://localhost:8080/",
        ] {
            assert_eq!(listed().resolve(text), None, "{text:?}");
        }
        let long = format!("https://www.example.com/bye?{}", "x".repeat(MAX_LENGTH));
        assert_eq!(listed().resolve(&long), None);
        assert_eq!(SignOutTo::default().resolve("https://www.example.com/bye"), None);
    }
}
