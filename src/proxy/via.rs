//! `Via` (RFC 9110 section 7.6.3): names the forwarder of a message, and reveals a forwarding loop.
//!
//! The name in it is a pseudonym of this process: two upwardens in a row are not a loop.

use http::Version;
use http::header::{HeaderValue, VIA};

use crate::fields::Fields;

/// Our name in `Via`, and the whole field for a request that has none.
#[derive(Clone, Debug)]
pub struct Via {
    name: String,
    alone: [HeaderValue; 3],
}

impl Via {
    /// `random` distinguishes this process from others.
    pub fn new(random: u64) -> Self {
        let name = format!("upwarden-{random:016x}");
        let alone = ["1.0", "1.1", "2.0"].map(|version| {
            HeaderValue::from_str(&format!("{version} {name}")).unwrap_or(HeaderValue::from_static("1.1 upwarden"))
        });
        Self { name, alone }
    }

    /// Whether this process has forwarded the request before. A client that forges our name stops only its own request.
    pub fn passed(&self, headers: &Fields) -> bool {
        let named = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), self.name.as_bytes()).is_some();
        headers.get_all(VIA).any(named)
    }

    /// The received field plus our entry, with the version of the received message. A comment may contain bytes that
    /// are not text.
    pub fn field(&self, headers: &Fields, version: Version) -> HeaderValue {
        let [old, usual, two] = &self.alone;
        let ours = match version {
            Version::HTTP_10 => old,
            Version::HTTP_2 => two,
            _ => usual,
        };
        if !headers.contains_key(VIA) {
            return ours.clone();
        }
        let before = headers.get_all(VIA).map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> = before.chain([ours.as_bytes()]).collect();
        HeaderValue::from_bytes(&all.join(&b", "[..])).unwrap_or_else(|_| ours.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[&str]) -> Fields {
        lines.iter().map(|line| (VIA, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn via_names_the_received_version_and_keeps_bytes_that_are_not_text() {
        let via = Via::new(0xab);
        for (version, ours) in [(Version::HTTP_10, "1.0"), (Version::HTTP_11, "1.1"), (Version::HTTP_2, "2.0")] {
            let expected = format!("1.0 edge (\u{e9}), {ours} upwarden-00000000000000ab");
            assert_eq!(via.field(&map(&["1.0 edge (\u{e9})"]), version).as_bytes(), expected.as_bytes());
            assert_eq!(via.field(&map(&[]), version), format!("{ours} upwarden-00000000000000ab"));
        }
    }

    #[test]
    fn only_a_request_that_was_forwarded_here_has_passed() {
        let (one, other) = (Via::new(1), Via::new(2));
        let sent =
            map(&["2 edge", "1.1 upwarden", one.field(&map(&[]), Version::HTTP_11).to_str().unwrap(), "1.1 x (y)"]);
        assert!(one.passed(&sent) && !other.passed(&sent));
        assert!(!one.passed(&map(&[])));
    }
}
