//! The one integration test binary: a module a theme.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where its ground gives way; clippy's own leave for tests does not reach the harness"
)]

mod architecture; // the floors of src/lib.rs, held against the code
mod config; // `check`, `key`, `health`, `completions`: the configuration and the commands, by the real binary
mod doctor; // `doctor`: what it finds of an app, of Upwork, of a clock, of certificates
mod framing; // where messages end, as a strict reader says: tables and properties
mod habits; // what people read and deploy with says what is so
mod listener; // the doors on real sockets: framing, order, times, limits, HTTP/2, drain
mod pacing; // Upwork's limits, held against the sandbox that enforces them
mod pages; // what people are shown, and what it must never hold
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
mod stores; // where sessions are kept: one contract over every store, and what only one has
