//! The one integration test binary: a module a theme.

mod pages; // what people are shown, and what it must never hold
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
mod stores; // where sessions are kept: one contract over every store, and what only one has
