//! The lists that tell of a client, taken apart: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! In: fields. Out: their elements from the right to the left, as they are believed, `None` for one that cannot be read.
//! Only the right end is written by whom we know, so nothing is taken apart from the left: an open quote of a stranger's
//! must not swallow what a proxy wrote behind it. Empty elements count for nothing (RFC 9110 section 5.6.1).

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

/// One element of `Forwarded`.
#[derive(Debug, Default)]
pub(super) struct Hop {
    pub(super) client: Option<String>,
    pub(super) proto: Option<Vec<u8>>,
    pub(super) host: Option<Vec<u8>>,
}

/// The last element of a list of all lines of `name`.
pub(super) fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let value = headers.get_all(name).iter().next_back()?.as_bytes();
    value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii).next().filter(|value| !value.is_empty())
}

/// The elements of `X-Forwarded-For`.
pub(super) fn addresses<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<Option<&'a str>> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    let elements = lines.into_iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()).map(text).collect()
}

/// The elements of one line of `Forwarded`.
pub(super) fn element(line: &HeaderValue) -> impl Iterator<Item = Option<&str>> {
    let elements = parts(line.as_bytes(), b',').into_iter();
    elements.map(|(element, whole)| text(element).filter(|element| whole && is_closed(element)))
}

/// The elements of `Forwarded`, each read.
pub(super) fn hops(headers: &HeaderMap) -> Vec<Option<Hop>> {
    let lines: Vec<&HeaderValue> = headers.get_all(FORWARDED).iter().collect();
    lines.into_iter().rev().flat_map(element).map(|element| element.map(hop)).collect()
}

fn hop(element: &str) -> Hop {
    let mut hop = Hop::default();
    for (pair, _) in parts(element.as_bytes(), b';') {
        let Some((name, value)) = text(pair).and_then(|pair| pair.split_once('=')) else { continue };
        let value = unquoted(value.trim());
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.client = Some(value),
            "proto" => hop.proto = Some(value.into_bytes()),
            "host" => hop.host = Some(value.into_bytes()),
            _ => {}
        }
    }
    hop
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

/// What stands between the `mark`s outside of quoted strings, from the right to the left, trimmed and not empty; false
/// beside a part in which a quoted string does not begin.
fn parts(bytes: &[u8], mark: u8) -> Vec<(&[u8], bool)> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), bytes.len(), false);
    let part = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default().trim_ascii();
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            // A quote behind an odd number of backslashes is one of the text.
            let slashes = bytes.get(..at).unwrap_or_default().iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted ^= !quoted || slashes % 2 == 0;
        } else if *byte == mark && !quoted {
            parts.push((part(at + 1, end), true));
            end = at;
        }
    }
    parts.push((part(0, end), !quoted));
    parts.retain(|(part, _)| !part.is_empty());
    parts
}

/// Whether every quoted string ends for a reader who comes from the left, too.
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
