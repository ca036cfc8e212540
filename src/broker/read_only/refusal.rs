//! Why a call may not pass.

/// The answer is 403 with this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Neither GET nor HEAD, nor POST for GraphQL.
    #[error("only reading is allowed here: use GET or HEAD, or POST for GraphQL queries")]
    Method,
    /// `http_method` turns a GET into another method.
    #[error("only reading is allowed here: leave out the parameter http_method")]
    MethodParameter,
    /// The document contains an operation that changes something.
    #[error("only reading is allowed here, and the document holds a {0}")]
    Operation(&'static str),
    /// What the call would do cannot be determined.
    #[error("only reading is allowed here, and whether this call only reads cannot be told: {0}")]
    Unclear(&'static str),
}
