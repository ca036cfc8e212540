//! The session of a request to our own endpoints.

use crate::gateway::answer::Answer;
use crate::gateway::fault::Fault;
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::sessions::SessionChange;
use crate::gateway::state::{Gateway, refusal};
use crate::policy::{Credential, Decision, Target};
use crate::store::StoredSession;
use crate::telemetry::Door;

/// The request's session, and the policy's decision on it.
pub(super) async fn open(gateway: &Gateway, request: &RequestInfo) -> Result<(Decision, Option<StoredSession>), Fault> {
    let stored = gateway.sessions.open(&request.cookies).await?;
    let credential = stored.as_ref().map_or(Credential::Nothing, |stored| Credential::Cookie(&stored.session));
    let decision = gateway.sessions.decide(request.facts(Door::Public, Target::Own, false), credential);
    Ok((decision, stored))
}

/// An admitted session, or the fault: for endpoints that begin no sign-in.
pub(super) async fn require(gateway: &Gateway, request: &RequestInfo) -> Result<StoredSession, Fault> {
    match open(gateway, request).await? {
        (Decision::Allow, Some(stored)) => Ok(stored),
        (decision, stored) => Err(refusal(request, decision, stored.as_ref().map(|stored| &*stored.session))),
    }
}

/// An answer about the session, which shows that the last sign-in lasted.
pub(super) fn finish(
    gateway: &Gateway,
    request: &RequestInfo,
    message: &Message,
    stored: StoredSession,
    answer: Answer,
) -> Answer {
    let held = gateway.shows_sign_in(request, &message.headers, Some(&stored.session));
    let answer = answer.user(&stored.session);
    let change = if stored.reseal { SessionChange::Renew(stored) } else { SessionChange::Keep };
    gateway.confirm(held, answer.change(change))
}
