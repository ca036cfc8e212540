//! `auth/logout`: GET asks for confirmation, POST ends the session here, at Upwork, and in its upgraded connections. In
//! both, `return_to` says where the browser goes next: a path on this host, or an address that `pages.sign_out_to`
//! covers.

use std::borrow::Cow;

use http::{Method, StatusCode};

use crate::gateway::answer::Answer;
use crate::gateway::fault::{ClientFault, Fault, OurFault};
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::sessions::{GrantUse, SessionChange};
use crate::gateway::state::Gateway;
use crate::pages::{self, ConfirmView, Revocation, SignedOutView};
use crate::policy::Site;
use crate::router::ReturnTo;
use crate::router::public_url::without_marker;
use crate::store::StoredSession;
use crate::telemetry::trace;

/// Limit for the form, in bytes: the longest `return_to` with every byte escaped.
const MAX_FORM: usize = 16 << 10;
/// Appended to the query of the page that follows a sign-out of all browsers.
const EVERYWHERE: &str = "&everywhere=1";
/// What happened to the grant, as the query of the following page says it.
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
    let everywhere = field(&form, "everywhere").is_some_and(|value| value == "1");
    let return_to = return_to(gateway, request, &form);
    let stored = gateway.sessions.open(&request.cookies).await?;
    let mut location = format!("{}/auth/logout", gateway.prefix());
    if let Some(stored) = &stored {
        // In its own task, which continues if the client disconnects.
        let (gateway, stored) = (gateway.clone(), stored.clone());
        let work = tokio::spawn(trace::carry(async move { end(&gateway, &stored, everywhere).await }));
        let dropped = |_| Err(OurFault::Internal("the sign-out's task was dropped".to_owned()).into());
        let outcome = work.await.unwrap_or_else(dropped)?;
        if let Some((query, _)) = OUTCOMES.into_iter().find(|(_, known)| *known == outcome) {
            location.extend(["?", query, if everywhere { EVERYWHERE } else { "" }]);
        }
    }
    let answer = Answer::from(response::see_other(return_to.as_deref().unwrap_or(&location)))
        .change(SessionChange::SignOut)
        .cookies(gateway.sign_in.clear_cookies(&request.cookies));
    Ok(match &stored {
        Some(stored) => answer.user(&stored.session),
        None => answer,
    })
}

/// The first field of this name in a form or a query.
fn field<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    url::form_urlencoded::parse(form).find(|(known, _)| known == name).map(|(_, value)| value)
}

/// `return_to` of the form, otherwise of the query, if it is allowed.
fn return_to(gateway: &Gateway, request: &RequestInfo, form: &[u8]) -> Option<String> {
    let query = without_marker(request.query()).as_bytes();
    let text = field(form, "return_to").or_else(|| field(query, "return_to"))?;
    let here = ReturnTo::parse(gateway.sign_in.public_url.relative(&text), gateway.prefix());
    here.map(|place| place.as_str().to_owned()).or_else(|| gateway.config.pages.sign_out_to.resolve(&text))
}

/// The page that asks for confirmation, or without a session the page that a sign-out leads to.
async fn page(gateway: &Gateway, request: &RequestInfo) -> Result<Answer, Fault> {
    let id = request.id.to_string();
    let (frame, return_to) = (gateway.frame(&id), return_to(gateway, request, &[]));
    let page = if let Some(stored) = gateway.sessions.open(&request.cookies).await? {
        let user = &stored.session.user;
        let user = user.name.as_deref().unwrap_or(&user.nid);
        let everywhere = gateway.sessions.store.keeps_records();
        pages::confirm_sign_out(&ConfirmView { frame, user, everywhere, return_to: return_to.as_deref() })
    } else if let Some(return_to) = return_to {
        return Ok(response::see_other(&return_to).into());
    } else {
        let (query, everywhere) =
            request.query().strip_suffix(EVERYWHERE).map_or((request.query(), false), |query| (query, true));
        let outcome = OUTCOMES.into_iter().find(|(known, _)| *known == query);
        let revocation = outcome.map_or(Revocation::NoSession, |(_, outcome)| outcome);
        pages::signed_out(&SignedOutView { frame, revocation, everywhere })
    };
    Ok(response::page(StatusCode::OK, page).into())
}

/// Ends the session, or all sessions of its user, in the store and at Upwork. The requesting session ends last, so that
/// a retry can finish the job if the store fails on the way; the grant is revoked in any case.
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
    // If it is unknown whether others use the grant, it is not revoked.
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
