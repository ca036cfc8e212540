//! One of our cookies: reads, sets and clears it, always with the same attributes. The session's cookie and those of
//! sign-ins each use a [`Jar`], so an attribute that is added here applies to all of them.
//!
//! A value that exceeds 4,096 bytes with its name is split, since browsers silently drop a larger cookie (RFC 6265bis
//! section 5.6). The first chunk says how many there are: `NAME=3.…`, `NAME-1=…`, `NAME-2=…`.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::header::HeaderValue;

use super::RequestCookies;

/// The maximum size of name and value together that browsers keep, in bytes.
pub(super) const MAX_COOKIE: usize = 4096;
/// The maximum size of a chunk with its name; less than [`MAX_COOKIE`] for browsers that count the attributes too.
const MAX_CHUNK: usize = 3900;
/// Chunks of one value.
pub(super) const MAX_CHUNKS: usize = 5;
/// Combinations tried for one first chunk, where a request has several chunks of the same name.
pub(super) const MAX_COMBINATIONS: usize = 64;
/// Joins of two chunks per request, which bounds the work that a request head can cause.
pub(super) const MAX_JOINS: usize = 512;

#[derive(Clone, Debug)]
pub struct Jar {
    name: String,
    secure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session needs {bytes} bytes, more than {MAX_CHUNKS} cookies hold")]
pub struct TooLarge {
    pub bytes: usize,
}

impl Jar {
    /// For the cookie `name` and, if its value is split, `name-1` to `name-4`.
    pub fn new(name: impl Into<String>, secure: bool) -> Self {
        Self { name: name.into(), secure }
    }

    /// The name of the first chunk.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether a cookie of this name belongs to this jar, chunks included.
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(self.name.as_str()).is_some_and(|rest| {
            rest.is_empty() || matches!(rest.as_bytes(), [b'-', digit] if (b'1'..=b'9').contains(digit))
        })
    }

    pub(crate) fn is_shown(&self, cookies: &RequestCookies) -> bool {
        cookies.iter().any(|(name, _)| self.owns(name))
    }

    /// Bytes of the value in each chunk but the last.
    fn chunk_capacity(&self) -> usize {
        MAX_CHUNK.saturating_sub(self.name.len() + 2)
    }

    fn chunk_name(&self, index: usize) -> String {
        if index == 0 { self.name.clone() } else { format!("{}-{index}", self.name) }
    }

    /// Every value that the request's cookies of this name may represent, in the order of arrival.
    pub fn candidates<'a>(&self, cookies: &'a RequestCookies) -> Vec<Cow<'a, str>> {
        let mut first = Vec::new();
        let mut chunks: [Vec<&str>; MAX_CHUNKS] = Default::default();
        for (name, value) in cookies.iter() {
            let Some(rest) = name.strip_prefix(self.name.as_str()) else { continue };
            if rest.is_empty() {
                first.push(value);
            } else if let Some(list) = chunk_index(rest).and_then(|index| chunks.get_mut(index)) {
                list.push(value);
            }
        }
        // All chunks but the last have the same length. Try those first, then the longest, so that planted chunks cost
        // many bytes of the limited head.
        let full = self.chunk_capacity();
        for list in &mut chunks {
            list.sort_by_key(|chunk| (chunk.len() != full, Reverse(chunk.len())));
        }
        let (mut split, mut found) = (Vec::new(), Vec::new());
        for value in first {
            match split_count(value) {
                Some(counted) => split.push(counted),
                // We never set a longer one, so it is not one of ours.
                None if value.len() <= MAX_COOKIE => found.push(Cow::Borrowed(value)),
                None => {}
            }
        }
        split.sort_by_key(|(_, head)| head.len() != full);
        let (mut joins, mut likely) = (MAX_JOINS, split.iter().filter(|(_, head)| head.len() == full).count());
        for (count, head) in split {
            // First chunks of the full length share the joins equally; the others get the remainder.
            let mut own = joins / likely.max(1);
            (joins, likely) = (joins - own, likely.saturating_sub(1));
            let whole = combine(head, chunks.get(1..count).unwrap_or_default(), &mut own);
            joins += own;
            found.extend(whole.into_iter().map(Cow::Owned));
        }
        found
    }

    /// The `Set-Cookie` values that set `value`, and clear chunks of an earlier, longer value.
    pub fn set(&self, value: &str, max_age: Duration, seen: &RequestCookies) -> Result<Vec<HeaderValue>, TooLarge> {
        let chunks = self.split(value)?;
        let named = chunks.iter().enumerate().map(|(index, chunk)| (self.chunk_name(index), chunk));
        let lines = named.filter_map(|(name, chunk)| self.line(&name, chunk, max_age));
        Ok(lines.chain(self.clear_chunks(chunks.len(), seen)).collect())
    }

    /// The `Set-Cookie` values that clear every cookie of this jar: always the first, and the chunks that the request
    /// has.
    pub fn clear(&self, seen: &RequestCookies) -> Vec<HeaderValue> {
        self.line(&self.name, "", Duration::ZERO).into_iter().chain(self.clear_chunks(1, seen)).collect()
    }

    /// The same, but none if the request has no cookie of this jar.
    pub(crate) fn clear_shown(&self, seen: &RequestCookies) -> Vec<HeaderValue> {
        if self.is_shown(seen) { self.clear(seen) } else { Vec::new() }
    }

    fn clear_chunks(&self, from: usize, seen: &RequestCookies) -> impl Iterator<Item = HeaderValue> {
        let index = |name: &str| name.strip_prefix(self.name.as_str()).and_then(chunk_index);
        let shown: BTreeSet<usize> = seen.iter().filter_map(|(name, _)| index(name)).collect();
        let surplus = shown.into_iter().filter(move |index| *index >= from);
        surplus.filter_map(|index| self.line(&self.chunk_name(index), "", Duration::ZERO))
    }

    fn split(&self, value: &str) -> Result<Vec<String>, TooLarge> {
        if self.name.len() + value.len() <= MAX_COOKIE {
            return Ok(vec![value.to_owned()]);
        }
        let capacity = self.chunk_capacity();
        let count = value.len().div_ceil(capacity);
        if count > MAX_CHUNKS {
            return Err(TooLarge { bytes: value.len() });
        }
        let mut chunks = Vec::with_capacity(count);
        let mut rest = value;
        while !rest.is_empty() {
            let (chunk, more) =
                rest.split_at_checked(capacity.min(rest.len())).ok_or(TooLarge { bytes: value.len() })?;
            chunks.push(if chunks.is_empty() { format!("{count}.{chunk}") } else { chunk.to_owned() });
            rest = more;
        }
        Ok(chunks)
    }

    fn line(&self, name: &str, value: &str, max_age: Duration) -> Option<HeaderValue> {
        let age = cookie::time::Duration::try_from(max_age).unwrap_or(cookie::time::Duration::days(400));
        let cookie = Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Lax)
            .max_age(age)
            .build();
        HeaderValue::try_from(cookie.to_string()).ok()
    }
}

fn chunk_index(suffix: &str) -> Option<usize> {
    match suffix.as_bytes() {
        [b'-', digit @ b'1'..=b'4'] => Some(usize::from(digit - b'0')),
        _ => None,
    }
}

/// `3.…` → 3 and the rest; sealed text itself has no dot.
fn split_count(value: &str) -> Option<(usize, &str)> {
    let head = value.get(1..)?.strip_prefix('.')?;
    let digit = value.bytes().next().filter(|digit| (b'2'..=b'5').contains(digit))?;
    Some((usize::from(digit - b'0'), head))
}

/// The combinations of `head` with one chunk of each index, up to the longest value that we set, until `joins` run out.
fn combine(head: &str, chunks: &[Vec<&str>], joins: &mut usize) -> Vec<String> {
    let mut whole = vec![head.to_owned()];
    for list in chunks {
        let most = MAX_COMBINATIONS.min(*joins);
        whole = whole
            .iter()
            .flat_map(|start| list.iter().map(move |next| (start, next)))
            .filter(|(start, next)| start.len() + next.len() <= MAX_COOKIE * MAX_CHUNKS)
            .map(|(start, next)| format!("{start}{next}"))
            .take(most)
            .collect();
        *joins -= whole.len();
    }
    whole
}
