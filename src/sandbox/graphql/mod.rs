//! GraphQL as the sandbox answers it: parsed by a library, checked against a small schema, and answered with what was
//! asked and nothing else.
//!
//! In: the posted JSON, and the world as the token's holder sees it. Out: `{"data":…}` or `{"errors":[…]}`. It never
//! answers a part of a query that has a fault. Left out: introspection (`__schema`, `__type`), subscriptions, batches.

mod check;
mod resolve;
mod schema;
mod values;

use async_graphql_parser::types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType};
use async_graphql_parser::{Pos, parse_query};
use serde_json::{Map, Value, json};

pub(super) use resolve::World;

/// The variables of an operation, each declared one with its value, default or null.
type Variables = Map<String, Value>;

/// Something wrong with a query, and where.
struct Problem {
    message: String,
    place: Option<Pos>,
}

impl Problem {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None }
    }

    fn at(place: Pos, message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Some(place) }
    }

    fn json(&self) -> Value {
        let mut error = json!({"message": self.message, "extensions": {"classification": "ValidationError"}});
        if let (Some(place), Some(fields)) = (self.place, error.as_object_mut()) {
            fields.insert("locations".to_owned(), json!([{"line": place.line, "column": place.column}]));
        }
        error
    }
}

/// Answers a posted GraphQL request.
pub(super) fn answer(posted: &[u8], world: &mut World) -> Value {
    match execute(posted, world) {
        Ok(answer) => answer,
        Err(problems) => json!({"errors": problems.iter().map(Problem::json).collect::<Vec<_>>()}),
    }
}

fn execute(posted: &[u8], world: &mut World) -> Result<Value, Vec<Problem>> {
    let one = |problem| vec![problem];
    let posted: Value =
        serde_json::from_slice(posted).map_err(|_| one(Problem::new("The request body is not JSON")))?;
    let query = posted.get("query").and_then(Value::as_str).filter(|query| !query.trim().is_empty());
    let query = query.ok_or_else(|| one(Problem::new("The request has no query")))?;
    let document = parse_query(query).map_err(|error| {
        let place = error.positions().next();
        one(Problem { message: format!("Invalid syntax : {error}"), place })
    })?;
    let operation = operation(&document, posted.get("operationName").and_then(Value::as_str)).map_err(one)?;
    let variables = values::variables(operation, posted.get("variables")).map_err(one)?;
    let root = match operation.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => return Err(one(Problem::new("Schema is not configured for subscriptions"))),
    };
    let fields = check::check(&document, operation, root, &variables)?;
    if let Some(aborted) = aborted(&fields, world) {
        return Ok(aborted);
    }
    Ok(json!({"data": resolve::resolve(&document, operation, root, &variables, world)}))
}

fn operation<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Result<&'a OperationDefinition, Problem> {
    let name = name.filter(|name| !name.is_empty());
    let unknown = |name: &str| Problem::new(format!("Unknown operation named '{name}'."));
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(&operation.node),
        (DocumentOperations::Single(_), Some(name)) => Err(unknown(name)),
        (DocumentOperations::Multiple(operations), Some(name)) => {
            operations.get(name).map(|operation| &operation.node).ok_or_else(|| unknown(name))
        }
        (DocumentOperations::Multiple(operations), None) => match operations.values().next() {
            Some(operation) if operations.len() == 1 => Ok(&operation.node),
            Some(_) | None => Err(Problem::new("Must provide operation name if query contains multiple operations.")),
        },
    }
}

/// One refused field, or a tenant that is not the caller's, aborts the whole query.
fn aborted(fields: &[String], world: &World) -> Option<Value> {
    let refused: Vec<&str> =
        fields.iter().filter(|field| world.missing_scopes.contains(field)).map(String::as_str).collect();
    let message = if !refused.is_empty() {
        format!(
            "The client or authentication token doesn't have enough oauth2 permissions/scopes to access: [{}].",
            refused.join(", ")
        )
    } else if world.organization.is_none() {
        // Inferred: Upwork's words for a tenant that is not the caller's are not known.
        "403 Forbidden: the user is not a member of the organization in X-Upwork-API-TenantId".to_owned()
    } else {
        return None;
    };
    let error = json!({"message": message, "extensions": {"classification": "ExecutionAborted"}});
    Some(json!({"data": null, "errors": [error]}))
}

#[cfg(test)]
mod tests;
