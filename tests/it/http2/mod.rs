//! HTTP/2 at the doors and through the whole sidecar.

mod abuse; // clients that break the protocol or flood us
pub(crate) mod requests; // what a well-behaved client gets
mod timeouts; // clients that are slow or silent
