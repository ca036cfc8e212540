//! upwarden: a token-brokering authentication sidecar proxy for the Upwork API.
//!
//! # Floors
//! A room uses rooms on lower floors only; `tests/it/architecture.rs` holds this table against the code.
//! ```text
//! 10  cli                                    the command line (main.rs only calls it)
//!  9  server                                 composition root: build every room, run the doors, drain
//!  8  config                                 raw → checked; hands every room its own Config
//!  7  gateway   admin   sandbox   sample_app
//!  6  broker                                 the API, called with a token its caller never sees
//!  5  oauth                                  sign-in, callback, token endpoint, refresh
//!  4  store     policy
//!  3  session   proxy     pages
//!  2  router    seal      listener
//!  1  secret    clock     body      tls       telemetry  framing   descriptors
//! ```
//!
//! # The life of a request
//! ```text
//! socket → listener (framing guard, limits) → gateway: router → facts → identify → policy::decide → deed
//!    deed = Forward (proxy → app) | Broker (broker → proxy → Upwork) | SignIn (oauth) | our own page or problem
//! ```
//! The listener lets through only messages that have one reading. The router says whose path it is, on the same bytes
//! that are forwarded. The gateway opens the session, asks the policy, does what it decided, and is the only one to
//! write `Set-Cookie`.
//!
//! # Glossary
//! - **Door**: one listening address and what may be asked there (public, neighbour, admin).
//! - **Session**: who signed in and with which tokens; sealed in a cookie, or kept in a store under the cookie's key.
//! - **Grant**: what Upwork issued (access and refresh token) for a person or for the service identity.
//! - **Ticket**: a short-lived value with which the app calls the API at the neighbour door as its user.
//! - **Personal access token**: a value with which its owner's scripts call the API at the public door.
//! - **Fault**: anything we answer ourselves instead of what was asked for, with the side that caused it.

pub mod body;
pub mod clock;
pub mod descriptors;
pub mod framing;
pub mod secret;
pub mod telemetry;
pub mod tls;

pub mod listener;
pub mod router;
pub mod seal;

pub mod pages;
pub mod proxy;
pub mod session;

pub mod policy;
pub mod store;

pub mod oauth;

pub mod broker;

pub mod admin;
pub mod gateway;
pub mod sample_app;
pub mod sandbox;

pub mod config;

pub mod server;

pub mod cli;
