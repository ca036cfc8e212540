//! `auth/logout`: GET asks first, POST ends the session here, at Upwork, and in its upgraded connections.

use http::{Method, StatusCode};

use crate::gateway::answer::Answer;
use crate::gateway::fault::{ClientFault, Fault, OurFault};
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::sessions::{GrantUse, SessionChange};
use crate::gateway::state::Gateway;
use crate::pages::{self, ConfirmView, Frame, Revocation, SignedOutView};
use crate::policy::Site;
use crate::store::StoredSession;
use crate::telemetry::trace;

/// Bytes of the form that are read.
const MAX_FORM: usize = 4 << 10;
/// Ends the query of the page that follows a sign-out of all browsers.
const EVERYWHERE: &str = "&everywhere=1";
/// What became of the grant, as the query of the page that follows says it.
const OUTCOMES: [(&str, Revocation); 5] = [
    ("done=revoked", Revocation::Revoked),
    ("done=failed", Revocation::Failed),
    ("done=refused", Revocation::Refused),
    ("done=kept", Revocation::KeptForTokens),
    ("done=shared", Revocation::KeptForSessions),
];

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
    if request.method != Method::POST {
        return page(gateway, request).await;
    }
    if request.fetch.site == Site::Foreign {
        return Err(ClientFault::CrossSite.into());
    }
    let unreadable = |_| ClientFault::BadRequest("The form is too long, or was cut off.");
    let form = message.body.collect(MAX_FORM).await.map_err(unreadable)?;
    let everywhere = url::form_urlencoded::parse(&form).any(|(name, value)| name == "everywhere" && value == "1");
    let stored = gateway.sessions.open(&request.cookies).await?;
    let mut location = format!("{}/auth/logout", gateway.prefix());
    if let Some(stored) = &stored {
        // In a task of its own, which goes on when its client hangs up.
        let (gateway, stored) = (gateway.clone(), stored.clone());
        let work = tokio::spawn(trace::carry(async move { end(&gateway, &stored, everywhere).await }));
        let dropped = |_| Err(OurFault::Internal("the sign-out's task was dropped".to_owned()).into());
        let outcome = work.await.unwrap_or_else(dropped)?;
        if let Some((query, _)) = OUTCOMES.into_iter().find(|(_, known)| *known == outcome) {
            location.extend(["?", query, if everywhere { EVERYWHERE } else { "" }]);
        }
    }
    let answer = Answer::from(response::see_other(&location))
        .change(SessionChange::SignOut)
        .cookies(gateway.sign_in.clear_cookies(&request.cookies));
    Ok(match &stored {
        Some(stored) => answer.user(&stored.session),
        None => answer,
    })
}

/// Without a session, the page that a sign-out leads to.
async fn page(gateway: &Gateway, request: &RequestInfo) -> Result<Answer, Fault> {
    let id = request.id.to_string();
    let frame = Frame { prefix: gateway.prefix(), request_id: Some(&id) };
    let page = if let Some(stored) = gateway.sessions.open(&request.cookies).await? {
        let user = &stored.session.user;
        let user = user.name.as_deref().unwrap_or(&user.nid);
        pages::confirm_sign_out(&ConfirmView { frame, user, everywhere: gateway.sessions.store.keeps_records() })
    } else {
        let (query, everywhere) =
            request.query().strip_suffix(EVERYWHERE).map_or((request.query(), false), |query| (query, true));
        let outcome = OUTCOMES.into_iter().find(|(known, _)| *known == query);
        let revocation = outcome.map_or(Revocation::NoSession, |(_, outcome)| outcome);
        pages::signed_out(&SignedOutView { frame, revocation, everywhere })
    };
    Ok(response::page(StatusCode::OK, page).into())
}

/// Ends the session, or all of its user's, in the store and at Upwork. Where the store fails on the way, the session that
/// asks is ended last, so that asking again does the rest; the grant is revoked in any case.
async fn end(gateway: &Gateway, stored: &StoredSession, everywhere: bool) -> Result<Revocation, Fault> {
    let (sessions, session) = (&gateway.sessions, &stored.session);
    if everywhere && !sessions.store.keeps_records() {
        let why = "This site keeps no sessions on its side, so it cannot end those of other browsers; `access.not_before` in its configuration can.";
        return Err(ClientFault::BadRequest(why).into());
    }
    sessions.disconnect(session);
    let others =
        if everywhere { sessions.store.end_user(&session.user.id, Some(&session.id)).await.map(drop) } else { Ok(()) };
    let ended = match others {
        Ok(()) => sessions.store.end(stored).await,
        Err(error) => Err(error),
    };
    if ended.is_ok() {
        sessions.close(session);
    }
    // Where it is not known whether others use the grant, it is not revoked.
    let kept = sessions.release_grant(stored).await;
    let outcome = match kept {
        Ok(GrantUse::None) => gateway.sign_in.revoke(&session.tokens).await,
        Ok(GrantUse::Sessions) => Revocation::KeptForSessions,
        Ok(GrantUse::Tokens) | Err(_) => Revocation::KeptForTokens,
    };
    ended?;
    kept?;
    Ok(outcome)
}
