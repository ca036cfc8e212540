//! The bytes that are allowed in each place: one table, with a bit for each class.

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const NAME: u8 = 8;
const HIGH: u8 = 16;

#[expect(clippy::cast_possible_truncation, reason = "the index of a table of 256 is a byte")]
#[expect(clippy::indexing_slicing, reason = "worked out at compile time, where a wrong index does not build")]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let byte = index as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        // RFC 9110 section 5.6.2, tchar.
        let token =
            alphanumeric || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        // RFC 3986 section 3.3 with what the `http` crate also accepts, and no more: what passes here passes there.
        let path = alphanumeric
            || matches!(byte, b'!'..=b'"' | b'$'..=b'/' | b':'..=b';' | b'=' | b'@' | b'['..=b'_' | b'{'..=b'~');
        let query = alphanumeric
            || matches!(byte, b'!' | b'$'..=b'/' | b':'..=b';' | b'=' | b'?'..=b'@' | b'['..=b'`' | b'{'..=b'~');
        // RFC 3986 section 3.2.2, unreserved only: no real host needs a sub-delimiter or an escape.
        let name = alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~');
        table[index] = pick(token, TOKEN)
            | pick(path, PATH)
            | pick(query, QUERY)
            | pick(name, NAME)
            | pick(!byte.is_ascii(), HIGH);
        index += 1;
    }
    table
}

const fn pick(holds: bool, class: u8) -> u8 {
    if holds { class } else { 0 }
}

static CLASSES: [u8; 256] = classes();

fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is(*byte, TOKEN))
}

pub(super) fn begins_method(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// The first byte that is not allowed in a field value (RFC 9110 section 5.5: HTAB, SP, VCHAR and obs-text are).
pub(super) fn bad_value_byte(bytes: &[u8]) -> Option<u8> {
    let bad = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    // A loop without an early exit checks sixteen bytes at a time, and almost never finds one.
    if bytes.iter().fold(false, |found, byte| found | bad(*byte)) {
        bytes.iter().copied().find(|byte| bad(*byte))
    } else {
        None
    }
}

/// A path and its query by RFC 3986, or well-formed UTF-8; it begins with `/` or `?`, or is empty.
pub(super) fn is_path_and_query(bytes: &[u8]) -> bool {
    let (path, query) = match memchr::memchr(b'?', bytes) {
        Some(mark) => bytes.split_at_checked(mark).unwrap_or((bytes, &[])),
        None => (bytes, &[][..]),
    };
    let mut high = false;
    let mut all = |part: &[u8], class: u8| {
        part.iter().all(|byte| {
            high |= is(*byte, HIGH);
            is(*byte, class | HIGH)
        })
    };
    all(path, PATH) && all(query, QUERY) && (!high || std::str::from_utf8(bytes).is_ok())
}

/// `host` or `host:port` as in `Host` or `:authority` (RFC 9112 section 3.2, RFC 3986 section 3.2.2): a name of unreserved
/// characters, an IPv4 address or an IPv6 address in brackets, and a valid port. An empty name, an empty port, user
/// information, escapes and zone ids are refused.
pub(crate) fn is_host(bytes: &[u8]) -> bool {
    let (name, port) = if let Some(rest) = bytes.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', rest) else { return false };
        let (address, rest) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        let known = std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        (known, rest.get(1..).unwrap_or_default())
    } else {
        let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        let (name, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        (matches!(name.len(), 1..=255) && name.iter().all(|byte| is(*byte, NAME)), rest)
    };
    name && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

fn is_port(digits: &[u8]) -> bool {
    matches!(digits.len(), 1..=5)
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
}

/// Without the spaces and tabs around it (RFC 9110 section 5.6.3, OWS).
pub(super) fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = bytes.split_first() {
        bytes = rest;
    }
    while let Some((b' ' | b'\t', rest)) = bytes.split_last() {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_valid_port() {
        for good in ["a", "example.com", "a_b.c", "127.0.0.1:80", "[::1]", "[::1]:65535", "x:0"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:123456",
            "a:+1",
            "a b",
            "a,b",
            "u@a",
            "[::1",
            "::1",
            "[::1]x",
            "[g]",
            "a/b",
            "a%41",
            "[fe80::1%25eth0]",
            "a:1:2",
            "é",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_target_that_passes_is_read_in_full_by_the_http_crate() {
        for byte in 0..=255_u8 {
            for target in [vec![b'/', byte], vec![b'/', b'?', byte]] {
                if is_path_and_query(&target) {
                    let read = http::uri::PathAndQuery::try_from(target.as_slice());
                    assert_eq!(read.unwrap().as_str().as_bytes(), target, "{byte:#x}");
                }
            }
        }
        assert!(is_path_and_query("/ü?ü".as_bytes()));
        assert!(!is_path_and_query(b"/\xff"));
        assert!(!is_path_and_query(b"/a#b"));
    }
}
