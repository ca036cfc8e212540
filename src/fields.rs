//! The fields of a message, in the order in which they came and, over HTTP/1, with the spelling of their names (RFC
//! 9110 section 5).
//!
//! A message has few fields, and the code looks up many that it does not have. So this is a list, which knows at once
//! that a name is missing; `http::HeaderMap` hashes every name that is looked up.

use std::borrow::Borrow;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

#[derive(Clone, Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    names: Names,
    /// The head as it was read.
    head: Bytes,
}

#[derive(Clone, Debug)]
struct Field {
    name: HeaderName,
    value: HeaderValue,
    /// Where its name stands in the head, if it was read there.
    spelled: Option<u32>,
}

impl Fields {
    /// For fields read from `head`, about `count` of them.
    pub(crate) fn of_head(head: Bytes, count: usize) -> Self {
        Self { list: Vec::with_capacity(count), names: Names::default(), head }
    }

    /// Adds a field whose name is spelled at this place of the head.
    pub(crate) fn read(&mut self, spelled: usize, name: HeaderName, value: HeaderValue) {
        self.names.add(&name);
        self.list.push(Field { name, value, spelled: u32::try_from(spelled).ok() });
    }

    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.names.add(&name);
        self.list.push(Field { name, value, spelled: None });
    }

    /// Replaces every line of a field.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.strip(&name);
        self.append(name, value);
    }

    /// Removes every line of a field.
    pub fn strip(&mut self, name: &HeaderName) {
        if self.contains_key(name) {
            self.list.retain(|field| field.name != name);
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        self.list.retain(|field| keep(&field.name, &field.value));
    }

    pub fn contains_key(&self, name: impl Borrow<HeaderName>) -> bool {
        self.get(name).is_some()
    }

    /// The first line of a field.
    pub fn get(&self, name: impl Borrow<HeaderName>) -> Option<&HeaderValue> {
        let name = name.borrow();
        let list = if self.names.may_have(name) { self.list.as_slice() } else { &[] };
        list.iter().find(|field| field.name == name).map(|field| &field.value)
    }

    /// Every line of a field.
    pub fn get_all<N: Borrow<HeaderName>>(
        &self,
        name: N,
    ) -> impl DoubleEndedIterator<Item = &HeaderValue> + use<'_, N> {
        let list = if self.names.may_have(name.borrow()) { self.list.as_slice() } else { &[] };
        list.iter().filter(move |field| field.name == name.borrow()).map(|field| &field.value)
    }

    /// All lines of a field, for changing them.
    pub(crate) fn get_all_mut(&mut self, name: &HeaderName) -> impl Iterator<Item = &mut HeaderValue> {
        self.list.iter_mut().filter(move |field| field.name == name).map(|field| &mut field.value)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.list.iter().map(|field| (&field.name, &field.value))
    }

    /// Each line with its name as it was spelled.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.list.iter().map(|Field { name, value, spelled }| {
            let spelled = spelled.and_then(|at| self.head.get(at as usize..)?.get(..name.as_str().len()));
            Line { name, spelled: spelled.unwrap_or(name.as_str().as_bytes()), value }
        })
    }
}

/// A field as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub name: &'a HeaderName,
    /// The name as it was spelled where it came from.
    pub(crate) spelled: &'a [u8],
    pub value: &'a HeaderValue,
}

impl<'a> From<(&'a HeaderName, &'a HeaderValue)> for Line<'a> {
    fn from((name, value): (&'a HeaderName, &'a HeaderValue)) -> Self {
        Self { name, spelled: name.as_str().as_bytes(), value }
    }
}

/// The names that a list may have: a bit for each, which some share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names(u64);

impl Names {
    pub(crate) fn add(&mut self, name: &HeaderName) {
        self.0 |= Self::bit(name);
    }

    pub(crate) fn may_have(self, name: &HeaderName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    fn bit(name: &HeaderName) -> u64 {
        let name = name.as_str().as_bytes();
        let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
        1 << ((usize::from(first) + usize::from(last) + 11 * name.len()) % 64)
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::of_head(Bytes::new(), map.len());
        let mut current = None;
        for (name, value) in map {
            // Only a field's first line has its name.
            current = name.or(current);
            if let Some(name) = current.clone() {
                fields.append(name, value);
            }
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        fields.list.into_iter().map(|field| (field.name, field.value)).collect()
    }
}

impl Extend<(HeaderName, HeaderValue)> for Fields {
    fn extend<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, lines: T) {
        for (name, value) in lines {
            self.append(name, value);
        }
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: T) -> Self {
        let mut fields = Self::default();
        fields.extend(lines);
        fields
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST, VIA};

    use super::*;

    fn fields() -> Fields {
        let text = |text| HeaderValue::from_static(text);
        [(HOST, text("a")), (ACCEPT, text("x/y")), (COOKIE, text("a=1")), (ACCEPT, text("*/*"))].into_iter().collect()
    }

    fn shown(fields: &Fields) -> String {
        let lines = fields.lines().map(|line| [line.spelled, b": ", line.value.as_bytes()].concat());
        String::from_utf8(lines.collect::<Vec<_>>().join(&b", "[..])).unwrap()
    }

    #[test]
    fn every_line_is_found_in_its_order() {
        let fields = fields();
        assert!(fields.get(HOST).unwrap() == "a" && fields.get(ACCEPT).unwrap() == "x/y");
        assert_eq!(fields.get_all(ACCEPT).collect::<Vec<_>>(), ["x/y", "*/*"]);
        assert_eq!(fields.get_all(ACCEPT).rev().collect::<Vec<_>>(), ["*/*", "x/y"]);
        assert_eq!((fields.get(VIA), fields.get_all(VIA).count(), fields.len()), (None, 0, 4));
    }

    #[test]
    fn names_that_share_a_bit_are_told_apart() {
        let names = (0..200_u32).map(|number| HeaderName::try_from(format!("x-{number}")).unwrap());
        let (even, odd): (Vec<_>, Vec<_>) = names.partition(|name| name.as_str().ends_with(['0', '2', '4', '6', '8']));
        let fields: Fields = even.iter().map(|name| (name.clone(), HeaderValue::from_static("1"))).collect();
        assert!(even.iter().all(|name| fields.contains_key(name)) && !odd.iter().any(|name| fields.contains_key(name)));
    }

    #[test]
    fn a_field_that_is_set_or_stripped_has_no_other_line() {
        let mut fields = fields();
        fields.insert(ACCEPT, HeaderValue::from_static("z"));
        assert_eq!(shown(&fields), "host: a, cookie: a=1, accept: z");
        fields.strip(&ACCEPT);
        assert_eq!((fields.contains_key(ACCEPT), shown(&fields)), (false, "host: a, cookie: a=1".to_owned()));
    }

    #[test]
    fn a_map_keeps_every_line() {
        let map: HeaderMap = fields().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let again = Fields::from(map);
        assert_eq!((again.len(), again.get_all(ACCEPT).count()), (4, 2));
    }

    #[test]
    fn a_name_is_written_as_it_was_spelled() {
        let mut fields = Fields::of_head(Bytes::from_static(b"hOST: a\r\n\r\n"), 1);
        fields.read(0, HOST, HeaderValue::from_static("a"));
        fields.append(COOKIE, HeaderValue::from_static("b"));
        assert_eq!(shown(&fields), "hOST: a, cookie: b");
    }
}
