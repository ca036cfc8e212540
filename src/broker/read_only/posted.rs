//! Reads the documents of a posted JSON body so strictly that no other parser can find different ones.
//!
//! Refuses members that could name a document elsewhere, members with the same name (parsers take the first or the
//! last), and names that differ only in case. Keeps only the documents in memory.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::refusal::Refusal;

/// Documents of one body.
const MAX_DOCUMENTS: usize = 20;
/// Nested objects and arrays of a body.
const MAX_DEPTH: usize = 127;
/// The members of a GraphQL request (GraphQL over HTTP, section "Request parameters").
const MEMBERS: [&str; 4] = ["query", "operationName", "variables", "extensions"];

/// Extensions that name no document.
const EXTENSIONS: [&str; 2] = ["clientLibrary", "tracing"];

/// The members of an object in order, with repetitions: enough of them to show that there are too many.
pub(super) type Members = Vec<(String, Shape)>;

/// The relevant part of a value. Nothing below its first level is kept.
pub(super) enum Shape {
    Null,
    Text(String),
    /// An object without members other than [`EXTENSIONS`].
    KnownExtensions,
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut known = true;
        while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
            known &= EXTENSIONS.contains(&name.as_str());
        }
        Ok(if known { Shape::KnownExtensions } else { Shape::Other })
    }
}

struct Object(Members);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a GraphQL request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut members = Vec::new();
        while members.len() <= MEMBERS.len() {
            let Some(name) = map.next_key::<String>()? else { return Ok(Object(members)) };
            let value = if matches!(name.as_str(), "query" | "extensions") {
                map.next_value()?
            } else {
                map.next_value::<IgnoredAny>()?;
                Shape::Other
            };
            members.push((name, value));
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Object(members))
    }
}

/// The requests of a batch: enough of them to show that there are too many.
struct Batch(Vec<Object>);

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of GraphQL requests")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Batch, A::Error> {
        let mut objects = Vec::new();
        while objects.len() <= MAX_DOCUMENTS {
            let Some(object) = items.next_element()? else { return Ok(Batch(objects)) };
            objects.push(object);
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Batch(objects))
    }
}

/// The documents of a body: one, or those of a batch.
pub(super) fn documents(body: &[u8]) -> Result<Vec<String>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Unclear("its body is not UTF-8"))?;
    if text.starts_with('\u{feff}') {
        return Err(Refusal::Unclear("its body begins with a byte order mark"));
    }
    if is_too_deep(text) {
        return Err(Refusal::Unclear("its body is nested too deeply"));
    }
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    let objects: Result<Vec<Object>, _> = if text.starts_with('[') {
        serde_json::from_str(text).map(|Batch(objects)| objects)
    } else {
        serde_json::from_str(text).map(|object| vec![object])
    };
    let objects =
        objects.map_err(|_| Refusal::Unclear("its body is neither a JSON object nor an array of JSON objects"))?;
    if objects.is_empty() || objects.len() > MAX_DOCUMENTS {
        return Err(Refusal::Unclear("a batch has at least 1 request and at most 20"));
    }
    objects.into_iter().map(|Object(members)| document(members)).collect()
}

/// The document of one request.
pub(super) fn document(members: Members) -> Result<String, Refusal> {
    let mut query = None;
    let mut seen = Vec::new();
    for (name, value) in members {
        let Some(name) = MEMBERS.iter().find(|known| **known == name) else {
            return Err(Refusal::Unclear("it has a member other than query, operationName, variables and extensions"));
        };
        if seen.contains(name) {
            return Err(Refusal::Unclear("it has two members with the same name"));
        }
        seen.push(*name);
        match (*name, value) {
            ("query", Shape::Text(text)) => query = Some(text),
            ("extensions", value) => check_extensions(&value)?,
            _ => {}
        }
    }
    query.ok_or(Refusal::Unclear("it has no document as its query"))
}

/// Extensions may name a stored document that runs instead of the one sent.
fn check_extensions(extensions: &Shape) -> Result<(), Refusal> {
    match extensions {
        Shape::Null | Shape::KnownExtensions => Ok(()),
        Shape::Text(text) if text.is_empty() => Ok(()),
        Shape::Text(_) | Shape::Other => {
            Err(Refusal::Unclear("its extensions may name a stored document; send the document alone"))
        }
    }
}

/// Whether JSON is nested more deeply than some parsers allow. Brackets in strings count too.
fn is_too_deep(text: &str) -> bool {
    let (mut open, mut string, mut escaped) = (0_usize, false, false);
    text.bytes().any(|byte| {
        if string {
            string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => string = true,
            b'{' | b'[' => open += 1,
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_DEPTH
    })
}
