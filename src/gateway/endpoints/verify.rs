//! `auth/verify`, for fronts that ask before they forward: 204 with the identity, or 401; 503 while the store is down, so
//! that no front sends everyone to sign in. It refreshes nothing, so a session that is due for a recheck is a 401: the front
//! hands the request to upwarden, which renews it. It sets no cookie; a navigation that it lets in shows that the last
//! sign-in held.

use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::gateway::answer::Answer;
use crate::gateway::fault::Fault;
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::state::Gateway;
use crate::policy::{Credential, Decision, Target};
use crate::telemetry::Door;

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
    let facts = request.facts(Door::Public, Target::App { public: false }, false);
    let allowed = gateway.sessions.open(&request.cookies).await?.filter(|stored| {
        let session = &stored.session;
        !gateway.sessions.is_due_for_recheck(session)
            && gateway.sessions.decide(facts, Credential::Cookie(session)) == Decision::Allow
    });
    let Some(stored) = allowed else {
        let mut response = response::empty(StatusCode::UNAUTHORIZED);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(response::CHALLENGE));
        return Ok(response.into());
    };
    // The front answers in our place, and passes no cookie on.
    let held = gateway.shows_sign_in(request, &message.headers, Some(&stored.session));
    drop(gateway.sign_in.loops.confirm(held));
    let mut response = response::empty(StatusCode::NO_CONTENT);
    response.headers_mut().extend(gateway.upstreams.app.identity(&stored.session).iter().cloned());
    Ok(Answer::from(response).user(&stored.session))
}
