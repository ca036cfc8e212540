//! `auth/session`: the session as JSON (docs/reference.md "Session as JSON"). It never contains a token.

use http::StatusCode;
use serde_json::json;

use super::own_session;
use crate::gateway::answer::Answer;
use crate::gateway::fault::Fault;
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::state::Gateway;

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
    let stored = own_session::require(gateway, request).await?;
    let session = &stored.session;
    let value = json!({
        "user": { "id": session.user.id, "nid": session.user.nid, "name": session.user.name },
        "organization": session.organization.as_ref().map(|o| json!({ "id": o.id, "name": o.name })),
        "grant": session.grant,
        "token_expires_at": session.tokens.expires_at.rfc3339(),
        "expires_at": gateway.sessions.expires_at(session).rfc3339(),
    });
    let answer = response::json(StatusCode::OK, &value).into();
    Ok(own_session::finish(gateway, request, &message, stored, answer))
}
