//! The integration tests: one binary, a module a theme.

/// The doors on real sockets: framing, order, times, limits, HTTP/2, drain.
mod listener;
