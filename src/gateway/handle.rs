//! The path of a request: facts → caller → `policy::decide` → one action.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use http::header::{HOST, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::access_log::{AccessLog, Answered, End};
use super::answer::Answer;
use super::callers::{Caller, Callers, TokenCaller, admit_neighbour};
use super::fault::{ClientFault, Fault, NeighbourFault, TokenFault};
use super::request::{self, Message, RequestInfo, is_preflight};
use super::sessions::{SessionChange, hold_until};
use super::state::{Gateway, refusal};
use super::upstreams::{ApiCall, CallFailure, CallOutcome, SessionContext, asks_upgrade, is_cdn_wall};
use super::{endpoints, response};
use crate::broker::{TokenSource, TokenUpdate};
use crate::fields::Fields;
use crate::listener::{IncomingRequest, Peer};
use crate::policy::{Credential, Decision, Facts, Target};
use crate::proxy::headers::REQUEST_ID;
use crate::proxy::private_unless_said;
use crate::response::Response;
use crate::router::public_url::without_marker;
use crate::router::{self, Route};
use crate::session::Session;
use crate::store::StoredSession;
use crate::telemetry::{Door, RouteKind, Side};

/// The user that a request to the app is made for.
struct Visitor<'a, W> {
    session: &'a Session,
    ticket: Option<HeaderValue>,
    /// The path is not public, so the answer is for this user only.
    private: bool,
    /// Cancels what the session has open.
    watch: W,
}

impl Gateway {
    /// Answers one request.
    pub(crate) async fn handle(&self, incoming: IncomingRequest, peer: Arc<Peer>) -> Response {
        let (request, mut message, refused) =
            request::read(incoming, &peer, &self.config, |name| self.owns_cookie(name));
        self.warn_of_unknown_proxy(&request);
        let route = router::route(&self.router, request.path());
        let kind = if refused.is_some() { RouteKind::None } else { route.kind() };
        let log = AccessLog::begin(&self.context().metrics, &peer, &request, kind, refused.is_some());
        let (answer, slot) = match (refused, peer.door) {
            (Some(refused), _) => (Err(ClientFault::Refused(refused).into()), None),
            (None, Door::Neighbour) => (Box::pin(self.neighbour(&request, message, route)).await, None),
            (None, Door::Public) => match self.slot(&request, message.version) {
                Ok(slot) => {
                    message.slot.clone_from(&slot);
                    (self.public(&request, message, route).await, slot)
                }
                Err(fault) => (Err(fault), None),
            },
        };
        let Answer { mut response, change, cookies, user, fault, refused, upstream } =
            answer.unwrap_or_else(|fault| self.fault(&request, &fault));
        self.sessions.commit(change, cookies, &request.cookies, &mut response.headers).await;
        response.headers.insert(REQUEST_ID, (&request.id).into());
        if let Some(slot) = slot {
            response = response.map(|body| slot.hold(body));
        }
        let received = log.answered();
        let end = End { user, fault, refused, upstream };
        Answered { metrics: self.context().metrics.clone(), peer, request, received, end }.with(response)
    }

    async fn public(&self, request: &RequestInfo, message: Message, route: Route) -> Result<Answer, Fault> {
        match route {
            Route::App => self.app(request, message).await,
            // The less common paths are boxed, so that they do not enlarge every request's future.
            Route::Auth(endpoint) => Box::pin(endpoints::answer(self, request, message, endpoint)).await,
            Route::Api | Route::Graphql => Box::pin(self.api(request, message, route)).await,
            Route::Unknown => Err(ClientFault::NotFound.into()),
            Route::Ambiguous => Err(ClientFault::AmbiguousPath.into()),
        }
    }

    /// A request to the app: as the session's user, or anonymous where the path is public.
    async fn app(&self, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
        let route = self.upstreams.routes.find(request.method.as_str(), request.path());
        let route = route.ok_or(ClientFault::AmbiguousPath)?;
        let preflight =
            self.config.app.preflight_pass && is_preflight(&request.method, request.path(), &message.headers);
        let mut facts = request.facts(Door::Public, Target::App(route), preflight);
        facts.writes |= route.read_only && asks_upgrade(&message.headers);
        if self.config.app.tokens
            && let Some(Caller::Token(token)) = self.callers.by_token(&message.headers).await?
        {
            return Box::pin(self.app_by_token(request, message, facts, token)).await;
        }
        let anonymous = || self.sessions.decide(facts, Credential::Nothing);
        let stored = match self.sessions.open(&request.cookies).await {
            Ok(stored) => stored,
            // A public path needs no store, because the app gets no identity.
            Err(_) if anonymous() == Decision::AllowAnonymous => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(answer) = self.without_marker(request, &message.headers) {
            return Ok(answer);
        }
        let session = stored.as_ref().map(|stored| &*stored.session);
        let decision = self.sessions.decide(facts, session.map_or(Credential::Nothing, Credential::Cookie));
        match decision {
            Decision::Allow => {
                let lasting = self.shows_sign_in(request, &message.headers, session);
                let answer = self.forward(request, message, stored, &facts).await;
                Ok(self.confirm(lasting, answer))
            }
            Decision::AllowAnonymous => Ok(self.forward(request, message, None, &facts).await),
            Decision::SignIn | Decision::NeedsSession => match Callers::not_accepted(&message.headers) {
                Some(fault) => Err(fault),
                None => self.refuse(request, decision, session),
            },
            Decision::CrossSite | Decision::NotAdmitted | Decision::NotAdmittedHere | Decision::ReadOnly => {
                self.refuse(request, decision, session)
            }
        }
    }

    /// A request to the app by a personal access token. The app gets no ticket, which would allow more than the token
    /// does.
    async fn app_by_token(
        &self,
        request: &RequestInfo,
        message: Message,
        mut facts: Facts<'_>,
        token: Box<TokenCaller>,
    ) -> Result<Answer, Fault> {
        if !token.record.scope.has_app() {
            return Err(ClientFault::Token(TokenFault::Scope).into());
        }
        let caller = match self.callers.recheck(Caller::Token(token)).await.0 {
            Ok(caller) => caller,
            Err(caller) => return Ok(self.revoked(request, &caller, facts)),
        };
        facts.writes |= asks_upgrade(&message.headers);
        let decision = self.sessions.decide(facts, caller.credential());
        let token = match &caller {
            Caller::Token(token) if decision == Decision::Allow => token,
            Caller::Token(_) | Caller::Anonymous(_) | Caller::Session(_) | Caller::Ticket(_) | Caller::Service(_) => {
                return Err(caller.refusal(decision).unwrap_or_else(|| refusal(request, decision, caller.session())));
            }
        };
        self.callers.note_use(&token.record).await;
        let session = &*token.stored.session;
        let visitor = Visitor { session, ticket: None, private: true, watch: || self.callers.watch(token) };
        Ok(self.send(request, message, facts.target, Some(visitor)).await)
    }

    /// Forwards to the app. The app does not need a fresh token, so we refresh first only if the token expired long
    /// ago.
    async fn forward(
        &self,
        request: &RequestInfo,
        message: Message,
        stored: Option<StoredSession>,
        facts: &Facts<'_>,
    ) -> Answer {
        let public = self.sessions.decide(*facts, Credential::Nothing) == Decision::AllowAnonymous;
        let (mut stored, change) = match stored {
            Some(stored) => self.sessions.recheck(stored, self.callers.tickets_hold_tokens(), move || public).await,
            None => (None, SessionChange::Keep),
        };
        // Upwork may have ended the session, or named another organization.
        let session = stored.as_ref().map(|stored| &*stored.session);
        match self.sessions.decide(*facts, session.map_or(Credential::Nothing, Credential::Cookie)) {
            Decision::Allow => {}
            Decision::AllowAnonymous => stored = None,
            refused @ (Decision::SignIn
            | Decision::NeedsSession
            | Decision::CrossSite
            | Decision::NotAdmitted
            | Decision::NotAdmittedHere
            | Decision::ReadOnly) => {
                let answer = self.refuse(request, refused, session);
                return answer.unwrap_or_else(|fault| self.fault(request, &fault)).change(change);
            }
        }
        let visitor = stored.as_ref().map(|stored| Visitor {
            session: &stored.session,
            ticket: self.callers.ticket(stored),
            private: !public,
            watch: || self.sessions.watch(stored),
        });
        self.send(request, message, facts.target, visitor).await.change(change)
    }

    /// Forwards an admitted request. Both directions are cut when the visitor's session ends.
    ///
    /// The arguments of an `async fn` stay in its future, so the request is prepared before the future is made.
    fn send<W: Fn() -> Arc<CancellationToken>>(
        &self,
        request: &RequestInfo,
        mut message: Message,
        target: Target<'_>,
        visitor: Option<Visitor<'_, W>>,
    ) -> impl Future<Output = Answer> {
        let mut context = SessionContext::default();
        if let Some(Visitor { session, ticket, watch, .. }) = &visitor {
            message.body = hold_until(message.body, watch);
            let session_end = asks_upgrade(&message.headers).then(watch);
            context = SessionContext { session: Some(session), ticket: ticket.clone(), session_end };
        }
        let sent = Instant::now();
        let sending = self.upstreams.of(target).forward(request, message, context, |name| self.owns_cookie(name));
        sending.map(move |answer| {
            let took = sent.elapsed();
            let answer = answer.map(|mut response| match &visitor {
                Some(Visitor { private, watch, .. }) => {
                    if *private {
                        private_unless_said(&mut response);
                    }
                    response.map(|body| hold_until(body, watch))
                }
                None => response,
            });
            let answer = answer.map_or_else(|fault| self.fault(request, &fault), Answer::from).upstream(took);
            match visitor {
                Some(visitor) => answer.user(visitor.session),
                None => answer,
            }
        })
    }

    /// An API call at the public listener: by a personal access token if there is one, otherwise by the cookie.
    async fn api(&self, request: &RequestInfo, message: Message, route: Route) -> Result<Answer, Fault> {
        let caller = match self.callers.by_token(&message.headers).await? {
            Some(caller) => caller,
            None => {
                self.sessions.open(&request.cookies).await?.map_or(Caller::Anonymous(Door::Public), Caller::Session)
            }
        };
        if let Some(answer) = self.without_marker(request, &message.headers) {
            return Ok(answer);
        }
        self.call(request, message, route, caller).await
    }

    /// An API call at the neighbour listener: by a ticket, or as the service identity. It sets no cookie.
    async fn neighbour(&self, request: &RequestInfo, message: Message, route: Route) -> Result<Answer, Fault> {
        admit_neighbour(&self.callers.neighbour, &message.headers)?;
        match route {
            Route::Api | Route::Graphql => {
                let caller = self.callers.by_ticket(&message.headers).await?;
                self.call(request, message, route, caller).await
            }
            Route::Ambiguous => Err(ClientFault::AmbiguousPath.into()),
            Route::Auth(_) | Route::Unknown | Route::App => Err(ClientFault::Neighbour(NeighbourFault::Path).into()),
        }
    }

    /// Calls the API, with a token that the caller never sees.
    async fn call(
        &self,
        request: &RequestInfo,
        message: Message,
        route: Route,
        caller: Caller,
    ) -> Result<Answer, Fault> {
        let facts = request.facts(caller.door(), Target::Api, false);
        let (caller, change) = match self.callers.recheck(caller).await {
            (Ok(caller), change) => (caller, change),
            (Err(caller), change) => return Ok(self.revoked(request, &caller, facts).change(change)),
        };
        let decision = self.sessions.decide(facts, caller.credential());
        if decision != Decision::Allow {
            let answer = match caller.refusal(decision) {
                Some(fault) => Err(fault),
                None => self.refuse(request, decision, caller.session()),
            };
            return Ok(answer.unwrap_or_else(|fault| self.fault(request, &fault)).change(change));
        }
        let cookie = if let Caller::Session(stored) = &caller { Some(&*stored.session) } else { None };
        let lasting = self.shows_sign_in(request, &message.headers, cookie);
        let (source, read_only) = match &caller {
            Caller::Session(stored) => (TokenSource::Session(stored.clone()), self.config.read_only),
            Caller::Token(token) => {
                if !token.record.scope.has_api() {
                    return Err(ClientFault::Token(TokenFault::Scope).into());
                }
                self.callers.note_use(&token.record).await;
                let read_only = token.record.read_only || self.config.read_only;
                (TokenSource::Session(token.stored.clone()), read_only)
            }
            Caller::Ticket(stored) => (TokenSource::Session(stored.clone()), self.callers.neighbour.read_only),
            Caller::Service(service) => (TokenSource::Service(service.clone()), self.callers.neighbour.read_only),
            Caller::Anonymous(_) => return Err(ClientFault::SignInRequired { sent: request.sends() }.into()),
        };
        let call = ApiCall { route, source, read_only };
        let path = self.router.below_prefix(request.path());
        let answer = match self.upstreams.api.call(request, path, message, call).await {
            Ok(CallOutcome { result, update, upstream }) => {
                let answer = match result {
                    Ok(response) => self.api_answer(request, &caller, response),
                    Err(CallFailure::Fault(fault)) => self.fault(request, &fault),
                    Err(CallFailure::Revoked) => self.revoked(request, &caller, facts),
                };
                Answer { upstream, ..answer.change(self.change_of(&caller, update, change)) }
            }
            Err(fault) => self.fault(request, &fault).change(self.change_of(&caller, None, change)),
        };
        let answer = match caller.session() {
            Some(session) => answer.user(session),
            None => answer,
        };
        Ok(self.confirm(lasting, answer))
    }

    fn api_answer(&self, request: &RequestInfo, caller: &Caller, response: Response) -> Answer {
        if !is_cdn_wall(&response) {
            return match caller {
                Caller::Session(stored) | Caller::Ticket(stored) => {
                    response.map(|body| hold_until(body, || self.sessions.watch(stored))).into()
                }
                Caller::Token(token) => response.map(|body| hold_until(body, || self.callers.watch(token))).into(),
                Caller::Service(_) | Caller::Anonymous(_) => response.into(),
            };
        }
        self.context().metrics.upstream_error(Side::Upwork);
        tracing::warn!(request_id = %request.id, "the CDN in front of Upwork answered a call with an HTML page: it takes us for a robot");
        Answer { fault: Some("cdn-wall"), ..response.into() }
    }

    /// Upwork has ended the grant behind the call.
    fn revoked(&self, request: &RequestInfo, caller: &Caller, facts: Facts<'_>) -> Answer {
        let answer = match caller.revoked() {
            Some(fault) => Err(fault),
            None => self.refuse(request, self.sessions.decide(facts, Credential::Nothing), None),
        };
        answer.unwrap_or_else(|fault| self.fault(request, &fault))
    }

    /// The effect of a call on the session's cookie: none if the request had no cookie. `before`: the effect of the
    /// recheck.
    fn change_of(&self, caller: &Caller, update: Option<TokenUpdate>, before: SessionChange) -> SessionChange {
        match (caller, update) {
            (Caller::Session(_), None) => before,
            (Caller::Session(_), Some(TokenUpdate::Renewed(stored))) => SessionChange::Renew(stored),
            (Caller::Session(_), Some(TokenUpdate::Revoked(stored))) => SessionChange::End(stored),
            // A ticket with an access token but no refresh token says nothing about its session.
            (Caller::Ticket(_), Some(TokenUpdate::Revoked(stored))) if stored.session.tokens.refresh.is_some() => {
                self.sessions.end_by_upwork(&stored.session);
                SessionChange::Keep
            }
            (Caller::Ticket(_) | Caller::Token(_) | Caller::Service(_) | Caller::Anonymous(_), _) => {
                SessionChange::Keep
            }
        }
    }

    /// On the host of `public_url`, removes the marker of the redirect that led there.
    pub(super) fn without_marker(&self, request: &RequestInfo, headers: &Fields) -> Option<Answer> {
        let target = request.uri.path_and_query()?.as_str();
        let clean = without_marker(target);
        // Two redirects in a row show that the proxy is wrong about the scheme. Without the marker they would never
        // stop.
        let goes_on = self.sign_in.came_by_http(request);
        if clean == target || !request.fetch.navigation || !request.safe() || goes_on {
            return None;
        }
        let host = headers.get(HOST).or(request.client.origin.host.as_ref())?.to_str().ok()?;
        let ours = &self.sign_in.public_url;
        ours.has_host(host).then(|| response::see_other(&ours.at(clean)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The future is made and copied into its box for each request, so every byte of it costs.
    #[test]
    fn the_future_of_a_request_is_small() {
        fn bytes<'a, F>(_: impl Fn(&'a Gateway, IncomingRequest, Arc<Peer>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(Gateway::handle);
        assert!(bytes <= 4608, "{bytes}");
    }
}
