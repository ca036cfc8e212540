//! The one integration test binary: a module a theme.

mod pacing; // Upwork's limits, held against the sandbox that enforces them
mod pages; // what people are shown, and what it must never hold
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
