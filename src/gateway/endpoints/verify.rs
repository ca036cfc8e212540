//! `auth/verify`, for fronts that ask before they forward: 204 with the identity, or 401, and nothing else. It refreshes
//! nothing, so a session that is due for a recheck is a 401: the front hands the request to upwarden, which renews it.

use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::gateway::answer::Answer;
use crate::gateway::fault::Fault;
use crate::gateway::request::RequestInfo;
use crate::gateway::response;
use crate::gateway::state::Gateway;
use crate::policy::{Credential, Decision, Target};
use crate::telemetry::Door;

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo) -> Result<Answer, Fault> {
    let facts = request.facts(Door::Public, Target::App { public: false }, false);
    let allowed = gateway.sessions.open(&request.cookies).await.ok().flatten().filter(|stored| {
        let session = &stored.session;
        !gateway.sessions.is_due_for_recheck(session)
            && gateway.sessions.decide(facts, Credential::Cookie(session)) == Decision::Allow
    });
    let Some(stored) = allowed else {
        let mut response = response::empty(StatusCode::UNAUTHORIZED);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(response::CHALLENGE));
        return Ok(response.into());
    };
    let mut response = response::empty(StatusCode::NO_CONTENT);
    response.headers_mut().extend(gateway.upstreams.app.identity(&stored.session));
    Ok(Answer::from(response).user(&stored.session))
}
