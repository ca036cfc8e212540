//! The sandbox's schema, read from `schema.graphql`, and that of introspection.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use async_graphql_parser::parse_schema;
use async_graphql_parser::types::{BaseType, FieldDefinition, Type, TypeDefinition, TypeKind, TypeSystemDefinition};
use serde_json::Value;

static TYPES: LazyLock<Vec<TypeDefinition>> = LazyLock::new(|| {
    let files = [include_str!("schema.graphql"), include_str!("introspection.graphql")];
    let definitions = files.iter().flat_map(|file| parse_schema(file).expect("it is part of the program").definitions);
    let types = definitions.filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(definition.node),
        TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
    });
    types.collect()
});

/// What stands for the two fields of introspection that every query has.
const ROOT: &str = "__Root";

/// The name of each type, also of those that are only referred to.
pub(super) fn names() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for known in TYPES.iter().filter(|known| known.name.node != ROOT) {
        names.insert(known.name.node.as_str());
        match &known.kind {
            TypeKind::Object(object) => {
                for field in &object.fields {
                    names.insert(named(&field.node.ty.node));
                    names.extend(field.node.arguments.iter().map(|argument| named(&argument.node.ty.node)));
                }
            }
            TypeKind::InputObject(input) => names.extend(input.fields.iter().map(|field| named(&field.node.ty.node))),
            TypeKind::Scalar | TypeKind::Interface(_) | TypeKind::Union(_) | TypeKind::Enum(_) => {}
        }
    }
    names
}

pub(super) fn kind(name: &str) -> Option<&'static TypeKind> {
    TYPES.iter().find(|known| known.name.node == name).map(|known| &known.kind)
}

/// Whether `name` is an object type, so that its fields have to be selected.
pub(super) fn is_object(name: &str) -> bool {
    matches!(kind(name), Some(TypeKind::Object(_)))
}

pub(super) fn field(object: &str, name: &str) -> Option<&'static FieldDefinition> {
    let object = if object == "Query" && name.starts_with("__") { ROOT } else { object };
    let TypeKind::Object(object) = kind(object)? else { return None };
    object.fields.iter().map(|field| &field.node).find(|field| field.name.node == name)
}

/// The type's name without lists and `!`.
pub(super) fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(of) => named(of),
    }
}

/// Whether a value, or its absence, fits an input type. Types that are not in the schema take any value; the schema's
/// `Int` arguments are counts, so no `Int` is negative.
pub(super) fn accepts(ty: &Type, value: Option<&Value>) -> bool {
    let Some(value) = value.filter(|value| !value.is_null()) else { return ty.nullable };
    match (&ty.base, value) {
        (BaseType::List(of), Value::Array(list)) => list.iter().all(|one| accepts(of, Some(one))),
        // A single value stands for a list of one.
        (BaseType::List(of), one) => accepts(of, Some(one)),
        (BaseType::Named(name), value) => match name.as_str() {
            "Int" => value.is_u64(),
            "Float" => value.is_number(),
            "Boolean" => value.is_boolean(),
            "String" => value.is_string(),
            "ID" => value.is_string() || value.is_i64(),
            other => accepts_object(other, value),
        },
    }
}

fn accepts_object(name: &str, value: &Value) -> bool {
    let Some(TypeKind::InputObject(input)) = kind(name) else { return true };
    let known = |key: &String| input.fields.iter().any(|field| field.node.name.node == *key);
    value.as_object().is_some_and(|given| {
        given.keys().all(known)
            && input.fields.iter().all(|field| accepts(&field.node.ty.node, given.get(field.node.name.node.as_str())))
    })
}
