//! Responses: RFC 9112 sections 4, 6, 7 and 9.

use super::body::Body;
use super::chunked::Padding;
use super::fields::FramingFields;
use super::line::Lines;
use super::message::{BodyLength, Limits, Step};
use super::refusal::Refusal;
use super::request::Method;

/// Interim responses (1xx) before a final one.
const MAX_INTERIM: u32 = 16;

/// What a response's head says about framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// [`BodyLength::Opaque`] for a 101.
    pub body: BodyLength,
    /// A 1xx other than 101: the final response is still to come.
    pub interim: bool,
    pub http_10: bool,
    /// The number of its field lines.
    pub fields: usize,
    /// The one length that its `Content-Length` announces, however often.
    pub length: Option<u64>,
    /// Its fields frame a body where none is allowed, or in an ambiguous way, so the bytes that follow belong to no
    /// message.
    pub stray_framing: bool,
}

/// Reads the responses of one connection, each once its request was announced.
#[derive(Clone, Copy, Debug)]
pub struct ResponseReader {
    limits: Limits,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No request is open: any byte is surplus.
    Idle,
    Head(Request, PartialHead),
    Body(Body),
    Opaque,
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    method: Method,
    upgrade: bool,
    /// Interim responses to it so far.
    interim: u32,
}

#[derive(Clone, Copy, Debug)]
struct StatusLine {
    code: u16,
    http_10: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct PartialHead {
    lines: Lines,
    start: Option<StatusLine>,
    fields: FramingFields,
}

impl ResponseReader {
    /// A reader for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Idle }
    }

    /// Announces a request that was sent: its method, and whether it asked for an upgrade. It is ignored until the response
    /// before was read to its end.
    pub fn expect(&mut self, method: Method, upgrade: bool) {
        if matches!(self.state, State::Idle) {
            self.state = State::Head(Request { method, upgrade, interim: 0 }, PartialHead::default());
        }
    }

    /// What `bytes`, which follow those already consumed, begin with. A refusal is final.
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
            State::Head(request, partial) => match partial.step(bytes, &self.limits, *request)? {
                Some((len, head)) => {
                    self.state = match Body::of(head.body, Padding::Accepted) {
                        Some(body) => State::Body(body),
                        None if head.body == BodyLength::Opaque => State::Opaque,
                        None if !head.interim => State::Idle,
                        None if request.interim == MAX_INTERIM => return Err(Refusal::TooManyInterim),
                        None => {
                            State::Head(Request { interim: request.interim + 1, ..*request }, PartialHead::default())
                        }
                    };
                    Ok(Step::Head { len, head })
                }
                None => Ok(Step::More),
            },
            State::Body(body) => match body.step(bytes, &self.limits)? {
                Some((len, piece, end)) => {
                    if end {
                        self.state = State::Idle;
                    }
                    Ok(Step::Body { len, piece, end })
                }
                None => Ok(Step::More),
            },
            State::Opaque => Ok(Step::Opaque),
            State::Refused(refusal) => Err(*refusal),
        }
    }

    /// No response is expected or half read: the connection may carry another request.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The connection ended with `unread` bytes not consumed: an error in the middle of a message, unless its body ends
    /// with the connection.
    pub fn end(&self, unread: usize) -> Result<(), Refusal> {
        match &self.state {
            State::Idle | State::Opaque | State::Body(Body::UntilClose) if unread == 0 => Ok(()),
            State::Refused(refusal) => Err(*refusal),
            State::Idle | State::Head(..) | State::Body(_) | State::Opaque => Err(Refusal::Cut),
        }
    }
}

impl PartialHead {
    fn step(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        request: Request,
    ) -> Result<Option<(usize, ResponseHead)>, Refusal> {
        if self.start.is_none() && bytes.first().is_some_and(|byte| *byte != b'H') {
            return Err(Refusal::StatusLine);
        }
        loop {
            let Some(line) = self.lines.next(bytes, limits.head_bytes, Refusal::HeadTooLarge)? else {
                return Ok(None);
            };
            match self.start {
                None => self.start = Some(status_line(line)?),
                Some(start) if line.is_empty() => {
                    return Ok(Some((self.lines.at(), finish(start, &self.fields, request)?)));
                }
                Some(_) => self.fields.read_response(line, limits.head_fields)?,
            }
        }
    }
}

/// RFC 9112 section 4: `HTTP-version SP status-code SP [reason-phrase]`. Many apps leave out the second space, which no
/// parser misreads.
fn status_line(line: &[u8]) -> Result<StatusLine, Refusal> {
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
    // RFC 9110 section 15: a recipient treats an unknown class as 5xx.
    let known = matches!(status.first(), Some(b'1'..=b'9')) && status.iter().all(u8::is_ascii_digit);
    if !good_reason || !known {
        return Err(Refusal::StatusLine);
    }
    let code = status.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    Ok(StatusLine { code, http_10 })
}

/// RFC 9112 section 6.3, in its order.
fn finish(start: StatusLine, fields: &FramingFields, request: Request) -> Result<ResponseHead, Refusal> {
    let StatusLine { code, http_10 } = start;
    if code == 101 && (!request.upgrade || http_10) {
        return Err(Refusal::UnexpectedUpgrade);
    }
    let framed = fields.length(http_10);
    // Rule 1: it ends with the head, whatever the fields say. Section 6.1 and RFC 9110 section 8.6 allow them in
    // responses that would have a body for another request.
    let ends_with_head = matches!(code, 100..=199 | 204 | 304) || request.method == Method::Head;
    let (body, stray_framing) = if ends_with_head {
        let stray = match framed {
            Ok(None | Some(BodyLength::None)) => false,
            Ok(Some(_)) => matches!(code, 100..=199 | 204),
            Err(_) => true,
        };
        (if code == 101 { BodyLength::Opaque } else { BodyLength::None }, stray)
    } else {
        (framed?.unwrap_or(BodyLength::UntilClose), false)
    };
    let interim = matches!(code, 100 | 102..=199);
    Ok(ResponseHead { body, interim, http_10, fields: fields.count, length: fields.announced(), stray_framing })
}
