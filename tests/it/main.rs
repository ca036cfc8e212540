//! The one integration test binary: a module a theme.

mod framing; // where messages end, as a strict reader says: tables and properties
mod listener; // the doors on real sockets: framing, order, times, limits, HTTP/2, drain
