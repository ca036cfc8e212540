//! The layout of the file: one table of text to bytes. Each value begins with its expiry (milliseconds, big-endian).
//!
//! ```text
//! s/ID               a session: sealed text
//! u/OWNER/ID         lists a user's session: nothing more
//! r/NAMESPACE/NAME   a record: version ‖ sealed text; / and % of the names are %-escaped
//! c/NAME             a counter: a big-endian u64
//! ```

use crate::clock::Timestamp;

pub(super) const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

pub(super) fn session_key(id: &str) -> String {
    format!("s/{id}")
}

pub(super) fn owner_prefix(owner: &str) -> String {
    format!("u/{owner}/")
}

pub(super) fn namespace_prefix(namespace: &str) -> String {
    format!("r/{}/", escape(namespace))
}

pub(super) fn record_key(namespace: &str, name: &str) -> String {
    namespace_prefix(namespace) + &escape(name)
}

fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

pub(super) fn unescape(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

pub(super) fn expiry(value: &[u8]) -> Option<Timestamp> {
    value.first_chunk().map(|millis| Timestamp::from_millis(i64::from_be_bytes(*millis)))
}

pub(super) fn unexpired(value: &[u8], now: Timestamp) -> Option<&[u8]> {
    expiry(value).filter(|end| now < *end).and_then(|_| value.get(8..))
}

pub(super) fn with_expiry(expires_at: Timestamp, value: &[u8]) -> Vec<u8> {
    [&expires_at.millis().to_be_bytes(), value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_namespace() {
        assert_eq!(namespace_prefix("a/b"), "r/a%2Fb/");
        for name in ["a/b", "%2F", "%", "100%25/", ""] {
            assert_eq!(unescape(&escape(name)), name);
        }
    }

    #[test]
    fn a_value_can_be_read_until_it_expires() {
        let value = with_expiry(Timestamp::from_seconds(5), b"x");
        assert_eq!(unexpired(&value, Timestamp::from_millis(4999)), Some(&b"x"[..]));
        assert_eq!(unexpired(&value, Timestamp::from_seconds(5)), None);
        assert_eq!(unexpired(b"short", Timestamp::from_seconds(0)), None);
    }
}
