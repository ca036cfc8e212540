//! Requests: RFC 9112 sections 2, 3, 5, 6 and 7.

use super::body::Body;
use super::bytes::{begins_method, is_host, is_path_and_query, is_token};
use super::chunked::Padding;
use super::fields::FramingFields;
use super::line::Lines;
use super::message::{BodyLength, Limits, Step};
use super::refusal::Refusal;

/// What the `http` crate can hold.
const MAX_TARGET: usize = 65_534;

/// A request's method, as far as framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `HEAD`: its response has no body.
    Head,
    /// Any other; `CONNECT` and `TRACE` are refused.
    Other,
}

/// What a request's head says about framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// How the body is framed.
    pub body: BodyLength,
    /// An `Upgrade` was requested: another protocol may follow the message. Never in HTTP/1.0, where `Upgrade` is ignored
    /// (RFC 9110 section 7.8).
    pub upgrade: bool,
    pub http_10: bool,
    /// The number of its field lines.
    pub fields: usize,
}

/// Reads the requests of one connection.
#[derive(Clone, Copy, Debug)]
pub struct RequestReader {
    limits: Limits,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head(PartialHead),
    Body(Body),
    Refused(Refusal),
}

/// A head whose end has not arrived.
#[derive(Clone, Copy, Debug, Default)]
struct PartialHead {
    lines: Lines,
    start: Option<RequestLine>,
    fields: FramingFields,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    http_10: bool,
    /// The position of an absolute-form target's authority in the head.
    authority: Option<(usize, usize)>,
}

impl RequestReader {
    /// A reader for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head(PartialHead::default()) }
    }

    /// What `bytes`, which follow those already consumed, begin with. A refusal is final.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step<RequestHead>, Refusal> {
        let step = self.step_inner(bytes);
        if let Err(refusal) = step {
            self.state = State::Refused(refusal);
        }
        step
    }

    fn step_inner(&mut self, bytes: &[u8]) -> Result<Step<RequestHead>, Refusal> {
        match &mut self.state {
            State::Head(partial) => match partial.step(bytes, &self.limits)? {
                Some((len, head)) => {
                    self.state =
                        Body::of(head.body, Padding::Refused).map_or(State::Head(PartialHead::default()), State::Body);
                    Ok(Step::Head { len, head })
                }
                None => Ok(Step::More),
            },
            State::Body(body) => match body.step(bytes, &self.limits)? {
                Some((len, piece, end)) => {
                    if end {
                        self.state = State::Head(PartialHead::default());
                    }
                    Ok(Step::Body { len, piece, end })
                }
                None => Ok(Step::More),
            },
            State::Refused(refusal) => Err(*refusal),
        }
    }

    /// Whether `bytes`, as they were given last, begin a request. Empty lines do not (RFC 9112 section 2.2).
    pub(crate) fn has_begun(&self, bytes: &[u8]) -> bool {
        match &self.state {
            State::Head(head) => head.start.is_some() || bytes.get(head.lines.at()).is_some_and(|byte| *byte != b'\r'),
            State::Body(_) | State::Refused(_) => true,
        }
    }

    /// True between a head and the end of its body.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }
}

impl PartialHead {
    fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(usize, RequestHead)>, Refusal> {
        if self.start.is_none() {
            self.first_byte(bytes)?;
        }
        loop {
            let at = self.lines.at();
            let Some(line) = self.lines.next(bytes, limits.head_bytes, Refusal::HeadTooLarge)? else {
                return Ok(None);
            };
            match &self.start {
                // RFC 9112 section 2.2: empty lines before a request line are ignored. The head's limit includes them.
                None if line.is_empty() => self.first_byte(bytes)?,
                None => self.start = Some(request_line(line, at)?),
                Some(start) if line.is_empty() => {
                    return Ok(Some((self.lines.at(), finish(bytes, start, &self.fields)?)));
                }
                Some(_) => self.fields.read(line, at, limits.head_fields)?,
            }
        }
    }

    /// Refuses bytes that cannot begin a request line, without waiting for its end: a TLS greeting on a plain door
    /// never ends its line.
    fn first_byte(&self, bytes: &[u8]) -> Result<(), Refusal> {
        match bytes.get(self.lines.at()) {
            Some(0x16) => Err(Refusal::TlsOnPlain),
            Some(b'\r') | None => Ok(()),
            Some(b'\n') => Err(Refusal::BareLf),
            Some(byte) if begins_method(*byte) => Ok(()),
            Some(_) => Err(Refusal::RequestLine),
        }
    }
}

/// RFC 9112 section 3: `method SP request-target SP HTTP-version`, one space each.
fn request_line(line: &[u8], at: usize) -> Result<RequestLine, Refusal> {
    if memchr::memchr(b'\r', line).is_some() {
        return Err(Refusal::BareCr);
    }
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::RequestLine);
    };
    if !is_token(method) {
        return Err(Refusal::Method);
    }
    let http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::VersionUnsupported);
        }
        _ if memchr::memchr(b' ', version).is_some() || target.is_empty() => return Err(Refusal::RequestLine),
        _ => return Err(Refusal::Version),
    };
    if !is_served(method) {
        return Err(Refusal::MethodUnsupported);
    }
    let authority = authority(method, target)?.map(|(from, to)| {
        let offset = at + method.len() + 1;
        (offset + from, offset + to)
    });
    Ok(RequestLine { http_10, authority })
}

/// Whether requests with this method are forwarded. Methods are case-sensitive (RFC 9110 section 9.1), but an app might not
/// know that.
pub(crate) fn is_served(method: &[u8]) -> bool {
    !method.eq_ignore_ascii_case(b"CONNECT") && !method.eq_ignore_ascii_case(b"TRACE")
}

/// Checks the target's form (RFC 9112 section 3.2); returns the position of the authority in an absolute form.
fn authority(method: &[u8], target: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if memchr::memchr(b'#', target).is_some() {
        return Err(Refusal::TargetFragment);
    }
    match target {
        [b'/', ..] if is_path_and_query(target) => return Ok(None),
        [b'/', ..] => return Err(Refusal::Target),
        b"*" if method == b"OPTIONS" => return Err(Refusal::Asterisk),
        _ => {}
    }
    let after = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let from = match () {
        () if after(b"http://") => 7,
        () if after(b"https://") => 8,
        () => return Err(Refusal::TargetForm),
    };
    let rest = target.get(from..).unwrap_or_default();
    let len = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(len).unwrap_or((rest, &[]));
    if !is_host(host) || !is_path_and_query(path) {
        return Err(Refusal::Target);
    }
    Ok(Some((from, from + len)))
}

fn finish(bytes: &[u8], start: &RequestLine, fields: &FramingFields) -> Result<RequestHead, Refusal> {
    match (start.authority, fields.host) {
        // RFC 9112 section 3.2.2 lets the target win over Host; a parser behind us might not know, so they must agree.
        (Some((from, to)), Some((host_from, host_to))) => {
            let (authority, host) = (bytes.get(from..to), bytes.get(host_from..host_to));
            if !authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host)) {
                return Err(Refusal::HostMismatch);
            }
        }
        (None | Some(_), None) if !start.http_10 => return Err(Refusal::HostMissing),
        (_, _) => {}
    }
    let body = fields.length(start.http_10)?.unwrap_or(BodyLength::None);
    let upgrade = fields.upgrade && !start.http_10;
    Ok(RequestHead { body, upgrade, http_10: start.http_10, fields: fields.count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_do_not_begin_a_request() {
        for (bytes, begun) in
            [("", false), ("\r", false), ("\r\n\r\n", false), ("\r\n\r\nG", true), ("GET / HTTP/1.1\r\n", true)]
        {
            let mut reader = RequestReader::new(Limits::default());
            assert_eq!(reader.step(bytes.as_bytes()), Ok(Step::More));
            assert_eq!(reader.has_begun(bytes.as_bytes()), begun, "{bytes:?}");
        }
    }
}
