//! Responses: RFC 9112 sections 4, 6, 7 and 9.

use super::fields::Facts;
use super::line::Lines;
use super::{Body, BodyLength, Limits, Method, Refusal, Step};

/// Interim responses (1xx) before a final one; more is a flood.
const INTERIM: u32 = 16;

/// What a response's head says about framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// HTTP/1.0, not 1.1.
    pub http_10: bool,
    /// How the body is framed. [`BodyLength::Opaque`] for a 101.
    pub body: BodyLength,
    /// A 1xx other than 101: the final response is still to come.
    pub interim: bool,
}

/// Reads the responses of one connection, each after it was told of the request.
#[derive(Clone, Copy, Debug)]
pub struct ResponseReader {
    limits: Limits,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No request is open: any byte is one too many.
    Idle,
    Head(Asked, Partial),
    Body(Body),
    Opaque,
    Refused(Refusal),
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    method: Method,
    upgrade: bool,
    interim: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Partial {
    lines: Lines,
    start: Option<(u16, bool)>,
    facts: Facts,
}

impl ResponseReader {
    /// A reader for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Idle }
    }

    /// A request was sent whose response is awaited now: its method, and whether it asked for an upgrade. Requests are
    /// told one at a time; where the response before is not read to its end, this is ignored.
    pub fn asked(&mut self, method: Method, upgrade: bool) {
        if matches!(self.state, State::Idle) {
            self.state = State::Head(Asked { method, upgrade, interim: 0 }, Partial::default());
        }
    }

    /// What `bytes` begin with: they are the bytes that follow those already said to be something. After a refusal it
    /// says the same again.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step<ResponseHead>, Refusal> {
        let step = self.step_inner(bytes);
        if let Err(refusal) = step {
            self.state = State::Refused(refusal);
        }
        step
    }

    fn step_inner(&mut self, bytes: &[u8]) -> Result<Step<ResponseHead>, Refusal> {
        match &mut self.state {
            State::Idle if bytes.is_empty() => Ok(Step::More),
            State::Idle => Err(Refusal::Surplus),
            State::Head(asked, partial) => match partial.step(bytes, &self.limits, *asked)? {
                Some((len, head)) => {
                    self.state = match Body::of(head.body) {
                        Some(body) => State::Body(body),
                        None if head.body == BodyLength::Opaque => State::Opaque,
                        None if !head.interim => State::Idle,
                        None if asked.interim == INTERIM => return Err(Refusal::TooManyInterim),
                        None => State::Head(Asked { interim: asked.interim + 1, ..*asked }, Partial::default()),
                    };
                    Ok(Step::Head { len, head })
                }
                None => Ok(Step::More),
            },
            State::Body(body) => match body.step(bytes, &self.limits)? {
                Some((len, end)) => {
                    if end {
                        self.state = State::Idle;
                    }
                    Ok(Step::Body { len, end })
                }
                None => Ok(Step::More),
            },
            State::Opaque => Ok(Step::Opaque),
            State::Refused(refusal) => Err(*refusal),
        }
    }

    /// True where no response is awaited and none is half read: the connection may carry another request.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The bytes ended, `unread` of them not said to be anything: an error in the middle of a message, unless its body
    /// ends with the connection.
    pub fn end(&self, unread: usize) -> Result<(), Refusal> {
        match &self.state {
            State::Idle | State::Opaque | State::Body(Body::UntilClose) if unread == 0 => Ok(()),
            State::Refused(refusal) => Err(*refusal),
            _ => Err(Refusal::Cut),
        }
    }
}

impl Partial {
    fn step(&mut self, bytes: &[u8], limits: &Limits, asked: Asked) -> Result<Option<(usize, ResponseHead)>, Refusal> {
        if self.start.is_none() && bytes.first().is_some_and(|byte| *byte != b'H') {
            return Err(Refusal::StatusLine);
        }
        loop {
            let at = self.lines.at();
            let Some(line) = self.lines.next(bytes, limits.head_bytes, Refusal::HeadTooLarge)? else {
                return Ok(None);
            };
            match self.start {
                None => self.start = Some(start(line)?),
                Some(start) if line.is_empty() => {
                    return Ok(Some((self.lines.at(), finish(start, &self.facts, asked)?)));
                }
                // A response has no Host, and what it has of that name decides nothing.
                Some(_) => self.facts.read_response(line, at, limits.head_fields)?,
            }
        }
    }
}

/// RFC 9112 section 4: `HTTP-version SP status-code SP [reason-phrase]`. The second space is left out by many an app,
/// and no reader is misled by it.
fn start(line: &[u8]) -> Result<(u16, bool), Refusal> {
    let (version, rest) = line.split_at_checked(8).ok_or(Refusal::StatusLine)?;
    let http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Refusal::StatusLine),
    };
    let (status, reason) = match rest {
        [b' ', status @ ..] => status.split_at_checked(3).ok_or(Refusal::StatusLine)?,
        _ => return Err(Refusal::StatusLine),
    };
    let good_reason = matches!(reason, [] | [b' ', ..]) && super::bytes::bad_value_byte(reason).is_none();
    let known = matches!(status.first(), Some(b'1'..=b'5')) && status.iter().all(u8::is_ascii_digit);
    if !good_reason || !known {
        return Err(Refusal::StatusLine);
    }
    Ok((status.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')), http_10))
}

/// RFC 9112 section 6.3, in its order.
fn finish((status, http_10): (u16, bool), facts: &Facts, asked: Asked) -> Result<ResponseHead, Refusal> {
    let said = facts.length(http_10)?;
    let has_body = matches!(said, Some(BodyLength::Exact(_) | BodyLength::Chunked));
    let interim = matches!(status, 100 | 102..=199);
    let body = match status {
        101 if !asked.upgrade || http_10 => return Err(Refusal::UnaskedUpgrade),
        // Section 6.1: no Transfer-Encoding here; RFC 9110 section 8.6: no Content-Length either. Readers differ about
        // what then follows.
        100..=199 | 204 if has_body => return Err(Refusal::BodyForbidden),
        101 => BodyLength::Opaque,
        100..=199 | 204 | 304 => BodyLength::None,
        _ if asked.method == Method::Head => BodyLength::None,
        _ => said.unwrap_or(BodyLength::UntilClose),
    };
    Ok(ResponseHead { status, http_10, body, interim })
}
