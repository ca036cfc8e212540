//! The one integration test binary: a module a theme.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where its ground gives way; clippy's own leave for tests does not reach the harness"
)]

mod architecture; // the code against the layers in src/lib.rs
mod attacks; // what an attacker would try: headers, paths, return addresses, cookies, any input at the parsers
mod browser; // the main job in Chromium
mod callers; // callers without a browser: neighbour door, tickets, personal access tokens, service identity
mod config; // `check`, `key`, `health`, `completions`: the configuration and the commands, by the real binary
mod core; // the path every byte goes through: framing, streaming, limits, faults, drain, on real sockets
mod demo; // the real binary: `demo` as a newcomer runs it, and how it ends
mod doctor; // `doctor`: what it finds of an app, of Upwork, of a clock, of certificates
mod framing; // where messages end, as a strict reader says: tables and properties
mod habits; // what people read and deploy with says what is so
mod harness; // a whole world in this process: sandbox, app, sidecar, client, browser
mod listener; // the doors on real sockets: framing, order, times, limits, HTTP/2, drain
mod main_job; // the main job at the public door, with a client that hides nothing
mod other_server; // another authorization server, strict by the RFCs, in Upwork's place
mod pacing; // Upwork's limits, held against the sandbox that enforces them
mod pages; // what people are shown, and what it must never hold
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
mod sdk; // programs that know nothing of upwarden: Upwork's own SDK, and curl
mod sessions; // sessions that never lose a user: refresh, implicit grant, tabs, stores, sign-out
mod stores; // where sessions are kept: one contract over every store, and what only one has
mod upstream; // the app and the API behind the sidecar, on real sockets
