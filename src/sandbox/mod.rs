//! A local imitation of Upwork: what `upwarden demo`, `upwarden sandbox` and the tests sign in at and call.
//!
//! In: requests to one origin that has Upwork's own paths (consent page, token endpoint, GraphQL, legacy REST), and JSON
//! at a control door that makes it fail on demand. Out: the answers Upwork is known to give. What is kept lives in memory
//! only. It never logs, prints or counts a code, a token or a secret, and it shares no code with the rooms it tests
//! (oauth, broker, session, seal, policy), so that one bug cannot cancel another.
//!
//! Where it is not known what Upwork does, the RFC's answer is given, and the place says "Inferred".

mod accounts;
mod answers;
mod api;
mod authorize;
mod bodies;
mod control;
mod counters;
mod faults;
mod grants;
mod graphql;
mod limits;
mod params;
mod state;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::clock::SharedClock;
use crate::listener::plain;
use crate::secret::Secret;

pub use counters::{Counters, Seen};
pub use faults::{Fault, Target, Times, UnknownFault};
pub use limits::Rates;
use state::Inner;

/// Where the browser is sent to sign in.
pub const AUTHORIZE_PATH: &str = "/ab/account-security/oauth2/authorize";
/// Where codes and refresh tokens are exchanged.
pub const TOKEN_PATH: &str = "/api/v3/oauth2/token";
/// Where tokens are revoked (RFC 7009).
pub const REVOKE_PATH: &str = "/api/v3/oauth2/token/revoke";
/// Where GraphQL is asked.
pub const GRAPHQL_PATH: &str = "/graphql";
const LOGOUT_PATH: &str = "/ab/account-security/logout";
const STYLE_PATH: &str = "/ab/account-security/sandbox.css";

/// How the sandbox behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long an access token lives.
    pub token_lifetime: Duration,
    /// Hex digits after a token's `oauth2v2_`; Upwork's have 32.
    pub token_chars: usize,
    /// How long an authorization code may be redeemed.
    pub code_lifetime: Duration,
    /// Whether a refresh token that was replaced and is shown again ends its whole family (RFC 9700 section 4.14.2),
    /// instead of working for 24 hours more as Upwork's do.
    pub strict: bool,
    /// Whether `rates` are enforced on API calls.
    pub limits: bool,
    /// How many API calls one address may make.
    pub rates: Rates,
    /// The keys that are known. None: any 32-hex client id with any secret and a loopback redirect.
    pub clients: Vec<Client>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_lifetime: Duration::from_hours(24),
            token_chars: 32,
            code_lifetime: Duration::from_mins(10),
            strict: false,
            limits: false,
            rates: Rates::default(),
            clients: Vec::new(),
        }
    }
}

/// An API key as it would be registered at Upwork.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: Secret,
    /// The callback, which must match exactly.
    pub redirect_uri: String,
}

impl Client {
    /// Reads `ID:SECRET:REDIRECT`, the form of the command line; `None` where a part is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (id, secret, redirect_uri) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = !id.is_empty() && !secret.is_empty() && url::Url::parse(redirect_uri).is_ok();
        whole.then(|| Self { id: id.to_owned(), secret: Secret::new(secret), redirect_uri: redirect_uri.to_owned() })
    }
}

/// Tokens handed out directly, without a browser; see [`Sandbox::grant`].
#[derive(Clone, Debug)]
pub struct Granted {
    /// The access token.
    pub access_token: Secret,
    /// The refresh token.
    pub refresh_token: Secret,
}

/// The imitation. Clones are the same sandbox.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sandbox(…)")
    }
}

impl Sandbox {
    /// A sandbox in which nobody has signed in yet. Token lifetimes follow `clock`.
    pub fn new(config: Config, clock: SharedClock) -> Self {
        Self(Arc::new(Inner::new(config, clock)))
    }

    /// Answers as the Upwork origin.
    pub async fn handle(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        // Taken before anything is counted: who sees a call counted may release it, and the release is not missed.
        let release = self.0.release.subscribe();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = match path.as_str() {
            AUTHORIZE_PATH => authorize::authorize(&self.0, request, release).await,
            LOGOUT_PATH => authorize::logout(&self.0, &request),
            STYLE_PATH => authorize::style(),
            TOKEN_PATH => token::token(&self.0, request, release).await,
            REVOKE_PATH => token::revoke(&self.0, request, release).await,
            "/" if method == Method::GET => authorize::welcome(),
            _ if api::is_api(&path) => api::call(&self.0, request, peer, release).await,
            _ => answers::text(StatusCode::NOT_FOUND, "The sandbox has nothing at this path.\n"),
        };
        // Paths only: a query may hold a code or a state.
        tracing::debug!(target: "upwarden::sandbox", %method, path, status = answer.status().as_u16(), "answered");
        answer
    }

    /// Answers at the control door: JSON in, JSON out; `GET /` tells what can be asked.
    pub async fn control(&self, request: Request<Body>, _peer: SocketAddr) -> Response<Body> {
        control::answer(self, request).await
    }

    /// Makes the next `times` requests to `target` fail; comes after the faults that are already waiting there.
    pub fn fault(&self, target: Target, fault: Fault, times: Times) {
        self.0.lock().faults.add(target, fault, times);
    }

    /// Takes faults in the control door's form, such as `{"token":"500","times":2}`. The error says what is known.
    pub fn faults(&self, wanted: &serde_json::Value) -> Result<(), UnknownFault> {
        let plan = faults::Plan::parse(wanted)?;
        self.0.lock().faults.apply(plan);
        Ok(())
    }

    /// Ends every access token now; refresh tokens live on.
    pub fn expire_all(&self) {
        let now = self.0.clock.now();
        self.0.lock().grants.expire_all(now);
    }

    /// Ends every grant, as users do in Connected Apps: all tokens die, and consent is asked for again.
    pub fn revoke_all(&self) {
        let mut state = self.0.lock();
        state.grants.revoke_all();
        state.browsers.forget_consents();
    }

    /// Back to the beginning: no grants, consents, faults, counts, notes; held answers go out.
    pub fn reset(&self) {
        *self.0.lock() = state::State::default();
        self.release();
    }

    /// Lets every answer go that a `slow` fault holds now.
    pub fn release(&self) {
        self.0.release.send_modify(|round| *round += 1);
    }

    /// Ends when `count` answers or more are being held by `slow` faults.
    pub async fn held(&self, count: usize) {
        let mut held = self.0.held.subscribe();
        // The sender lives in self, so the channel cannot close while this waits.
        let _ = held.wait_for(|now| *now >= count).await;
    }

    /// The fields the API key lacks a scope for, as `Type.field`, e.g. `User.email`; replaces those set before.
    /// (At Upwork such a change ends all tokens of the key; here [`Sandbox::revoke_all`] does that, where it is wanted.)
    pub fn missing_scopes(&self, fields: Vec<String>) {
        self.0.lock().missing_scopes = fields;
    }

    /// What was received so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.0.lock().counters.clone();
        counters.held = *self.0.held.borrow();
        counters
    }

    /// The last API requests, oldest first, as they arrived.
    pub fn requests(&self) -> Vec<Seen> {
        self.0.lock().requests.iter().cloned().collect()
    }

    /// Tokens for the account of this id, as if its owner had consented; `None` where there is no such account.
    pub fn grant(&self, account_id: &str, client_id: &str) -> Option<Granted> {
        let account = accounts::find(account_id)?;
        let issued = self.0.lock().grants.open(account, client_id, &self.0.config, self.0.clock.now());
        Some(Granted { access_token: issued.access, refresh_token: issued.refresh? })
    }
}

/// Serves both doors until `shutdown`. Held answers are let go then, so that the doors can close.
pub async fn run(sandbox: Sandbox, listener: TcpListener, control: TcpListener, shutdown: CancellationToken) {
    let upwork = sandbox.clone();
    let upwork_door = plain::serve(
        listener,
        move |request, peer| {
            let sandbox = upwork.clone();
            async move { sandbox.handle(request, peer).await }
        },
        shutdown.clone(),
    );
    let controlled = sandbox.clone();
    let control_door = plain::serve(
        control,
        move |request, peer| {
            let sandbox = controlled.clone();
            async move { sandbox.control(request, peer).await }
        },
        shutdown.clone(),
    );
    let let_go = async {
        shutdown.cancelled().await;
        sandbox.0.closing.cancel();
    };
    tokio::join!(upwork_door, control_door, let_go);
}

/// The release signal as a request sees it.
type Release = watch::Receiver<u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_read_with_the_colons_of_its_redirect() {
        let client = Client::parse("abc:s3cr3t:http://localhost:3000/callback").unwrap();
        assert_eq!((client.id.as_str(), client.redirect_uri.as_str()), ("abc", "http://localhost:3000/callback"));
        assert!(client.secret.matches(b"s3cr3t"));
        assert!(Client::parse("abc:s3cr3t").is_none());
        assert!(Client::parse("abc::http://localhost/").is_none());
        assert!(Client::parse("abc:s3cr3t:nowhere").is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let client = Client::parse("abc:s3cr3t:http://localhost/").unwrap();
        let sandbox = Sandbox::new(
            Config { clients: vec![client.clone()], ..Config::default() },
            Arc::new(crate::clock::SystemClock),
        );
        let granted = sandbox.grant("1181921839933591552", "abc").unwrap();
        let shown = format!("{client:?} {sandbox:?} {granted:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("oauth2v2_"), "{shown}");
    }
}
