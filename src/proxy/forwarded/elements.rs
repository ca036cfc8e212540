//! Splits the lists that describe a client, `X-Forwarded-For` and `Forwarded` (RFC 7239), into their elements.
//!
//! Elements are returned from right to left, in the order of trust, with `None` for one that cannot be read. Only the
//! right end comes from a known proxy, so nothing is split from the left: an open quote from a stranger must not
//! swallow what a proxy wrote after it. Empty elements do not count (RFC 9110 section 5.6.1).

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderName};

use crate::fields::Fields;

/// One element of `Forwarded`.
#[derive(Debug, Default)]
pub(super) struct Hop {
    pub(super) client: Option<IpAddr>,
    pub(super) proto: Option<Vec<u8>>,
    pub(super) host: Option<Vec<u8>>,
}

impl Hop {
    pub(super) fn read(element: &str) -> Self {
        let mut hop = Self::default();
        for (pair, _) in parts(element.as_bytes(), b';') {
            let Some((name, value)) = text(pair).and_then(|pair| pair.split_once('=')) else { continue };
            let value = unquoted(value.trim());
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.client = address(&value),
                "proto" => hop.proto = Some(value.into_bytes()),
                "host" => hop.host = Some(value.into_bytes()),
                _ => {}
            }
        }
        hop
    }
}

/// The elements of an `X-Forwarded-*` field.
fn list<'a>(headers: &'a Fields, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let elements = headers.get_all(name).rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The elements of `X-Forwarded-For`.
pub(super) fn addresses<'a>(headers: &'a Fields, name: &'a HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    list(headers, name).map(text)
}

/// The element of the field `name` for the hop at this position of the chain of addresses. If fewer proxies appended to
/// it than to the addresses, only the last element certainly comes from a proxy.
pub(super) fn of_hop<'a>(headers: &'a Fields, name: &'a HeaderName, place: usize) -> Option<&'a [u8]> {
    list(headers, name).nth(place).or_else(|| list(headers, name).next())
}

/// The elements of `Forwarded`.
pub(super) fn elements(headers: &Fields) -> impl Iterator<Item = Option<&str>> {
    let elements = headers.get_all(FORWARDED).rev().flat_map(|line| parts(line.as_bytes(), b','));
    elements.map(|(element, whole)| text(element).filter(|element| whole && is_closed(element)))
}

/// A quoted-string's text (RFC 9110 section 5.6.4), or a token.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let keep = |letter: &char| {
        escaped = *letter == '\\' && !escaped;
        !escaped
    };
    inner.chars().filter(keep).collect()
}

/// The non-empty parts between `separator`s outside of quoted strings, from right to left; false for a part that has
/// the end of a quoted string but not its beginning.
fn parts(bytes: &[u8], separator: u8) -> Vec<(&[u8], bool)> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), bytes.len(), false);
    let part = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default().trim_ascii();
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            // A quote after an odd number of backslashes is escaped.
            let slashes = bytes.get(..at).unwrap_or_default().iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted ^= !quoted || slashes % 2 == 0;
        } else if *byte == separator && !quoted {
            parts.push((part(at + 1, end), true));
            end = at;
        }
    }
    parts.push((part(0, end), !quoted));
    parts.retain(|(part, _)| !part.is_empty());
    parts
}

/// Whether every quoted string also ends when read from the left.
fn is_closed(element: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in element.bytes() {
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
    }
    !quoted
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let parsed = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    parsed
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
}
