//! Field lines, and what they say about framing.

use super::bytes::{bad_value_byte, is_host, is_token, trimmed};
use super::message::BodyLength;
use super::refusal::Refusal;

/// Longer ones are refused: many parsers keep a length in a signed word.
pub(super) const MAX_LENGTH: u64 = i64::MAX as u64;

/// What the `http` crate can hold.
const MAX_NAME: usize = 65_535;

/// What the fields of a head say about framing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields {
    pub(super) count: usize,
    /// In a response, also why it is refused: that does not matter if there is no body.
    length: Option<Result<u64, Refusal>>,
    coding: Option<Result<(), Refusal>>,
    /// The position of `Host`'s value in the head.
    pub(super) host: Option<(usize, usize)>,
    pub(super) upgrade: bool,
    authorization: bool,
}

/// Splits a field line into its name, and its value without the spaces around it.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (name, value) = at_colon(line)?;
    checked(name, value)
}

fn at_colon(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::ObsFold);
    }
    let colon = memchr::memchr(b':', line);
    let parts = colon.and_then(|colon| line.split_at_checked(colon));
    parts.ok_or_else(|| bad_byte(line).unwrap_or(Refusal::NoColon))
}

fn checked<'a>(name: &'a [u8], value: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    if name.len() > MAX_NAME {
        return Err(Refusal::HeadTooLarge);
    }
    if !is_token(name) {
        return Err(match name.last() {
            Some(b' ' | b'\t') => Refusal::SpaceBeforeColon,
            _ => bad_byte(name).unwrap_or(Refusal::FieldName),
        });
    }
    let value = value.get(1..).unwrap_or_default();
    match bad_byte(value) {
        Some(refusal) => Err(refusal),
        None => Ok((name, trimmed(value))),
    }
}

fn bad_byte(bytes: &[u8]) -> Option<Refusal> {
    bad_value_byte(bytes).map(|byte| if byte == b'\r' { Refusal::BareCr } else { Refusal::Control })
}

impl FramingFields {
    fn count(&mut self, max: usize) -> Result<(), Refusal> {
        self.count += 1;
        if self.count > max { Err(Refusal::TooManyFields) } else { Ok(()) }
    }

    /// Reads one field line of a request that begins `at` bytes into the head.
    pub(super) fn read(&mut self, line: &[u8], at: usize, max: usize) -> Result<(), Refusal> {
        let (name, value) = split(line)?;
        self.count(max)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Refusal::HostRepeated);
                }
                if !is_host(value) {
                    return Err(Refusal::HostMalformed);
                }
                let from = at + (value.as_ptr().addr() - line.as_ptr().addr());
                self.host = Some((from, from + value.len()));
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            // With two credentials, parsers use one or the other; RFC 9110 section 5.3 allows one.
            13 if name.eq_ignore_ascii_case(b"authorization") => {
                if self.authorization {
                    return Err(Refusal::FieldRepeated);
                }
                self.authorization = true;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::LengthRepeated);
                }
                self.length = Some(Ok(number(value)?));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.coding.is_some() {
                    return Err(Refusal::CodingRepeated);
                }
                self.coding = Some(coding(value));
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a field line of a response, where `Host` and `Authorization` mean nothing, white space before the colon is
    /// removed (RFC 9112 section 5.1), and equal lengths count as one (section 6.3 rule 5).
    pub(super) fn read_response(&mut self, line: &[u8], max: usize) -> Result<(), Refusal> {
        let (name, value) = at_colon(line)?;
        let (name, value) = checked(trimmed(name), value)?;
        self.count(max)?;
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = equal_numbers(value);
                self.length = Some(match self.length {
                    Some(Ok(before)) if length != Ok(before) => Err(length.err().unwrap_or(Refusal::LengthRepeated)),
                    Some(Err(refusal)) => Err(refusal),
                    Some(Ok(_)) | None => length,
                });
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.coding = Some(if self.coding.is_some() { Err(Refusal::CodingRepeated) } else { coding(value) });
            }
            _ => {}
        }
        Ok(())
    }

    /// The announced length; `None` if a coding overrides it or it is ambiguous.
    pub(super) fn announced(&self) -> Option<u64> {
        self.length?.ok().filter(|_| self.coding.is_none())
    }

    /// How the body is framed according to the fields (RFC 9112 section 6.3, 3 to 5); `None` if they do not say.
    pub(super) fn length(&self, http_10: bool) -> Result<Option<BodyLength>, Refusal> {
        match (self.coding, self.length) {
            (Some(_), Some(_)) => Err(Refusal::LengthAndCoding),
            (Some(_), None) if http_10 => Err(Refusal::CodingInHttp10),
            (Some(coding), None) => coding.map(|()| Some(BodyLength::Chunked)),
            (None, Some(length)) => match length? {
                0 => Ok(Some(BodyLength::None)),
                length => Ok(Some(BodyLength::Exact(length))),
            },
            (None, None) => Ok(None),
        }
    }
}

/// RFC 9112 section 6.3 rule 5: a list of equal numbers stands for one of them.
fn equal_numbers(value: &[u8]) -> Result<u64, Refusal> {
    let mut numbers = value.split(|byte| *byte == b',').map(trimmed).filter(|member| !member.is_empty()).map(number);
    let first = numbers.next().unwrap_or(Err(Refusal::LengthMalformed))?;
    for other in numbers {
        if other? != first {
            return Err(Refusal::LengthRepeated);
        }
    }
    Ok(first)
}

/// RFC 9110 section 8.6: digits and nothing else. A recipient may accept a list of equal numbers; of a request, we do not.
pub(crate) fn number(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() {
        return Err(Refusal::LengthMalformed);
    }
    value
        .iter()
        .try_fold(0_u64, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit).filter(|number| *number <= MAX_LENGTH)
        })
        .ok_or(Refusal::LengthMalformed)
}

/// RFC 9112 section 6.1: only `chunked` is supported, in any case; it must be the last coding and appear once.
fn coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|byte| *byte == b',').map(trimmed);
    let well_formed = codings.clone().all(is_token);
    let last = codings.clone().next_back();
    match codings.position(|coding| chunked(&coding)) {
        _ if !well_formed => Err(Refusal::CodingMalformed),
        // Another coding, alone or below the chunks.
        None => Err(Refusal::CodingUnsupported),
        Some(_) if last.as_ref().is_some_and(chunked) && codings.next().is_none() => Err(Refusal::CodingUnsupported),
        Some(_) => Err(Refusal::CodingMalformed),
    }
}

/// Fields that have a meaning only in a head: framing, routing, authentication, modifiers, content format (RFC 9110 section
/// 6.5.1). In a trailer section they could contradict the head, so the message is refused. Look-alikes count too, since many
/// servers turn every byte of a name that is not a letter or digit into `_`.
pub(crate) fn forbidden_in_trailers(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 29] = [
        b"age",
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"location",
        b"max-forwards",
        b"origin",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"vary",
        b"via",
        b"www-authenticate",
        b"x-original-url",
        b"x-real-ip",
        b"x-request-id",
        b"x-rewrite-url",
    ];
    const PREFIXES: [&[u8]; 7] =
        [b"access-control-", b"if-", b"proxy-", b"sec-", b"x-forwarded-", b"x-upwarden-", b"x-upwork-"];
    NAMES.iter().any(|known| reads_as(name, known)) || PREFIXES.iter().any(|prefix| begins_like(name, prefix))
}

/// Whether some server reads the field `name` as `known`, which is in lower case.
pub(crate) fn reads_as(name: impl AsRef<[u8]>, known: impl AsRef<[u8]>) -> bool {
    let (name, known) = (name.as_ref(), known.as_ref());
    name.len() == known.len() && begins_like(name, known)
}

/// Whether some server reads the beginning of the field `name` as `prefix`, which is in lower case.
pub(crate) fn begins_like(name: impl AsRef<[u8]>, prefix: impl AsRef<[u8]>) -> bool {
    let (name, prefix) = (name.as_ref(), prefix.as_ref());
    let same = |(byte, known): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(known) || (*known == b'-' && !byte.is_ascii_alphanumeric())
    };
    name.len() >= prefix.len() && name.iter().zip(prefix).all(same)
}
