//! Converts heads between bytes and `http` types.
//!
//! Reads only bytes that `framing` has accepted, so a name or value is never copied and has only one reading.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};
use http_body::Frame;

use crate::clock::{Clock, SystemClock};
use crate::fields::Fields;
use crate::framing::{Piece, number};
use crate::response::Response;

/// A request's head.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: Fields,
}

/// A request in the form that handlers see: origin form, with a `Host` if the client named one.
pub(super) fn request(mut bytes: Bytes, fields: usize) -> Option<Head> {
    let line = start_line(&mut bytes)?;
    let (first, last) = (memchr::memchr(b' ', &line)?, memchr::memrchr(b' ', &line)?);
    let method = Method::from_bytes(line.get(..first)?).ok()?;
    let version = if line.ends_with(b"1.0") { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut uri = Uri::from_maybe_shared(line.slice(first + 1..last)).ok()?;
    let mut headers = read_fields(&bytes, fields)?;
    if let Some(authority) = uri.authority() {
        // HTTP/1.0 needs no Host. Without one, the target names it (RFC 9112 section 3.2.2).
        if !headers.contains_key(HOST) {
            headers.append(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
        }
        uri = origin_form(&uri);
    }
    Some(Head { method, uri, version, headers })
}

/// The path and query alone; the authority was compared with `Host`.
pub(crate) fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        // RFC 9112 section 3.2.1: an empty path is sent as "/".
        Some(target) if target.as_str().starts_with('?') => Uri::try_from(format!("/{target}")).unwrap_or_default(),
        Some(target) => target.clone().into(),
        None => PathAndQuery::from_static("/").into(),
    }
}

/// A response without its body.
pub(super) fn response(mut bytes: Bytes, fields: usize) -> Option<Response> {
    let line = start_line(&mut bytes)?;
    let status = StatusCode::from_bytes(line.get(9..12)?).ok()?;
    Some(Response { status, headers: read_fields(&bytes, fields)?, ..Response::default() })
}

/// Splits off the first line, without its end and the empty lines before it (RFC 9112 section 2.2).
fn start_line(bytes: &mut Bytes) -> Option<Bytes> {
    loop {
        let end = memchr::memchr(b'\n', bytes)?;
        let line = bytes.split_to(end + 1);
        if end > 1 {
            return Some(line.slice(..end - 1));
        }
    }
}

/// The field lines of a head, about `count` of them.
fn read_fields(bytes: &Bytes, count: usize) -> Option<Fields> {
    let mut fields = Fields::of_head(bytes.clone(), count);
    read(bytes, |at, name, value| fields.read(at, name, value))?;
    Some(fields)
}

fn read_trailers(bytes: &Bytes) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    read(bytes, |_, name, value| {
        trailers.append(name, value);
    })?;
    Some(trailers)
}

/// Passes on each field line up to the empty one, with the position of its name.
fn read(bytes: &Bytes, mut line_of: impl FnMut(usize, HeaderName, HeaderValue)) -> Option<()> {
    let mut at = 0;
    loop {
        let end = at + memchr::memchr(b'\n', bytes.get(at..)?)?;
        let line = bytes.get(at..end.checked_sub(1)?)?;
        if line.is_empty() {
            return Some(());
        }
        let colon = memchr::memchr(b':', line)?;
        // Only a response can have white space before the colon here (RFC 9112 section 5.1).
        let name = HeaderName::from_bytes(line.get(..colon)?.trim_ascii_end()).ok()?;
        let value = bytes.slice_ref(line.get(colon + 1..)?.trim_ascii());
        line_of(at, name, HeaderValue::from_maybe_shared(value).ok()?);
        at = end + 1;
    }
}

/// A piece of a body as a frame; `None` for chunk framing and an empty trailer section.
pub(super) fn frame(bytes: Bytes, piece: Piece) -> Option<Frame<Bytes>> {
    match piece {
        Piece::Data => (!bytes.is_empty()).then(|| Frame::data(bytes)),
        Piece::Framing => None,
        Piece::Trailers => read_trailers(&bytes).filter(|trailers| !trailers.is_empty()).map(Frame::trailers),
    }
}

/// The length that `Content-Length` announces.
pub(super) fn announced(headers: &Fields) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|value| number(value.as_bytes()).ok())
}

/// Leaves one `Content-Length` with one number, or none: repeated or meaningless ones would be ambiguous to the next
/// reader.
pub(super) fn keep_one_length(response: &mut Response, length: Option<u64>) {
    let length = length.filter(|_| !is_bodiless(response.status));
    let headers = &mut response.headers;
    let mut lines = headers.get_all(CONTENT_LENGTH);
    let (first, repeated) = (lines.next(), lines.next().is_some());
    if !repeated && first.map(|value| number(value.as_bytes()).ok()) == length.map(Some) {
        return;
    }
    drop(lines);
    match length {
        Some(length) => headers.insert(CONTENT_LENGTH, length.into()),
        None => headers.strip(&CONTENT_LENGTH),
    }
}

/// Whether credentials or challenges use a scheme that authenticates the connection instead of the message (RFC 4559
/// section 6).
pub(super) fn authenticates(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let scheme = |start: usize| {
        let mut words = value.get(start..).unwrap_or_default().trim_ascii_start().split(|byte| b" \t,".contains(byte));
        let scheme = words.next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
    };
    [0].into_iter().chain(memchr::memchr_iter(b',', value).map(|comma| comma + 1)).any(scheme)
}

/// Whether another message may follow one with these lines of `Connection` (RFC 9112 section 9.3).
pub(super) fn keeps_alive<'a>(connection: impl Iterator<Item = &'a HeaderValue>, http_10: bool) -> bool {
    let mut keeps = !http_10;
    for value in connection {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}

pub(super) fn write_request_line(out: &mut BytesMut, method: &Method, target: Option<&PathAndQuery>) {
    for part in [method.as_str(), " ", target.map_or("/", PathAndQuery::as_str), " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// A status line and fields, without the empty line after them.
pub(super) fn write_response(out: &mut BytesMut, http_10: bool, status: StatusCode, headers: &Fields) {
    out.extend_from_slice(if http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for line in headers.lines() {
        if *line.name != CONTENT_LENGTH || !is_bodiless(status) {
            write_field(out, line.spelled, line.value.as_bytes());
        }
    }
}

/// Whether such a response has neither a body nor a `Content-Length` (RFC 9110 section 8.6).
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

pub(super) fn write_trailers(out: &mut BytesMut, trailers: &HeaderMap) {
    for (name, value) in trailers {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

pub(super) fn write_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes `Date` (RFC 9110 section 6.6.1), formatted once a second.
pub(super) fn write_date(out: &mut BytesMut) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = u64::try_from(SystemClock.now().seconds()).unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            (*second, *text) = (now, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now)));
        }
        write_field(out, b"date", text.as_bytes());
    });
}
