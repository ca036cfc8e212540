//! Our cookies in a request, found once and independent of its head.

use std::ops::Range;

use http::header::{COOKIE, HeaderValue};

use crate::fields::Fields;

/// The request's `Cookie` field, and the positions of our cookies in it.
///
/// It shares the field's bytes with the head without borrowing, so it can outlive the head.
#[derive(Clone, Default)]
pub struct RequestCookies {
    field: Option<HeaderValue>,
    /// Each from `;` to `;`, in the order of arrival.
    ours: Vec<Range<usize>>,
}

impl std::fmt::Debug for RequestCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl RequestCookies {
    /// Finds the cookies whose name `is_ours`.
    pub fn parse(headers: &Fields, is_ours: impl Fn(&str) -> bool) -> Self {
        let Some(field) = joined(headers.get_all(COOKIE)) else { return Self::default() };
        let bytes = field.as_bytes();
        let (mut ours, mut start) = (Vec::new(), 0);
        for end in memchr::memchr_iter(b';', bytes).chain([bytes.len()]) {
            let pair = bytes.get(start..end).unwrap_or_default();
            let name = memchr::memchr(b'=', pair).and_then(|end| pair.get(..end)).unwrap_or(pair);
            if is_ours(String::from_utf8_lossy(name).trim()) {
                ours.push(start..end);
            }
            start = end + 1;
        }
        Self { field: Some(field), ours }
    }

    /// Name and value of our cookies, in the order of arrival (RFC 6265 section 4.2), without those that are not a pair
    /// or not UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.ours.iter().filter_map(|pair| std::str::from_utf8(self.bytes().get(pair.clone())?).ok());
        pairs.filter_map(|pair| {
            let (name, value) = pair.split_at_checked(memchr::memchr(b'=', pair.as_bytes())?)?;
            Some((name.trim(), value.strip_prefix('=')?.trim()))
        })
    }

    /// The size of the whole field in bytes, including other cookies.
    pub(crate) fn field_length(&self) -> usize {
        self.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.ours.is_empty()
    }

    /// The field without our cookies; `None` if there are no others.
    pub(crate) fn others(&self) -> Option<HeaderValue> {
        let (mut rest, mut start) = (Vec::new(), 0);
        let end = self.field_length();
        for pair in self.ours.iter().cloned().chain(std::iter::once(end..end)) {
            let others = self.bytes().get(start..pair.start).unwrap_or_default();
            let others = others.strip_suffix(b";").unwrap_or(others).trim_ascii();
            if !rest.is_empty() && !others.is_empty() {
                rest.extend_from_slice(b"; ");
            }
            rest.extend_from_slice(others);
            start = pair.end + 1;
        }
        HeaderValue::from_bytes(&rest).ok().filter(|_| !rest.is_empty())
    }

    fn bytes(&self) -> &[u8] {
        self.field.as_ref().map(HeaderValue::as_bytes).unwrap_or_default()
    }
}

/// Joins the lines of `Cookie` into the single one that HTTP/1 allows (RFC 6265 section 5.4, RFC 9113 section 8.2.3).
pub(crate) fn joined<'a>(mut fields: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let (first, second) = (fields.next()?, fields.next());
    let Some(second) = second else { return Some(first.clone()) };
    let fields: Vec<&[u8]> = [first, second].into_iter().chain(fields).map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&fields.join(&b"; "[..])).ok()
}
