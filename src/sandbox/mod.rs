//! A local imitation of Upwork: what `upwarden demo`, `upwarden sandbox` and the tests sign in at and call.
//!
//! Serves Upwork's own paths (consent page, token endpoint, GraphQL, older REST API) at one address, and JSON at a control
//! address that makes it fail on demand. Its state lives in memory only. It never logs, prints or counts a code, a token
//! or a secret, and it shares no code with the modules it tests (oauth, broker, session, seal, policy), so that one bug
//! cannot hide another.
//!
//! Where Upwork's behaviour is not known, it follows the RFC, and the comment says "Inferred".

mod accounts;
mod answers;
mod api;
mod authorize;
mod bodies;
mod config;
mod control;
mod counters;
mod faults;
mod fixtures;
mod grants;
mod graphql;
mod limits;
mod pages;
mod params;
mod paths;
mod run;
mod server;
mod state;
mod token;

pub use config::{Client, Config};
pub use counters::{Counters, ReceivedRequest, TokenCounters};
pub use faults::{Fault, Target, Times, UnknownFault};
pub use grants::TokenPair;
pub use limits::Rates;
pub use paths::{AUTHORIZE_PATH, GRAPHQL_PATH, REVOKE_PATH, TOKEN_PATH};
pub use run::run;
pub use server::Sandbox;
