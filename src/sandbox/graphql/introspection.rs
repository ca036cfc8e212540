//! Introspection (GraphQL, section 4): the schema, as values of its own types.
//!
//! Types refer to each other by name, `{"named": "User"}`, and each is described only when a query walks into it, so that
//! circles end where the query does.

use async_graphql_parser::Positioned;
use async_graphql_parser::types::{BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind};
use serde_json::{Value, json};

use super::schema;

pub(super) fn schema() -> Value {
    json!({
        "types": schema::names().iter().map(|name| named(name)).collect::<Vec<_>>(),
        "queryType": named("Query"),
        "mutationType": named("Mutation"),
        "directives": [directive("include"), directive("skip")],
    })
}

pub(super) fn find(name: &str) -> Value {
    if schema::names().contains(&name) { named(name) } else { Value::Null }
}

/// A value of the type `__Type`, with what its name stands for.
pub(super) fn describe(value: Value) -> Value {
    let Some(name) = value.get("named").and_then(Value::as_str) else { return value };
    match schema::kind(name) {
        Some(TypeKind::Object(object)) => {
            let fields: Vec<_> = object.fields.iter().map(|one| field(&one.node)).collect();
            json!({"kind": "OBJECT", "name": name, "fields": fields, "interfaces": []})
        }
        Some(TypeKind::InputObject(input)) => {
            json!({"kind": "INPUT_OBJECT", "name": name, "inputFields": inputs(&input.fields), "isOneOf": false})
        }
        // The schema has no others; a name that it does not declare is a scalar.
        None | Some(TypeKind::Scalar | TypeKind::Interface(_) | TypeKind::Union(_) | TypeKind::Enum(_)) => {
            json!({"kind": "SCALAR", "name": name})
        }
    }
}

fn named(name: &str) -> Value {
    json!({ "named": name })
}

fn reference(ty: &Type) -> Value {
    let nullable = match &ty.base {
        BaseType::Named(name) => named(name),
        BaseType::List(of) => json!({"kind": "LIST", "ofType": reference(of)}),
    };
    if ty.nullable { nullable } else { json!({"kind": "NON_NULL", "ofType": nullable}) }
}

fn field(field: &FieldDefinition) -> Value {
    json!({
        "name": field.name.node, "args": inputs(&field.arguments), "type": reference(&field.ty.node), "isDeprecated": false,
    })
}

fn inputs(inputs: &[Positioned<InputValueDefinition>]) -> Vec<Value> {
    let input = |input: &InputValueDefinition| {
        let default = input.default_value.as_ref().map(|default| default.node.to_string());
        json!({
            "name": input.name.node, "type": reference(&input.ty.node), "defaultValue": default, "isDeprecated": false,
        })
    };
    inputs.iter().map(|one| input(&one.node)).collect()
}

fn directive(name: &str) -> Value {
    let condition = json!({"kind": "NON_NULL", "ofType": named("Boolean")});
    json!({
        "name": name, "isRepeatable": false, "locations": ["FIELD", "FRAGMENT_SPREAD", "INLINE_FRAGMENT"],
        "args": [{"name": "if", "type": condition, "isDeprecated": false}],
    })
}
