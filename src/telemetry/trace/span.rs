//! A span as it goes to the collector.

use http::HeaderValue;

use super::context::SpanContext;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Client,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(super) context: SpanContext,
    pub(super) parent: Option<u64>,
    pub(super) state: Option<HeaderValue>,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failed: bool,
}
