//! What a caller may do that may only read.
//!
//! In: a call as it would be sent, its body whole. Out: leave, or a [`Refusal`]. Whatever could be read in more than one way is
//! refused: it never lets a call pass because it was not understood.

mod document;
mod posted;
#[cfg(test)]
mod tests;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};
use url::form_urlencoded;

/// Bytes of a body, at the most: collect no more than this before the check, and send the same bytes on.
pub(crate) const LONGEST_BODY: usize = 1024 * 1024;
/// Rounds of percent-decoding that are looked through.
const ROUNDS: usize = 4;

/// Why a call is not let through: 403. Its text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Neither GET nor HEAD, or not POST either where a GraphQL document is.
    #[error("only reading is allowed here: use GET or HEAD, or POST for GraphQL queries")]
    Method,
    /// `http_method` makes another method of a GET.
    #[error("only reading is allowed here: leave out the parameter http_method")]
    MethodParameter,
    /// The document holds an operation that changes something.
    #[error("only reading is allowed here, and the document holds a {0}")]
    Operation(&'static str),
    /// It cannot be told for certain what the call would do.
    #[error("only reading is allowed here, and whether this call only reads cannot be told: {0}")]
    Unclear(&'static str),
}

/// REST: GET and HEAD, without an `http_method` parameter, however it is spelled: the SDKs' way to send other methods.
pub(crate) fn check_rest(method: &Method, query: Option<&str>) -> Result<(), Refusal> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::Method);
    }
    let mut reading = query.unwrap_or_default().as_bytes().to_vec();
    for _ in 0..ROUNDS {
        if names_method(&reading) {
            return Err(Refusal::MethodParameter);
        }
        let decoded: Vec<u8> = percent_decode(&reading);
        if decoded == reading {
            return Ok(());
        }
        reading = decoded;
    }
    Err(Refusal::Unclear("its parameters are encoded too many times"))
}

/// A parameter whose name, cleared of everything but letters and digits, holds `httpmethod`.
fn names_method(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';' | b'?' | b'#')).any(|parameter| {
        let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
        let plain: Vec<u8> =
            name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
        memchr::memmem::find(&plain, b"httpmethod").is_some()
    })
}

fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let digits = more.split_at_checked(2).filter(|_| *first == b'%');
        if let Some((byte, after)) = digits.and_then(|(digits, after)| Some((hex(digits)?, after))) {
            decoded.push(byte);
            rest = after;
        } else {
            decoded.push(*first);
            rest = more;
        }
    }
    decoded
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// GraphQL: every operation of every document is a query. `query` is the target's, after the `?`.
pub(crate) fn check_graphql(
    method: &Method,
    headers: &HeaderMap,
    query: Option<&str>,
    body: &[u8],
) -> Result<(), Refusal> {
    if body.len() > LONGEST_BODY {
        return Err(Refusal::Unclear("it is longer than 1 MiB"));
    }
    let query = query.unwrap_or_default();
    if method == Method::GET || method == Method::HEAD {
        return if body.is_empty() { check_get(query) } else { Err(Refusal::Unclear("a GET has a body")) };
    }
    if method != Method::POST {
        return Err(Refusal::Method);
    }
    if !query.is_empty() {
        // Some servers prefer a document in the address to the one in the body.
        return Err(Refusal::Unclear("it has parameters in its address; send everything in the body"));
    }
    check_headers(headers)?;
    posted::documents(body)?.iter().try_for_each(|text| document::check(text))
}

/// JSON in UTF-8, and nothing that would make the receiver see other bytes.
fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    const KIND: Refusal = Refusal::Unclear("send it as Content-Type: application/json");
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::Unclear("its body is compressed"));
    }
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(KIND) };
    let mut parts = line.to_str().map_err(|_| KIND)?.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/json") {
        return Err(KIND);
    }
    let utf8 = |part: &str| ["charset=utf-8", "charset=\"utf-8\""].iter().any(|text| part.eq_ignore_ascii_case(text));
    match (parts.next(), parts.next()) {
        (None, _) => Ok(()),
        (Some(part), None) if utf8(part) => Ok(()),
        (Some(_), _) => Err(Refusal::Unclear("its charset is not plainly UTF-8")),
    }
}

fn check_get(query: &str) -> Result<(), Refusal> {
    if query.contains(';') {
        // For some readers it separates parameters.
        return Err(Refusal::Unclear("its parameters hold a semicolon; write it as %3B"));
    }
    let members = form_urlencoded::parse(query.as_bytes()).map(|(name, value)| {
        let value = match &*name {
            "extensions" if !value.is_empty() => {
                serde_json::from_str(&value).map_err(|_| Refusal::Unclear("its extensions are not JSON"))?
            }
            _ => serde_json::Value::String(value.into_owned()),
        };
        Ok((name.into_owned(), value))
    });
    document::check(&posted::document(members.collect::<Result<_, _>>()?)?)
}
