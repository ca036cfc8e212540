//! upwarden: a token-brokering authentication sidecar proxy for the Upwork API.
//!
//! # Layers
//! A module uses only modules on lower layers, and no files of one module use each other in a circle.
//! `tests/it/architecture` checks the code against this table.
//! ```text
//! 11  cli                                    the command line, which main.rs calls
//! 10  server                                 composition root: builds the modules, runs the doors, drains
//!  9  config                                 raw → checked; gives each module its own Config
//!  8  gateway   admin   sandbox   sample_app
//!  7  broker                                 the API, called with a token its caller never sees
//!  6  oauth                                  sign-in, callback, token endpoint, refresh
//!  5  pacing                                 Upwork's rate limits, which every call to it waits for
//!  4  store     policy
//!  3  session   proxy     pages     listener
//!  2  router    seal      http1
//!  1  secret    clock     cookies   response  tls       telemetry  framing   descriptors
//!  0  recent    fields    body                bounded maps, locking a mutex, what messages consist of
//! ```
//!
//! # The life of a request
//! ```text
//! socket → listener (strict framing, limits) → gateway: router → facts → caller → policy::decide → one action
//!    action = the app (proxy) | the API (broker → proxy → Upwork) | a sign-in (oauth) | an endpoint | a fault
//! ```
//! The listener lets through only messages that have one reading. The router decides to whom a path belongs, on the
//! same bytes that are forwarded. The gateway finds out who calls, asks the policy, carries out its decision, and is
//! the only module that writes `Set-Cookie`. `docs/design.md` lists the functions in order.
//!
//! # Embedding
//! [`server::run`] takes bound listeners, a clock and a shutdown future, so that upwarden also runs inside another program;
//! `examples/embed.rs` does so.
//!
//! # Glossary
//! - **Door**: one listening address and the requests it serves (public, neighbour, admin).
//! - **Session**: who signed in and with which tokens; sealed in a cookie or kept in a store under the cookie's key.
//! - **Grant**: what Upwork issued (access and refresh token) for a person or for the service identity.
//! - **Ticket**: a short-lived value that lets the app call the API as its user, at the neighbour door.
//! - **Personal access token**: a value that lets its owner's scripts call the API at the public door.
//! - **Fault**: an answer that upwarden gives instead of what was requested, with the side that caused it.

mod admin;
mod body;
mod broker;
mod clock;
mod cookies;
mod descriptors;
mod fields;
mod framing;
mod gateway;
mod http1;
mod listener;
mod oauth;
mod pacing;
mod pages;
mod policy;
mod proxy;
mod recent;
mod response;
mod router;
mod sample_app;
mod seal;
mod secret;
mod session;
mod store;
mod telemetry;
mod tls;

#[warn(missing_docs)]
pub mod cli;
#[warn(missing_docs)]
pub mod config;
#[warn(missing_docs)]
pub mod sandbox;
#[warn(missing_docs)]
pub mod server;

/// What the integration tests and fuzz targets use beyond the public modules.
///
/// Not part of the API: it may change in any release.
#[doc(hidden)]
pub mod testing {
    pub mod body {
        pub use crate::body::{Body, Error};
    }
    pub mod broker {
        pub use crate::broker::{ApiTarget, Pace};
    }
    pub mod clock {
        pub use crate::clock::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};
    }
    pub mod cookies {
        pub use crate::cookies::{Jar, RequestCookies};
    }
    pub mod descriptors {
        pub use crate::descriptors::{Descriptors, Waiting};
    }
    pub mod framing {
        pub use crate::framing::{BodyLength, Limits, Method, Piece, Refusal, RequestReader, ResponseReader, Step};
    }
    pub mod http1 {
        pub use crate::http1::server::{Config, Ends, Event, serve};
        pub use crate::http1::{Answer, Connection, Head, Outgoing, Pool, Pools, ResponseTimeouts, Stream, send};
    }
    pub mod listener {
        pub use crate::http1::{Exchange, Socket};
        pub use crate::listener::{
            Address, Bound, DoorSpec, Drain, IncomingRequest, Limits, Peer, Rejection, bind, run,
        };
        pub mod plain {
            pub use crate::listener::plain::serve;
        }
    }
    pub mod oauth {
        pub use crate::oauth::callback::{Authorization, Callback, CallbackError};
        pub use crate::oauth::login::{Login, State};
        pub use crate::oauth::login_cookies::{BrowserLogins, LoginCookies, PendingLogin};
        pub use crate::oauth::refresh::{RefreshError, Refresher};
        pub use crate::oauth::service::ServiceIdentity;
        pub use crate::oauth::token::{Client, TokenError, TokenGrant, TokenRequest};
        pub use crate::oauth::upwork::{LONGEST, Upwork};
        pub use crate::oauth::{Config, Dependencies, Grant, Outbound, Response, ServiceConfig, ServiceGrant};
    }
    pub mod pacing {
        pub use crate::pacing::{Admission, CallerId, PaceRefusal, Pacer, Permit, RateLimited, Release, Schedule};
    }
    pub mod pages {
        pub use crate::pages::curl::Neighbour;
        pub use crate::pages::texts::SIGN_IN_NOT_SENT;
        pub use crate::pages::{
            AccountView, Action, Branding, CSP, ConfirmView, FragmentView, Frame, LastRefresh, NewToken, NoticeView,
            Organization, Page, ProblemView, Quota, RefreshOutcome, Revocation, SignedOutView, TokenRow, TokensView,
            User, account, confirm_sign_out, csp_with_script, fragment, notice, problem, signed_out,
        };
    }
    pub mod fields {
        pub use crate::fields::{Fields, Line};
    }
    pub mod response {
        pub use crate::response::Response;
    }
    pub mod policy {
        pub use crate::policy::{Access, AppRoute, Routes};
    }
    pub mod proxy {
        pub use crate::proxy::forwarded::{Claims, Origin, Trust};
        pub use crate::proxy::headers::{ApiHeaders, AppHeaders};
        pub use crate::proxy::via::Via;
    }
    pub mod router {
        pub use crate::router::return_to::MAX_LENGTH;
        pub use crate::router::{AuthPath, Config, ReturnTo, Route, SignOutTo, is_ambiguous, route};
    }
    pub mod sample_app {
        pub use crate::sample_app::{Config, SampleApp, run};
    }
    pub mod seal {
        pub use crate::seal::{Key, Keyring, Purpose, SharedKeyring, random};
    }
    pub mod secret {
        pub use crate::secret::Secret;
    }
    pub mod session {
        pub use crate::session::personal::PersonalToken;
        pub use crate::session::tokens::{AccessToken, RefreshToken};
        pub use crate::session::{Grant, IdentityFields, Lifetime, Session, Tokens, User};
    }
    pub mod store {
        pub use crate::store::cookie::CookieStore;
        pub use crate::store::{
            Config, Expect, LEASE, LOCK_WAIT, NewRecord, NewTokenRecord, RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RENEWAL,
            RateReply, RateRequest, ServerConfig, Store, StoreError, StoredSession, TokenRecord, TokenScope, check_url,
            open_store,
        };
    }
    pub mod tls {
        pub use crate::tls::CertificateFiles;
    }
    pub mod telemetry {
        pub use crate::telemetry::Door;
        pub use crate::telemetry::json::Json;
        pub use crate::telemetry::metrics::Metrics;
    }
}
