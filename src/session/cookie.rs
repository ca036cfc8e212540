//! Cookies: reading every one of a name, writing within what browsers keep, clearing with the same attributes.
//!
//! In: `Cookie` fields, sealed text. Out: candidates to open, `Set-Cookie` values. It knows nothing of what is inside.
//!
//! A value that passes 4,096 bytes with its name is split (RFC 6265bis section 5.6: a browser drops more without a word):
//! the first piece says how many there are, `NAME=3.…`, `NAME-1=…`, `NAME-2=…`.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderMap, HeaderValue};

/// Bytes of name and value together that a browser keeps.
const MOST: usize = 4096;
/// Bytes of a piece, with its name; less than [`MOST`] for those who count attributes too.
const PIECE: usize = 3900;
/// Pieces at the most.
pub(crate) const MAX_CHUNKS: usize = 5;
/// Ways of putting the pieces of one first piece together that are tried, where somebody planted others of the same name.
const MAX_COMBINATIONS: usize = 64;
/// Times that two pieces are put together for one request, so that no head makes us build more than it is worth.
const MAX_JOINS: usize = 512;

/// A cookie's name and the attributes it is always set and cleared with.
#[derive(Clone, Debug)]
pub struct Jar {
    name: String,
    secure: bool,
}

/// The value does not fit [`MAX_CHUNKS`] cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session needs {bytes} bytes, more than {MAX_CHUNKS} cookies hold")]
pub struct TooLarge {
    /// Bytes of the sealed value.
    pub bytes: usize,
}

impl Jar {
    /// For cookies called `name` and, in pieces, `name-1` and so on.
    pub fn new(name: impl Into<String>, secure: bool) -> Self {
        Self { name: name.into(), secure }
    }

    /// The name of the first piece.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a cookie of this name is one of this jar's, pieces included.
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(self.name.as_str()).is_some_and(|rest| {
            rest.is_empty() || matches!(rest.as_bytes(), [b'-', digit] if (b'1'..=b'9').contains(digit))
        })
    }

    /// Bytes of the value in each piece but the last.
    fn piece_room(&self) -> usize {
        PIECE.saturating_sub(self.name.len() + 2)
    }

    fn piece_name(&self, place: usize) -> String {
        if place == 0 { self.name.clone() } else { format!("{}-{place}", self.name) }
    }

    /// Every value that the request's cookies of this name can stand for, in the order they came.
    pub fn candidates<'a>(&self, headers: &'a HeaderMap) -> Vec<Cow<'a, str>> {
        let mut first = Vec::new();
        let mut pieces: [Vec<Cow<'a, str>>; MAX_CHUNKS] = Default::default();
        for (name, value) in pairs(headers) {
            let Some(rest) = name.strip_prefix(self.name.as_str()) else { continue };
            if rest.is_empty() {
                first.push(value);
            } else if let Some(list) = piece_place(rest).and_then(|place| pieces.get_mut(place)) {
                list.push(value);
            }
        }
        // All pieces but the last are of one length: what has it is tried first, then the longest, so that whoever plants
        // others needs many bytes of a head that has a bound.
        let full = self.piece_room();
        for list in &mut pieces {
            list.sort_by_key(|piece| (piece.len() != full, Reverse(piece.len())));
        }
        let (cut, plain): (Vec<_>, Vec<_>) = first.into_iter().partition(|value| split_count(value).is_some());
        // What we never set is not worth an opening.
        let mut found: Vec<_> = plain.into_iter().filter(|value| value.len() <= MOST).collect();
        let mut cut: Vec<_> = cut.iter().filter_map(|value| split_count(value)).collect();
        cut.sort_by_key(|(_, head)| head.len() != full);
        let (mut joins, mut likely) = (MAX_JOINS, cut.iter().filter(|(_, head)| head.len() == full).count());
        for (count, head) in cut {
            // The likely ones share alike; the others have what is left.
            let mut own = joins / likely.max(1);
            (joins, likely) = (joins - own, likely.saturating_sub(1));
            let whole = combine(head, pieces.get(1..count).unwrap_or_default(), &mut own);
            joins += own;
            found.extend(whole.into_iter().map(Cow::Owned));
        }
        found
    }

    /// The `Set-Cookie` values that make `value` the browser's, and clear what an earlier, longer value left behind.
    pub fn set(&self, value: &str, max_age: Duration, seen: &HeaderMap) -> Result<Vec<HeaderValue>, TooLarge> {
        let pieces = self.split(value)?;
        let mut lines: Vec<HeaderValue> = pieces
            .iter()
            .enumerate()
            .filter_map(|(place, piece)| self.line(&self.piece_name(place), piece, max_age))
            .collect();
        lines.extend(self.surplus(pieces.len(), seen));
        Ok(lines)
    }

    /// The `Set-Cookie` values that clear every cookie of this jar: the first always, pieces where the request had them.
    pub fn clear(&self, seen: &HeaderMap) -> Vec<HeaderValue> {
        let mut lines: Vec<HeaderValue> = self.line(&self.name, "", Duration::ZERO).into_iter().collect();
        lines.extend(self.surplus(1, seen));
        lines
    }

    fn surplus(&self, from: usize, seen: &HeaderMap) -> Vec<HeaderValue> {
        let mut places: Vec<usize> = pairs(seen)
            .filter_map(|(name, _)| name.strip_prefix(self.name.as_str()).and_then(piece_place))
            .filter(|place| *place >= from)
            .collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.line(&self.piece_name(place), "", Duration::ZERO)).collect()
    }

    fn split(&self, value: &str) -> Result<Vec<String>, TooLarge> {
        if self.name.len() + value.len() <= MOST {
            return Ok(vec![value.to_owned()]);
        }
        let room = self.piece_room();
        let count = value.len().div_ceil(room);
        if count > MAX_CHUNKS {
            return Err(TooLarge { bytes: value.len() });
        }
        let mut pieces = Vec::with_capacity(count);
        let mut rest = value;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at_checked(room.min(rest.len())).ok_or(TooLarge { bytes: value.len() })?;
            pieces.push(if pieces.is_empty() { format!("{count}.{piece}") } else { piece.to_owned() });
            rest = more;
        }
        Ok(pieces)
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
        HeaderValue::from_str(&cookie.to_string()).ok()
    }
}

/// Every name and value of the request's cookies (RFC 6265 section 4.2); what is no pair, or no UTF-8, is passed over by
/// itself: a cookie of somebody else's in another encoding must not hide ours.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
        .map(|(name, value)| (name.trim(), Cow::Borrowed(value.trim())))
}

fn piece_place(rest: &str) -> Option<usize> {
    match rest.as_bytes() {
        [b'-', digit @ b'1'..=b'4'] => Some(usize::from(digit - b'0')),
        _ => None,
    }
}

/// `3.…` → 3 and the rest; sealed text itself has no dot.
fn split_count(value: &str) -> Option<(usize, &str)> {
    let (count, head) = value.split_once('.')?;
    match count.as_bytes() {
        [digit @ b'2'..=b'5'] => Some((usize::from(digit - b'0'), head)),
        _ => None,
    }
}

/// The ways of putting a piece of each place behind `head`, none longer than we ever set, as long as `joins` last.
fn combine(head: &str, pieces: &[Vec<Cow<'_, str>>], joins: &mut usize) -> Vec<String> {
    let mut whole = vec![head.to_owned()];
    for piece in pieces {
        let most = MAX_COMBINATIONS.min(*joins);
        whole = whole
            .iter()
            .flat_map(|start| piece.iter().map(move |next| (start, next)))
            .filter(|(start, next)| start.len() + next.len() <= MOST * MAX_CHUNKS)
            .map(|(start, next)| format!("{start}{next}"))
            .take(most)
            .collect();
        *joins -= whole.len();
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(lines: &[HeaderValue]) -> HeaderMap {
        let pairs: Vec<String> = lines
            .iter()
            .filter(|line| !line.to_str().unwrap().contains("Max-Age=0"))
            .map(|line| line.to_str().unwrap().split(';').next().unwrap().to_owned())
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, pairs.join("; ").parse().unwrap());
        headers
    }

    #[test]
    fn a_short_value_is_one_cookie_with_its_attributes() {
        let jar = Jar::new("__Host-upwarden", true);
        let lines = jar.set("abc", Duration::from_secs(60), &HeaderMap::new()).unwrap();
        assert_eq!(lines, ["__Host-upwarden=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"]);
        assert_eq!(jar.candidates(&sent(&lines)), ["abc"]);
    }

    #[test]
    fn a_long_value_is_split_with_a_count_and_comes_back_whole() {
        let jar = Jar::new("__Host-upwarden", true);
        for length in [4080, 4081, 4082, 8000, 12_000, 19_000] {
            let value = "x".repeat(length);
            let lines = jar.set(&value, Duration::from_secs(60), &HeaderMap::new()).unwrap();
            assert!(lines.len() <= MAX_CHUNKS);
            for line in &lines {
                let pair = line.to_str().unwrap().split(';').next().unwrap();
                assert!(pair.len() <= MOST + 1, "{}", pair.len());
            }
            assert_eq!(jar.candidates(&sent(&lines)), [value]);
        }
        assert_eq!(jar.set(&"x".repeat(20_000), Duration::ZERO, &HeaderMap::new()), Err(TooLarge { bytes: 20_000 }));
    }

    #[test]
    fn surplus_chunks_are_cleared() {
        let jar = Jar::new("upwarden", false);
        let long = jar.set(&"x".repeat(9_000), Duration::from_secs(60), &HeaderMap::new()).unwrap();
        let seen = sent(&long);
        let lines = jar.set("short", Duration::from_secs(60), &seen).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].to_str().unwrap().starts_with("upwarden-1=; "), "{lines:?}");
        assert!(lines[2].to_str().unwrap().contains("Max-Age=0"), "{lines:?}");
        assert_eq!(jar.clear(&seen).len(), 3);
    }

    #[test]
    fn every_cookie_of_the_name_is_a_candidate() {
        let jar = Jar::new("upwarden", false);
        let mut headers = HeaderMap::new();
        let planted: Vec<String> = (0..1000).map(|n| format!("upwarden={n}")).collect();
        headers.insert(COOKIE, planted.join("; ").parse().unwrap());
        headers.append(COOKIE, "other=1; upwarden=real; upwarden-login-1=x; =; noise".parse().unwrap());
        let found = jar.candidates(&headers);
        assert_eq!(found.len(), 1001);
        assert_eq!(found[1000], "real");
    }

    #[test]
    fn planted_pieces_do_not_hide_the_real_ones_and_are_bounded() {
        let jar = Jar::new("upwarden", false);
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "upwarden=2.a; upwarden-1=planted; upwarden-1=b".parse().unwrap());
        assert_eq!(jar.candidates(&headers), ["aplanted", "ab"]);
        let many: Vec<String> =
            (0..100).flat_map(|n| (1..5).map(move |place| format!("upwarden-{place}={n}"))).collect();
        headers.insert(COOKIE, format!("upwarden=5.a; {}", many.join("; ")).parse().unwrap());
        assert!(jar.candidates(&headers).len() <= MAX_COMBINATIONS);
    }

    #[test]
    fn a_session_in_pieces_is_found_among_many_that_somebody_planted() {
        let jar = Jar::new("upwarden", false);
        for length in [4_200, 9_000, 15_000] {
            let value = "r".repeat(length);
            let lines = jar.set(&value, Duration::from_secs(60), &HeaderMap::new()).unwrap();
            let real = sent(&lines)[COOKIE].to_str().unwrap().to_owned();
            let firsts = "upwarden=5.a; ".repeat(1000);
            let pieces: String = (1..5).map(|place| format!("upwarden-{place}=x; ").repeat(200)).collect();
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, format!("{firsts}{pieces}{real}").parse().unwrap());
            let found = jar.candidates(&headers);
            assert!(found.iter().any(|found| *found == value), "{length}");
            assert!(found.len() <= MAX_JOINS);
        }
    }

    #[test]
    fn many_first_pieces_with_many_others_build_no_more_than_a_bound() {
        let jar = Jar::new("upwarden", false);
        let pieces: Vec<String> =
            (1..5).flat_map(|place| vec![format!("upwarden-{place}={}", "x".repeat(3000)); 3]).collect();
        let mut headers = HeaderMap::new();
        let firsts = "upwarden=5.a; ".repeat(1500);
        headers.insert(COOKIE, format!("{firsts}{}", pieces.join("; ")).parse().unwrap());
        assert!(headers[COOKIE].len() < 64 << 10);
        let found = jar.candidates(&headers);
        let bytes: usize = found.iter().map(|value| value.len()).sum();
        assert!(found.len() <= MAX_JOINS && bytes < 8 << 20, "{} candidates of {bytes} bytes", found.len());
    }

    #[test]
    fn a_value_longer_than_we_ever_set_is_no_candidate() {
        let jar = Jar::new("upwarden", false);
        let mut headers = HeaderMap::new();
        let long = "x".repeat(30_000);
        headers.insert(COOKIE, format!("upwarden={long}; upwarden=2.a; upwarden-1={long}").parse().unwrap());
        assert!(jar.candidates(&headers).is_empty());
    }

    #[test]
    fn another_cookie_in_another_encoding_does_not_hide_ours() {
        let jar = Jar::new("upwarden", false);
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_bytes(b"theme=caf\xe9; upwarden=real; x=\xff").unwrap());
        assert_eq!(jar.candidates(&headers), ["real"]);
    }

    #[test]
    fn it_owns_its_pieces_and_nothing_else() {
        let jar = Jar::new("upwarden", false);
        assert!(jar.owns("upwarden") && jar.owns("upwarden-1"));
        assert!(!jar.owns("upwarden-login-1") && !jar.owns("upwardenx") && !jar.owns("theme"));
    }
}
