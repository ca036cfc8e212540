//! Checks the calls of callers that may only read.
//!
//! A call is checked as it would be sent, with its whole body. It passes only if it is understood: anything ambiguous
//! is refused.

mod document;
mod posted;
mod refusal;
#[cfg(test)]
mod tests;

use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use url::form_urlencoded;

use crate::fields::Fields;
use crate::router::percent::readings;
pub(crate) use refusal::Refusal;

/// In bytes: collect at most this much of a body for the check, and send the same bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// Bytes of all documents of a call together.
const MAX_DOCUMENTS: usize = 128 * 1024;
/// Documents of up to this many bytes are parsed immediately, which takes at most a few milliseconds.
const MAX_INLINE: usize = 2048;
/// Rounds of percent-decoding that are checked.
const ROUNDS: usize = 3;

/// Whether the query may change the method: by a parameter `http_method` in any spelling, with which the SDKs send
/// methods other than GET.
pub(crate) fn overrides_method(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        let readings = readings(query.as_bytes(), ROUNDS);
        readings.unfinished || readings.all.iter().any(|reading| names_method(reading))
    })
}

/// REST: GET and HEAD without an `http_method` parameter.
pub(crate) fn check_rest(method: &Method, query: Option<&str>) -> Result<(), Refusal> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::Method);
    }
    let readings = readings(query.unwrap_or_default().as_bytes(), ROUNDS);
    if readings.all.iter().any(|reading| names_method(reading)) {
        return Err(Refusal::MethodParameter);
    }
    if readings.unfinished {
        return Err(Refusal::Unclear("its parameters are encoded too many times"));
    }
    Ok(())
}

/// Whether a parameter's name, reduced to letters and digits, is `httpmethod`; or a part of it, as PHP reads `a[b][c]`.
fn names_method(query: &[u8]) -> bool {
    let is_method = |name: &[u8]| {
        name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).eq(*b"httpmethod")
    };
    query.split(|byte| matches!(byte, b'&' | b';' | b'?' | b'#')).any(|parameter| {
        let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
        is_method(name) || name.split(|byte| matches!(byte, b'[' | b']')).any(is_method)
    })
}

/// Documents of a call that are too long to parse on a worker's thread.
#[derive(Debug)]
pub(crate) struct LongDocuments(Vec<String>);

impl LongDocuments {
    /// Parses them.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        self.0.iter().try_for_each(|text| document::parse(text))
    }
}

/// GraphQL: every operation of every document must be a query. `query` is the target's. The call may pass if the
/// returned documents, if any, pass their check.
pub(crate) fn check_graphql(
    method: &Method,
    headers: &Fields,
    query: Option<&str>,
    body: &[u8],
) -> Result<Option<LongDocuments>, Refusal> {
    if body.len() > MAX_BODY {
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
        // Some servers prefer a document in the URL to the one in the body.
        return Err(Refusal::Unclear("it has parameters in its address; send everything in the body"));
    }
    check_headers(headers)?;
    check_documents(posted::documents(body)?)
}

fn check_documents(documents: Vec<String>) -> Result<Option<LongDocuments>, Refusal> {
    let bytes: usize = documents.iter().map(String::len).sum();
    if bytes > MAX_DOCUMENTS {
        return Err(Refusal::Unclear("its documents are longer than 128 KiB"));
    }
    documents.iter().try_for_each(|text| document::scan(text))?;
    let documents = LongDocuments(documents);
    if bytes > MAX_INLINE {
        return Ok(Some(documents));
    }
    documents.check().map(|()| None)
}

/// Requires JSON in UTF-8, and no header that would make the receiver see other bytes.
fn check_headers(headers: &Fields) -> Result<(), Refusal> {
    const KIND: Refusal = Refusal::Unclear("send it as Content-Type: application/json");
    if headers.get_all(CONTENT_ENCODING).any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::Unclear("its body is compressed"));
    }
    let mut lines = headers.get_all(CONTENT_TYPE);
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

fn check_get(query: &str) -> Result<Option<LongDocuments>, Refusal> {
    if query.contains(';') {
        // Some servers treat it as a separator.
        return Err(Refusal::Unclear("its parameters contain a semicolon; write it as %3B"));
    }
    let members = form_urlencoded::parse(query.as_bytes()).map(|(name, value)| {
        let value = match &*name {
            "extensions" if !value.is_empty() => {
                serde_json::from_str(&value).map_err(|_| Refusal::Unclear("its extensions are not JSON"))?
            }
            _ => posted::Shape::Text(value.into_owned()),
        };
        Ok((name.into_owned(), value))
    });
    check_documents(vec![posted::document(members.collect::<Result<_, _>>()?)?])
}
