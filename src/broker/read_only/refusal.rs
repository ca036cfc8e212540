//! Why a read-only call was refused.

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
    #[error("only reading is allowed here, and the document contains a {0}")]
    Operation(&'static str),
    /// What the call would do cannot be determined.
    #[error("only reading is allowed here, and it is unclear whether this call only reads: {0}")]
    Unclear(&'static str),
}
