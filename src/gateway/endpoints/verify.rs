//! `auth/verify`, for fronts that ask before they forward (docs/operations.md "Fronts that ask first").
//!
//! Some fronts hand a refused request over to upwarden: they get only 204 or 401. Others pass our answer to their
//! client: they get 200, or what the client would get from upwarden directly. Both get the identity of the admitted
//! user. Neither kind can add a cookie to an answer of the app. So a request whose session is due for a recheck is
//! handed over, or, if it is a page view, redirected to itself with the renewed cookie.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, UPGRADE, WWW_AUTHENTICATE};
use http::{Method, StatusCode, Uri};

use crate::fields::Fields;
use crate::gateway::answer::Answer;
use crate::gateway::callers::Callers;
use crate::gateway::fault::{ClientFault, Fault};
use crate::gateway::request::{Message, RequestInfo, is_preflight, only};
use crate::gateway::response;
use crate::gateway::sessions::SessionChange;
use crate::gateway::state::Gateway;
use crate::policy::{AppRoute, Credential, Decision, Facts, Target};
use crate::router::{self, AuthPath, Route};
use crate::store::StoredSession;
use crate::telemetry::Door;

/// The target of the waiting request, as Traefik and Caddy send it.
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");

struct OriginalRequest {
    request: RequestInfo,
    /// No client of the front can have forged the target: it is in the URL that the front requested, or in headers that
    /// `public.trusted_headers` lists.
    certain: bool,
    /// The client gets our answer, unless the request is admitted.
    for_client: bool,
}

impl OriginalRequest {
    /// A front that does not set `X-Forwarded-Uri` may pass on its client's, so that value only shapes a refusal and
    /// never grants access.
    fn read(
        gateway: &Gateway,
        request: &RequestInfo,
        headers: &Fields,
        endpoint: AuthPath,
    ) -> Result<Self, ClientFault> {
        let mut request = request.clone();
        let appended = gateway.router.verified(&request.uri, endpoint).map(str::as_bytes);
        let field = |name: HeaderName| only(headers, &name).map_err(|_| ClientFault::AmbiguousPath);
        let claimed = field(FORWARDED_URI)?.filter(|_| request.client.origin.trusted).map(HeaderValue::as_bytes);
        let Some(target) = appended.or(claimed) else {
            return Ok(Self { request, certain: false, for_client: false });
        };
        let method = field(FORWARDED_METHOD)?.filter(|_| appended.is_none());
        let listed = |name: HeaderName| gateway.config.trusted_headers.contains(&name);
        let certain = appended.is_some() || (method.is_some() && listed(FORWARDED_URI) && listed(FORWARDED_METHOD));
        if let Some(method) = method {
            request.method = Method::from_bytes(method.as_bytes()).map_err(|_| ClientFault::AmbiguousPath)?;
        }
        let target = Uri::try_from(target).ok().and_then(|uri| uri.into_parts().path_and_query);
        request.uri = target.ok_or(ClientFault::AmbiguousPath)?.into();
        Ok(Self { request, certain, for_client: true })
    }

    /// Its route. If the target is not certain, it is the last route, or `None` if another route may be stricter. The
    /// front has to pass our own paths to us without asking.
    fn route<'a>(&self, gateway: &'a Gateway) -> Result<Option<&'a AppRoute>, ClientFault> {
        let (routes, path) = (&gateway.upstreams.routes, self.request.path());
        let last = || (!routes.restrict()).then(|| routes.last());
        match router::route(&gateway.router, path) {
            Route::App if self.certain => {
                routes.find(self.request.method.as_str(), path).map(Some).ok_or(ClientFault::AmbiguousPath)
            }
            Route::App => Ok(last()),
            Route::Auth(AuthPath::Verify) if !self.for_client => Ok(last()),
            Route::Api | Route::Graphql | Route::Auth(_) | Route::Unknown | Route::Ambiguous => {
                Err(ClientFault::NotFound)
            }
        }
    }
}

pub(super) async fn answer(
    gateway: &Gateway,
    request: &RequestInfo,
    message: Message,
    endpoint: AuthPath,
) -> Result<Answer, Fault> {
    let headers = &message.headers;
    let original = OriginalRequest::read(gateway, request, headers, endpoint)?;
    let Some(route) = original.route(gateway)? else { return Ok(handed_over()) };
    let OriginalRequest { request, certain, for_client } = original;
    let preflight =
        certain && gateway.config.app.preflight_pass && is_preflight(&request.method, request.path(), headers);
    let mut facts = request.facts(Door::Public, Target::App(route), preflight);
    facts.writes |= headers.contains_key(UPGRADE);
    let open = gateway.sessions.decide(facts, Credential::Nothing) == Decision::AllowAnonymous;
    let stored = match gateway.sessions.open(&request.cookies).await {
        Ok(stored) => stored,
        Err(_) if open => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(answer) = gateway.without_marker(&request, headers).filter(|_| for_client) {
        return Ok(answer);
    }
    let session = stored.as_ref().map(|stored| &*stored.session);
    let decision = gateway.sessions.decide(facts, session.map_or(Credential::Nothing, Credential::Cookie));
    let due = session.is_some_and(|session| gateway.sessions.is_due_for_recheck(session));
    match (decision, stored) {
        (Decision::Allow, Some(stored)) if !due => Ok(let_in(gateway, &request, headers, Some(&stored), for_client)),
        (Decision::Allow | Decision::AllowAnonymous, _) if open => {
            Ok(let_in(gateway, &request, headers, None, for_client))
        }
        _ if !for_client => Ok(handed_over()),
        (Decision::Allow, Some(stored)) => renew(gateway, &request, headers, facts, stored).await,
        (decision, stored) => {
            let shown = match decision {
                Decision::SignIn | Decision::NeedsSession => Callers::not_accepted(headers),
                Decision::Allow
                | Decision::AllowAnonymous
                | Decision::CrossSite
                | Decision::NotAdmitted
                | Decision::NotAdmittedHere
                | Decision::ReadOnly => None,
            };
            let session = stored.as_ref().map(|stored| &*stored.session);
            shown.map_or_else(|| gateway.refuse(&request, decision, session), Err)
        }
    }
}

/// 401 without a body: the front hands the client's request over to us.
fn handed_over() -> Answer {
    response::empty(StatusCode::UNAUTHORIZED)
        .with(WWW_AUTHENTICATE, HeaderValue::from_static(response::CHALLENGE))
        .into()
}

fn let_in(
    gateway: &Gateway,
    request: &RequestInfo,
    headers: &Fields,
    stored: Option<&StoredSession>,
    for_client: bool,
) -> Answer {
    // Envoy's `ext_authz` accepts no other status.
    let mut response = response::empty(if for_client { StatusCode::OK } else { StatusCode::NO_CONTENT });
    let Some(session) = stored.map(|stored| &stored.session) else { return response.into() };
    // The front answers the client and passes no cookie on.
    drop(gateway.sign_in.loops.confirm(gateway.shows_sign_in(request, headers, Some(session))));
    response.headers.extend(gateway.upstreams.app.identity().of(session));
    Answer::from(response).user(session)
}

/// Redirects a page view to itself with the renewed cookie. While Upwork cannot be reached, the session stays valid.
/// Any other request is admitted if a store has the renewed session. Without a store it waits for the next page view: a
/// front may not add the renewed cookie to an answer of the app, and the refresh token in the old one is used up.
async fn renew(
    gateway: &Gateway,
    request: &RequestInfo,
    headers: &Fields,
    facts: Facts<'_>,
    stored: StoredSession,
) -> Result<Answer, Fault> {
    let target = request.uri.path_and_query().filter(|_| request.fetch.navigation && request.safe());
    if target.is_none() && !gateway.sessions.store.keeps_records() {
        return Err(ClientFault::SignInRequired { sent: request.sends() }.into());
    }
    let before = stored.session.clone();
    let (now, change) = gateway.sessions.recheck(stored, false, || false).await;
    let renewed = now.as_ref().is_some_and(|now| !Arc::ptr_eq(&now.session, &before));
    if let Some(target) = target.filter(|_| renewed) {
        debug_assert!(matches!(change, SessionChange::Renew(_)), "{change:?}");
        return Ok(Answer::from(response::see_other(&gateway.sign_in.public_url.at(target.as_str()))).change(change));
    }
    // Its organization may have changed.
    let session = now.as_ref().map(|now| &*now.session);
    let decision = gateway.sessions.decide(facts, session.map_or(Credential::Nothing, Credential::Cookie));
    let answer = if decision == Decision::Allow {
        let_in(gateway, request, headers, now.as_ref(), true)
    } else {
        gateway.refuse(request, decision, session).unwrap_or_else(|fault| gateway.fault(request, &fault))
    };
    // An unchanged session gets no cookie, because the front answers the client.
    Ok(if renewed || now.is_none() { answer.change(change) } else { answer })
}
