//! The one integration test binary: a module a theme.

mod sandbox; // the local imitation of Upwork, over real sockets
