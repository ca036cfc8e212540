//! The values of variables and arguments, as JSON.

use async_graphql_parser::types::OperationDefinition;
use async_graphql_value::Value as Literal;
use serde_json::{Map, Value};

use super::error::ValidationError;
use super::schema;

/// Each declared variable with the value sent, its default, or null.
pub(super) type Variables = Map<String, Value>;

pub(super) fn variables(operation: &OperationDefinition, sent: Option<&Value>) -> Result<Variables, ValidationError> {
    let nothing = Variables::new();
    let sent = match sent {
        None | Some(Value::Null) => &nothing,
        Some(sent) => {
            sent.as_object().ok_or_else(|| ValidationError::new("The variables are not a JSON object", None))?
        }
    };
    let mut variables = Variables::new();
    for definition in &operation.variable_definitions {
        let name = definition.node.name.node.as_str();
        let declared = &definition.node.var_type.node;
        let default = || definition.node.default_value().and_then(|value| value.clone().into_json().ok());
        let value = sent.get(name).cloned().or_else(default);
        if !schema::accepts(declared, value.as_ref()) {
            let message = format!("Variable '{name}' has an invalid value for the type '{declared}'");
            return Err(ValidationError::new(message, definition.pos));
        }
        variables.insert(name.to_owned(), value.unwrap_or_default());
    }
    Ok(variables)
}

/// A literal with its variables filled in; `Err` with the name of one that is not declared.
pub(super) fn value(literal: &Literal, variables: &Variables) -> Result<Value, String> {
    let filled = literal.clone().into_const_with(|name| {
        let value = variables.get(name.as_str()).cloned();
        value.and_then(|value| value.try_into().ok()).ok_or_else(|| name.to_string())
    })?;
    // Only a binary value has no JSON, and no literal is one.
    Ok(filled.into_json().unwrap_or_default())
}
