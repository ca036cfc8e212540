//! The app that `upwarden demo` runs behind the sidecar, and an example of how little an app has to do.
//!
//! Its page shows the identity headers that the sidecar sets, calls the API, keeps an event stream and a WebSocket
//! open, and posts a form. It never sees a token, does not know OAuth, and trusts the identity headers because only the
//! sidecar can reach it.

mod answers;
mod app;
mod door;
mod live;
mod view;

pub use app::{Config, SampleApp, run};
