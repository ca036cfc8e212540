//! Something wrong with a request, and where.

use async_graphql_parser::Pos;
use serde_json::{Value, json};

pub(super) struct ValidationError {
    message: String,
    location: Option<Pos>,
}

impl ValidationError {
    pub(super) fn new(message: impl Into<String>, location: impl Into<Option<Pos>>) -> Self {
        Self { message: message.into(), location: location.into() }
    }

    pub(super) fn json(&self) -> Value {
        let (message, extensions) = (&self.message, json!({"classification": "ValidationError"}));
        match self.location {
            None => json!({"message": message, "extensions": extensions}),
            Some(Pos { line, column }) => {
                json!({"message": message, "locations": [{"line": line, "column": column}], "extensions": extensions})
            }
        }
    }
}
