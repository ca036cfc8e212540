//! The gateway: facts → caller → decision → action, for every request of the public and the neighbour listener.
//!
//! It takes requests that have one reading, and returns the answer of the app or of Upwork, or one of its own. Four
//! owners share the work: [`Sessions`], [`SignIn`], [`Callers`] and [`Upstreams`]; [`Gateway`] walks a request through
//! them (`handle`). It is the only module that writes `Set-Cookie`, and the only one that knows both a session and a
//! request.

mod access_log;
mod address_limits;
mod answer;
mod callers;
mod config;
mod endpoints;
mod fault;
mod handle;
mod request;
mod response;
mod sessions;
mod sign_in;
mod state;
mod upstreams;

pub(crate) use callers::Callers;
pub(crate) use config::{AppConfig, ClientLimits, Config, NeighbourConfig, PagesConfig, PublicConfig};
pub(crate) use sessions::{Context, Sessions};
pub(crate) use sign_in::SignIn;
pub(crate) use state::Gateway;
pub(crate) use upstreams::{
    AddedHeader, AppSettings, AppUpstream, Assertions, IdentityHeaders, Part, Upstreams, UserField,
};
