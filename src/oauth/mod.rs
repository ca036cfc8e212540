//! OAuth 2 as Upwork speaks it (RFC 6749, RFC 7636): sign-in, callback, token endpoint, refresh.
//!
//! Turns sign-ins, callbacks and expiring tokens into authorization requests, tokens and typed errors. Writes no
//! cookies and answers no requests: the gateway does.

pub(crate) mod callback;
mod config;
mod dependencies;
mod endpoints;
pub(crate) mod login;
pub(crate) mod login_cookies;
pub(crate) mod refresh;
mod response;
pub(crate) mod service;
pub(crate) mod token;
pub(crate) mod upwork;

pub use config::{Config, Outbound, ServiceConfig, ServiceGrant};
pub use dependencies::Dependencies;
pub use response::Response;
pub(crate) use response::{Unavailable, UnavailableKind};

pub use crate::session::Grant;
