//! Reads the documents of a posted JSON body, so strictly that no other parser can find others in it.
//!
//! Members that could name a document elsewhere are refused, and so are two members with one name, of which parsers take the
//! first or the last, and names that differ only in case.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::refusal::Refusal;

/// Documents of one body.
const MAX_DOCUMENTS: usize = 20;
/// The members of a GraphQL request (GraphQL over HTTP, section "Request parameters").
const MEMBERS: [&str; 4] = ["query", "operationName", "variables", "extensions"];

/// The members of an object in their order, with repetitions.
pub(super) type Members = Vec<(String, Value)>;

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
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Object(members))
    }
}

/// The documents of a body: one, or those of a batch.
pub(super) fn documents(body: &[u8]) -> Result<Vec<String>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Unclear("its body is not UTF-8"))?;
    if text.starts_with('\u{feff}') {
        return Err(Refusal::Unclear("its body begins with a byte order mark"));
    }
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    let objects: Result<Vec<Object>, _> = if text.starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|object| vec![object])
    };
    let objects = objects.map_err(|_| Refusal::Unclear("its body is not a JSON object, nor an array of some"))?;
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
            return Err(Refusal::Unclear("it has two members of one name"));
        }
        seen.push(*name);
        match (*name, value) {
            ("query", Value::String(text)) => query = Some(text),
            ("extensions", value) => check_extensions(&value)?,
            _ => {}
        }
    }
    query.ok_or(Refusal::Unclear("it has no document as its query"))
}

/// They may name a stored document that runs instead of the one that is sent.
fn check_extensions(extensions: &Value) -> Result<(), Refusal> {
    let known = |name: &String| name == "clientLibrary" || name == "tracing";
    match extensions {
        Value::Null => Ok(()),
        Value::String(text) if text.is_empty() => Ok(()),
        Value::Object(members) if members.keys().all(known) => Ok(()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(Refusal::Unclear("its extensions may name a stored document; send the document alone"))
        }
    }
}
