//! Variables, arguments and the two directives, as JSON values.

use async_graphql_parser::Positioned;
use async_graphql_parser::types::{BaseType, Directive, Field, OperationDefinition};
use serde_json::Value;

use super::{Problem, Variables};

/// The operation's variables: what was sent, else the default, else null where that is allowed.
pub(super) fn variables(operation: &OperationDefinition, sent: Option<&Value>) -> Result<Variables, Problem> {
    let nothing = Variables::new();
    let sent = match sent {
        None | Some(Value::Null) => &nothing,
        Some(Value::Object(sent)) => sent,
        Some(_) => return Err(Problem::new("The variables are not a JSON object")),
    };
    let mut variables = Variables::new();
    for definition in &operation.variable_definitions {
        let name = definition.node.name.node.as_str();
        let declared = &definition.node.var_type.node;
        let default = definition.node.default_value().and_then(|value| value.clone().into_json().ok());
        let value = sent.get(name).cloned().or(default);
        let fits = match (&value, &declared.base) {
            (None | Some(Value::Null), _) => declared.nullable,
            (Some(value), BaseType::Named(kind)) => fits(value, kind.as_str()),
            (Some(_), BaseType::List(_)) => true,
        };
        if !fits {
            let message = format!("Variable '{name}' has an invalid value for the type '{declared}'");
            return Err(Problem::at(definition.pos, message));
        }
        variables.insert(name.to_owned(), value.unwrap_or(Value::Null));
    }
    Ok(variables)
}

fn fits(value: &Value, kind: &str) -> bool {
    match kind {
        "Int" => value.is_i64(),
        "Float" => value.is_number(),
        "Boolean" => value.is_boolean(),
        "String" => value.is_string(),
        "ID" => value.is_string() || value.is_i64(),
        // Input objects are looked at where they are used.
        _ => true,
    }
}

/// An argument of a field; `None` where it is not given, `Err` with the name of an undeclared variable.
pub(super) fn argument(field: &Field, name: &str, variables: &Variables) -> Result<Option<Value>, String> {
    let Some(given) = field.get_argument(name) else { return Ok(None) };
    let value = given.node.clone().into_const_with(|variable| {
        let known = variables.get(variable.as_str()).cloned();
        known.and_then(|value| value.try_into().ok()).ok_or_else(|| variable.to_string())
    })?;
    Ok(value.into_json().ok())
}

/// Whether `@skip` and `@include` let a selection stand.
pub(super) fn included(directives: &[Positioned<Directive>], variables: &Variables) -> bool {
    directives.iter().all(|directive| {
        let wanted = condition(&directive.node, variables);
        match directive.node.name.node.as_str() {
            "skip" => wanted != Some(true),
            _ => wanted != Some(false),
        }
    })
}

/// The `if` of a directive; `None` where it is not a boolean.
pub(super) fn condition(directive: &Directive, variables: &Variables) -> Option<bool> {
    let value = directive.get_argument("if")?.node.clone();
    let value = value.into_const_with(|variable| {
        let known = variables.get(variable.as_str()).cloned();
        known.and_then(|value| value.try_into().ok()).ok_or(())
    });
    value.ok()?.into_json().ok()?.as_bool()
}
