//! Sign-in: to Upwork and back.
//!
//! A browser without a session gets a 303 to Upwork and the sign-in's cookie; a callback becomes a session. A code is
//! never redeemed before its state is checked, and no failure starts an endless loop: the sealed state counts failures
//! in a row, and the [`LoopCounter`] counts sign-ins that do not last.

mod callback_dedup;
mod cause;
mod loops;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address_limits::{SignInLimit, Step};
use super::answer::Answer;
use super::config::PublicConfig;
use super::fault::{ClientFault, Fault, OurFault};
use super::request::RequestInfo;
use super::response;
use super::sessions::{Context, Sessions};
use crate::cookies::RequestCookies;
use crate::listener::network;
use crate::oauth::callback::{Authorization, CallbackError, StateError};
use crate::oauth::login::{Login, MAX_FAILURES, State};
use crate::oauth::login_cookies::LoginCookies;
use crate::oauth::token::TokenGrant;
use crate::oauth::upwork::{RevokeError, Upwork, UserInfo};
use crate::oauth::{Grant, Unavailable};
use crate::pacing::CallerId;
use crate::pages::Revocation;
use crate::pages::texts::Loop;
use crate::router::ReturnTo;
use crate::router::public_url::{PublicUrl, without_marker};
use crate::seal::SharedKeyring;
use crate::session::{self, IdentityFields, Organization, Session, Tokens, User};
use crate::store::StoredSession;
use crate::telemetry::RequestId;
use crate::telemetry::metrics::SignInOutcome;
pub(super) use callback_dedup::NewSession;
use callback_dedup::{CallbackDedup, Failure};
use http::HeaderValue;
pub(super) use loops::{ClientKey, LastingSignIn, LoopCounter};

/// A sign-out waits this long for Upwork's answer; the revocation itself continues.
const REVOCATION_WAIT: Duration = Duration::from_secs(5);

/// The result of a checked callback.
pub(super) type CallbackResult = Result<Authorization, CallbackError>;

#[derive(Debug)]
pub(crate) struct SignIn {
    pub(super) upwork: Arc<Upwork>,
    pub(super) cookies: LoginCookies,
    pub(super) loops: LoopCounter,
    callbacks: CallbackDedup,
    limit: SignInLimit,
    pub(super) public_url: PublicUrl,
    pub(super) sessions: Arc<Sessions>,
}

impl SignIn {
    pub(crate) fn new(
        config: &PublicConfig,
        session: &session::Config,
        upwork: Arc<Upwork>,
        ring: SharedKeyring,
        sessions: Arc<Sessions>,
    ) -> Arc<Self> {
        let (name, secure) = (&session.cookie, session.secure);
        Arc::new(Self {
            cookies: LoginCookies::new(name, secure, ring),
            loops: LoopCounter::new(name, secure),
            callbacks: CallbackDedup::new(upwork.control().clone()),
            limit: SignInLimit::new(config.limits.sign_ins),
            public_url: PublicUrl::new(&config.url),
            sessions,
            upwork,
        })
    }

    fn context(&self) -> &Context {
        &self.sessions.context
    }

    pub(super) fn count(&self, outcome: SignInOutcome) {
        self.context().metrics.sign_in(outcome);
    }

    /// Whether a cookie of this name is one of the sign-in's.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.cookies.owns(name) || self.loops.cookie().owns(name)
    }

    /// `Set-Cookie` values that clear all our cookies except the session's.
    pub(super) fn clear_cookies(&self, seen: &RequestCookies) -> Vec<HeaderValue> {
        [self.cookies.clear_shown(seen), self.loops.cookie().clear_shown(seen)].concat()
    }

    /// Sends a navigation without a session to Upwork, unless the last three sign-ins did not last. `refused`: its
    /// session, if that has ended.
    pub(super) fn require(
        &self,
        request: &RequestInfo,
        prefix: &str,
        refused: Option<&Session>,
    ) -> Result<Answer, Fault> {
        let now = self.context().now();
        if let Some(tries) = self.loops.tries(&request.cookies, now).filter(|tries| tries.count >= MAX_FAILURES) {
            self.count(SignInOutcome::Looping);
            let cause = self.wrong_place(request);
            let measure = || match refused {
                Some(session) => cause::refused(&self.sessions, session, now),
                None => cause::lost(&self.sessions, &self.cookies.ring(), &request.cookies, tries.bytes, now),
            };
            return Err(ClientFault::Looped(cause.unwrap_or_else(measure)).into());
        }
        // On `public_url`'s host, so that the page is not shown at two addresses.
        if let Some(answer) = self.to_public_url(request)? {
            return Ok(answer);
        }
        match request.return_to(prefix) {
            _ if request.is_too_long_to_return_to() => Err(ClientFault::AddressTooLong.into()),
            Some(place) if place.is_cut() => Err(ClientFault::AddressTooLong.into()),
            place => self.begin(request, &place.unwrap_or_else(ReturnTo::home), 0),
        }
    }

    /// Sends the browser to Upwork, after `failures` sign-ins in a row that failed.
    pub(super) fn begin(&self, request: &RequestInfo, place: &ReturnTo, failures: u8) -> Result<Answer, Fault> {
        if let Some(answer) = self.to_public_url(request)? {
            return Ok(answer);
        }
        // Do not send a user to Upwork for a session that could not be stored.
        self.sessions.store.may_sign_in()?;
        self.admit(Step::Begin, request)?;
        let (ring, now) = (self.cookies.ring(), self.context().now());
        let begun = Login::begin(self.upwork.config(), &ring, place, failures, now)?;
        let cookies = self.cookies.set(&begun.cookie, &request.cookies, now)?;
        self.count(SignInOutcome::Started);
        Ok(Answer::from(response::see_other(&begun.url)).cookies(cookies))
    }

    /// Redirects a navigation on another host than `public_url`'s, or by http instead of https, before a cookie is set.
    /// On a second wrong host in a row, shows a page that names `trusted_proxies` (docs/reference.md "Host names").
    fn to_public_url(&self, request: &RequestInfo) -> Result<Option<Answer>, Fault> {
        let Some(asked) = request.client.origin.host.as_ref().and_then(|host| host.to_str().ok()) else {
            return Ok(None);
        };
        let ours = self.public_url.has_host(asked);
        if ours && !self.came_by_http(request) {
            return Ok(None);
        }
        let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
        if without_marker(target) == target {
            return Ok(Some(response::see_other(&self.public_url.marked(target)).into()));
        }
        if ours {
            // The browser came from the redirect, so the proxy is wrong about the scheme, and the cookie works.
            return Ok(None);
        }
        self.count(SignInOutcome::Looping);
        let (asked, public_url) = (asked.to_owned(), self.public_url.text.clone());
        Err(OurFault::WrongHost { asked, public_url }.into())
    }

    /// Whether a trusted proxy says that the browser came by http, where our cookies are for https.
    pub(super) fn came_by_http(&self, request: &RequestInfo) -> bool {
        self.public_url.is_https() && !request.client.origin.https && request.client.origin.trusted
    }

    /// The browser used a host name or a scheme that our cookies are not for.
    fn wrong_place(&self, request: &RequestInfo) -> Option<Loop> {
        let origin = &request.client.origin;
        if let Some(host) = origin.host.as_ref().and_then(|host| host.to_str().ok())
            && !self.public_url.has_host(host)
        {
            return Some(Loop::WrongHost(host.to_owned()));
        }
        self.came_by_http(request).then_some(Loop::PlainHttp)
    }

    /// After a callback that matches no sign-in of this browser: a new sign-in, or the third time a page.
    pub(super) fn restart(
        &self,
        request: &RequestInfo,
        prefix: &str,
        state: &State,
        fault: Option<StateError>,
    ) -> Result<Answer, Fault> {
        let failures = state.failures.saturating_add(1);
        if failures < MAX_FAILURES {
            return self.begin(request, &state.return_to(prefix).unwrap_or_else(ReturnTo::home), failures);
        }
        self.count(SignInOutcome::Looping);
        let measure = || cause::of_state(&self.cookies, &request.cookies, state, fault, self.context().now());
        Err(ClientFault::Looped(self.wrong_place(request).unwrap_or_else(measure)).into())
    }

    /// After a callback whose state and pending sign-in cannot be opened: the key has changed, or replicas have
    /// different keys. The sign-in begins again (docs/design.md "Keys"), counted by the returned cookies. `None`: no
    /// replica sealed the state, and no sign-in begins.
    pub(super) fn restart_under_new_key(
        &self,
        request: &RequestInfo,
    ) -> Option<(Result<Answer, Fault>, Vec<HeaderValue>)> {
        if !self.cookies.has_unknown_key(&request.cookies) {
            return None;
        }
        let now = self.context().now();
        let count = self.loops.tries(&request.cookies, now).map_or(1, |tries| tries.count.saturating_add(1));
        let cookies = self.loops.set(count, 0, &request.cookies, now);
        let answer = if count < MAX_FAILURES {
            self.begin(request, &ReturnTo::home(), 0)
        } else {
            self.count(SignInOutcome::Looping);
            Err(ClientFault::Looped(Loop::KeyChanged).into())
        };
        Some((answer, cookies))
    }

    /// Counts a step of a sign-in against its address, whatever its outcome.
    pub(super) fn admit(&self, step: Step, request: &RequestInfo) -> Result<(), Fault> {
        let allow = |client| self.limit.allow(step, client, self.context().now());
        if request.client.limited_address.is_none_or(allow) { Ok(()) } else { Err(ClientFault::TooManySignIns.into()) }
    }

    /// Turns a checked callback into a session, once for each sign-in: redeems, identifies, checks access, stores.
    pub(super) async fn complete(
        self: &Arc<Self>,
        request: &RequestInfo,
        client: ClientKey,
        login: &Login,
        brought: CallbackResult,
    ) -> Result<NewSession, Fault> {
        let (this, cookies, id) = (self.clone(), request.cookies.clone(), request.id.clone());
        let address = request.client.limited_address;
        let work = async move {
            let redeemed = this.redeem(brought, address).await;
            let session = redeemed.inspect_err(|Failure { fault, .. }| {
                this.count_failed(fault);
                this.charge_forged(fault, address);
            })?;
            this.store(session, &cookies, client, id).await.map_err(Failure::last)
        };
        self.callbacks.once(login, self.context().now(), work).await
    }

    async fn redeem(&self, brought: CallbackResult, address: Option<IpAddr>) -> Result<Session, Failure> {
        let caller = CallerId::SignIn(address.map(network));
        let (tokens, grant) = self.tokens(brought, caller.clone()).await.map_err(Failure::of)?;
        // A token that came from a code cannot be forged by a stranger.
        let caller = if grant == Grant::Code { CallerId::Refresh } else { caller };
        match (self.identify(&tokens, caller).await, grant) {
            (Ok((user, organization)), _) => {
                let id = crate::seal::random_id().map_err(|error| Failure::last(error.into()))?;
                let began_at = self.context().now();
                Ok(Session {
                    id,
                    user,
                    organization,
                    grant,
                    tokens,
                    began_at,
                    refreshed: None,
                    checked: None,
                    identity: IdentityFields::default(),
                })
            }
            // The token was not issued by this callback, so nothing is lost.
            (Err(fault), Grant::Implicit) => Err(Failure::of(fault)),
            (Err(fault), Grant::Code) => {
                // Nothing will use this grant. The user gets the same answer if it cannot be revoked.
                self.revoke(&tokens).await;
                Err(Failure::last(fault))
            }
        }
    }

    async fn tokens(&self, brought: CallbackResult, caller: CallerId) -> Result<(Tokens, Grant), Fault> {
        let now = self.context().now();
        let (tokens, grant) = match (brought?, self.upwork.config().grant) {
            (Authorization::Code(code), Grant::Code) => {
                (self.upwork.tokens(TokenGrant::Code(&code), caller).await?, Grant::Code)
            }
            (Authorization::Token(token), Grant::Implicit) => {
                let expires_at = now.plus(token.lifetime);
                (Tokens { access: token.token, refresh: None, issued_at: now, expires_at }, Grant::Implicit)
            }
            (Authorization::Code(_) | Authorization::Token(_), _) => return Err(ClientFault::BadState.into()),
        };
        // Such a session would end immediately, and the next request would begin a sign-in.
        if tokens.refresh.is_none() && tokens.expires_at <= now {
            let why = "a token that had expired when it came, and none to refresh it with".to_owned();
            return Err(Unavailable::invalid(why).into());
        }
        Ok((tokens, grant))
    }

    /// Whose tokens they are, where the access rules admit them.
    async fn identify(&self, tokens: &Tokens, caller: CallerId) -> Result<(User, Option<Organization>), Fault> {
        let UserInfo { user, organization } = self.upwork.user_info(&tokens.access, caller).await?;
        let organization_id = organization.as_ref().map(|organization| organization.id.as_str());
        if !self.sessions.rules.load().admits(&user.id, organization_id) {
            return Err(Fault::not_admitted(&user));
        }
        Ok((user, organization))
    }

    /// A valid state always creates a new session, which replaces the previous one.
    async fn store(
        &self,
        session: Session,
        seen: &RequestCookies,
        client: ClientKey,
        id: RequestId,
    ) -> Result<NewSession, Fault> {
        let before = self.sessions.open(seen).await;
        let counts = !matches!(&before, Ok(Some(before)) if self.sessions.is_admitted(&before.session));
        if let Ok(Some(before)) = before {
            self.sessions.close(&before.session);
            // If the store is down, the next call to it reports that.
            let _ = self.sessions.store.end(&before).await;
        }
        let tokens = session.tokens.clone();
        let stored = self.share_grant(StoredSession::new(session)).await?;
        // Reported now, because a session that does not fit into cookies would cause an endless loop.
        let session_cookies = match self.sessions.begin(&stored, seen).await {
            Ok(lines) => lines,
            Err(fault) => {
                // A grant that personal access tokens use stays; any other would be unused.
                if !stored.is_shared() {
                    self.revoke(&tokens).await;
                }
                return Err(fault);
            }
        };
        let mut loop_cookies = Vec::new();
        if counts {
            let now = self.context().now();
            let tries = self.loops.tries(seen, now);
            if let Some(count) = self.loops.completed(client, &stored.session, tries, now) {
                let bytes = session_cookies.iter().map(HeaderValue::len).sum();
                loop_cookies = self.loops.set(count, bytes, seen, now);
            }
        }
        self.count(SignInOutcome::Completed);
        tracing::info!(request_id = %id, user = stored.session.user.id, "signed in");
        Ok(NewSession { stored, session_cookies, loop_cookies })
    }

    /// The user's personal access tokens, if any, use the new grant from now on.
    async fn share_grant(&self, stored: StoredSession) -> Result<StoredSession, Fault> {
        let tokens = stored.session.tokens.clone();
        match self.sessions.store_for_tokens(stored).await {
            // From here on the tokens may use the grant, so no failure may revoke it.
            Ok((stored, true)) => {
                let ends_at = self.sessions.expires_at(&stored.session);
                Ok(self.sessions.store.share(&stored, ends_at).await?)
            }
            Ok((stored, false)) => Ok(stored),
            Err(error) => {
                self.revoke(&tokens).await;
                Err(error.into())
            }
        }
    }

    /// Charges an address for a code that Upwork does not know: honest browsers never send one.
    fn charge_forged(&self, fault: &Fault, address: Option<IpAddr>) {
        if let (Fault::Client(ClientFault::CodeUsed(_)), Some(address)) = (fault, address) {
            self.limit.charge(Step::Callback, address, self.context().now());
        }
    }

    pub(super) fn count_failed(&self, fault: &Fault) {
        self.count(match fault {
            Fault::Client(ClientFault::Declined(_)) => SignInOutcome::Declined,
            Fault::Client(ClientFault::NotAdmitted { .. }) => SignInOutcome::Refused,
            Fault::Client(ClientFault::BadState) => SignInOutcome::BadState,
            Fault::Client(_) | Fault::App(_) | Fault::Upwork(_) | Fault::Ours(_) => SignInOutcome::Failed,
        });
    }

    /// Revokes a grant at Upwork, and waits briefly for its answer.
    pub(super) async fn revoke(&self, tokens: &Tokens) -> Revocation {
        let Ok(outcome) = tokio::time::timeout(REVOCATION_WAIT, self.upwork.revoke(tokens)).await else {
            return Revocation::Failed;
        };
        if let Err(error) = &outcome {
            tracing::warn!(%error, "Upwork did not revoke a grant");
        }
        match outcome {
            Ok(()) => Revocation::Revoked,
            Err(RevokeError::Refused(_)) => Revocation::Refused,
            Err(RevokeError::Unavailable(_)) => Revocation::Failed,
        }
    }
}
