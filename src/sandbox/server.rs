//! The sandbox itself: which part answers which path, and what its owner may do to it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};

use super::config::Config;
use super::counters::{Counters, ReceivedRequest};
use super::faults::{Fault, FaultOrder, Target, Times, UnknownFault};
use super::grants::TokenPair;
use super::paths::{AUTHORIZE_PATH, LOGOUT_PATH, REVOKE_PATH, STYLE_PATH, TOKEN_PATH};
use super::state::{Inner, State};
use super::{accounts, answers, api, authorize, pages, token};
use crate::body::Body;
use crate::clock::SharedClock;

/// An imitation of Upwork. Clones share their state.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sandbox(…)")
    }
}

impl Sandbox {
    /// A sandbox without any sign-in. Token lifetimes follow `clock`.
    pub fn new(config: Config, clock: SharedClock) -> Self {
        Self(Arc::new(Inner::new(config, clock)))
    }

    /// Answers as Upwork.
    pub async fn handle(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        // Subscribed before anything is counted: a test that sees the call counted may release it at once.
        let release = self.0.release.subscribe();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = match path.as_str() {
            AUTHORIZE_PATH => authorize::authorize(&self.0, request, release).await,
            LOGOUT_PATH => authorize::logout(&self.0, &request),
            STYLE_PATH => pages::style(),
            // Inferred: Upwork counts these for an address like calls of the API.
            TOKEN_PATH | REVOKE_PATH if !self.0.lock().admit(&self.0, peer) => answers::too_many_requests(None),
            TOKEN_PATH => token::token(&self.0, request, release).await,
            REVOKE_PATH => token::revoke(&self.0, request, release).await,
            "/" if method == Method::GET => pages::welcome(),
            _ if api::is_api(&path) => api::call(&self.0, request, peer, release).await,
            _ => answers::text(StatusCode::NOT_FOUND, "The sandbox has nothing at this path.\n"),
        };
        // Paths only: a query may hold a code or a state.
        tracing::debug!(target: "upwarden::sandbox", %method, path, status = answer.status().as_u16(), "answered");
        answer
    }

    /// Makes the next `times` requests to `target` fail, after the faults already queued there.
    pub fn fault(&self, target: Target, fault: Fault, times: Times) {
        self.0.lock().faults.add(target, fault, times);
    }

    /// Queues faults in the JSON form of the control address, such as `{"token":"500","times":2}`. The error lists the
    /// known faults.
    pub fn faults(&self, order: &serde_json::Value) -> Result<(), UnknownFault> {
        let order = FaultOrder::parse(order)?;
        self.0.lock().faults.queue(order);
        Ok(())
    }

    /// Expires every access token; refresh tokens stay valid.
    pub fn expire_all(&self) {
        let now = self.0.clock.now();
        self.0.lock().grants.expire_all(now);
    }

    /// Ends every grant, as users do in Connected Apps: no token works any more, and consent is asked for again.
    pub fn revoke_all(&self) {
        let mut state = self.0.lock();
        state.grants.revoke_all();
        state.browsers.forget_consents();
    }

    /// Starts over: no grants, consents, faults, counts or notes. Held answers are released.
    pub fn reset(&self) {
        *self.0.lock() = State::default();
        self.release();
    }

    /// Releases every answer that a `slow` fault holds now.
    pub fn release(&self) {
        self.0.release.send_modify(|round| *round += 1);
    }

    /// Waits until `slow` faults hold `count` answers or more.
    pub async fn held(&self, count: usize) {
        let mut held = self.0.held.subscribe();
        // The sender lives in self, so the channel cannot close meanwhile.
        let _ = held.wait_for(|now| *now >= count).await;
    }

    /// Sets the fields that the API key lacks a scope for, as `Type.field`, e.g. `User.email`. (At Upwork a change of
    /// scopes also ends all tokens of the key; here [`Sandbox::revoke_all`] does that.)
    pub fn missing_scopes(&self, fields: Vec<String>) {
        self.0.lock().missing_scopes = fields;
    }

    /// From now on the tokens of `user` are those of another account, as no real server does. False where one is unknown.
    pub fn change_user(&self, user: &str, other: &str) -> bool {
        let (Some(user), Some(other)) = (accounts::find(user), accounts::find(other)) else { return false };
        self.0.lock().acting.insert(user.id, other);
        true
    }

    /// From now on the tokens of `user` act for the last of its organizations. False where it is unknown.
    pub fn change_organization(&self, user: &str) -> bool {
        let Some(user) = accounts::find(user) else { return false };
        self.0.lock().moved.insert(user.id);
        true
    }

    /// Counts of the requests received so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.0.lock().counters.clone();
        counters.held = *self.0.held.borrow();
        counters
    }

    /// The last API requests, oldest first, as they arrived.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.0.lock().requests.iter().cloned().collect()
    }

    /// Tokens for the account with this id, as if its owner had consented; `None` if there is no such account.
    pub fn grant(&self, account_id: &str, client_id: &str) -> Option<TokenPair> {
        let account = accounts::find(account_id)?;
        Some(self.0.lock().grants.open(account, client_id, &self.0.config, self.0.clock.now()))
    }

    /// Releases held answers permanently, so that their connections can close.
    pub(super) fn close(&self) {
        self.0.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Client;

    #[test]
    fn debug_shows_no_secret() {
        let client = Client::parse("abc:s3cr3t:http://localhost/").unwrap();
        let sandbox = Sandbox::new(
            Config { clients: vec![client.clone()], ..Config::default() },
            Arc::new(crate::clock::SystemClock),
        );
        let tokens = sandbox.grant("1181921839933591552", "abc").unwrap();
        let shown = format!("{client:?} {sandbox:?} {tokens:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("oauth2v2_"), "{shown}");
    }
}
