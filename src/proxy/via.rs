//! `Via` (RFC 9110 section 7.6.3): the field that tells who passed a message on, and by which a message that comes round
//! again is known.
//!
//! In: a request's fields and version. Out: the field for the app, or that the request went to the app from here before.
//! The name in it is this gate's own pseudonym: two upwardens behind one another are no loop.

use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// Our name in `Via`, with the field as it is where nobody was before us.
#[derive(Debug)]
pub struct Via {
    name: String,
    alone: [HeaderValue; 3],
}

impl Via {
    /// By a number that no other gate has.
    pub fn new(random: u64) -> Self {
        let name = format!("upwarden-{random:016x}");
        let alone = ["1.0", "1.1", "2.0"].map(|version| {
            HeaderValue::from_str(&format!("{version} {name}")).unwrap_or(HeaderValue::from_static("1.1 upwarden"))
        });
        Self { name, alone }
    }

    /// The request passed here before. Whoever writes our name without that stops their own request only.
    pub fn passed(&self, headers: &HeaderMap) -> bool {
        let named = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), self.name.as_bytes()).is_some();
        headers.get_all(VIA).iter().any(named)
    }

    /// What was there, and us, with the version the message was received with. A comment may hold bytes that are no text.
    pub fn field(&self, headers: &HeaderMap, version: Version) -> HeaderValue {
        let [old, usual, two] = &self.alone;
        let ours = match version {
            Version::HTTP_10 => old,
            Version::HTTP_2 => two,
            _ => usual,
        };
        if !headers.contains_key(VIA) {
            return ours.clone();
        }
        let before = headers.get_all(VIA).iter().map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> = before.chain([ours.as_bytes()]).collect();
        HeaderValue::from_bytes(&all.join(&b", "[..])).unwrap_or_else(|_| ours.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (VIA, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn via_names_the_received_version_and_keeps_what_is_no_text() {
        let via = Via::new(0xab);
        for (version, ours) in [(Version::HTTP_10, "1.0"), (Version::HTTP_11, "1.1"), (Version::HTTP_2, "2.0")] {
            let expected = format!("1.0 edge (\u{e9}), {ours} upwarden-00000000000000ab");
            assert_eq!(via.field(&map(&["1.0 edge (\u{e9})"]), version).as_bytes(), expected.as_bytes());
            assert_eq!(via.field(&map(&[]), version), format!("{ours} upwarden-00000000000000ab"));
        }
    }

    #[test]
    fn only_what_passed_this_gate_has_passed() {
        let (one, other) = (Via::new(1), Via::new(2));
        let sent =
            map(&["2 edge", "1.1 upwarden", one.field(&map(&[]), Version::HTTP_11).to_str().unwrap(), "1.1 x (y)"]);
        assert!(one.passed(&sent) && !other.passed(&sent));
        assert!(!one.passed(&map(&[])));
    }
}
