//! The one integration test binary: a module a theme.

mod browser; // the main job in Chromium
mod config; // `check`, `key`, `health`, `completions`: the configuration and the commands, by the real binary
mod demo; // the real binary: `demo` as a newcomer runs it, and how it ends
mod harness; // a whole world in this process: sandbox, app, sidecar, client, browser
mod listener; // the doors on real sockets: framing, order, times, limits, HTTP/2, drain
mod main_job; // the main job at the public door, with a client that hides nothing
mod pages; // what people are shown, and what it must never hold
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
mod sdk; // programs that know nothing of upwarden: Upwork's own SDK, and curl
mod upstream; // the app and the API behind the sidecar, on real sockets
