//! Answers GraphQL requests: a library parses them, and a small schema says what there is.
//!
//! Takes the posted JSON and the context of the token's holder; returns `{"data":…}` or `{"errors":[…]}`. A query with an
//! error gets no part of its answer. Not supported: subscriptions and batches.
//!
//! The executor is our own: what Upwork is known to answer are graphql-java's messages and classifications, validated and
//! refused as a whole. docs/design.md says what a library would have cost.

mod collect;
mod error;
mod introspection;
mod resolve;
mod samples;
mod schema;
mod values;

use async_graphql_parser::parse_query;
use async_graphql_parser::types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType};
use serde_json::{Value, json};

use error::ValidationError;
pub(super) use resolve::Context;

pub(super) fn answer(posted: &[u8], context: &mut Context) -> Value {
    match execute(posted, context) {
        Ok(answer) => answer,
        Err(errors) => json!({"errors": errors.iter().map(ValidationError::json).collect::<Vec<_>>()}),
    }
}

/// The name of the operation that a posted request asks for.
pub(super) fn operation_name(posted: &[u8]) -> Option<String> {
    let posted: Value = serde_json::from_slice(posted).ok()?;
    if let Some(name) = posted.get("operationName").and_then(Value::as_str).filter(|name| !name.is_empty()) {
        return Some(name.to_owned())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    }
    match parse_query(posted.get("query")?.as_str()?).ok()?.operations {
        DocumentOperations::Multiple(operations) if operations.len() == 1 => {
            operations.keys().next().map(ToString::to_string)
        }
        DocumentOperations::Single(_) | DocumentOperations::Multiple(_) => None,
    }
}

fn execute(posted: &[u8], context: &mut Context) -> Result<Value, Vec<ValidationError>> {
    let refused = |message: &str| vec![ValidationError::new(message, None)];
    let posted: Value = serde_json::from_slice(posted).map_err(|_| refused("The request body is not JSON"))?;
    let query = posted.get("query").and_then(Value::as_str).filter(|query| !query.trim().is_empty());
    let query = query.ok_or_else(|| refused("The request has no query"))?;
    let document = parse_query(query)
        .map_err(|error| vec![ValidationError::new(format!("Invalid syntax : {error}"), error.positions().next())])?;
    let operation = operation(&document, posted.get("operationName").and_then(Value::as_str))
        .map_err(|message| refused(&message))?;
    let variables = values::variables(operation, posted.get("variables")).map_err(|error| vec![error])?;
    let root = match operation.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => return Err(refused("Schema is not configured for subscriptions")),
    };
    let collected = collect::collect(&document, operation, root, &variables)?;
    if let Some(message) = context.refusal(&collected.asked) {
        let error = json!({"message": message, "extensions": {"classification": "ExecutionAborted"}});
        return Ok(json!({"data": null, "errors": [error]}));
    }
    Ok(json!({"data": context.resolve(root, &collected.fields)}))
}

fn operation<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Result<&'a OperationDefinition, String> {
    let name = name.filter(|name| !name.is_empty());
    let found = match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Single(_), Some(_)) => None,
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations.values().next(),
        (DocumentOperations::Multiple(_), None) => {
            return Err("Must provide operation name if query contains multiple operations.".to_owned());
        }
    };
    found.map(|found| &found.node).ok_or_else(|| format!("Unknown operation named '{}'.", name.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
