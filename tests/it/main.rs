//! The one integration test binary: a module a theme.

mod architecture; // the floors of src/lib.rs, held against the code
mod habits; // what people read and deploy with says what is so
mod pages; // what people are shown, and what it must never hold
mod sample_app; // the app that the demo guards
mod sandbox; // the local imitation of Upwork, over real sockets
