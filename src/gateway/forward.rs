//! The two deeds: on to the app, on to the API.
//!
//! In: a request that may pass, and whose it is. Out: the upstream's answer, or the fault that stood in for it. Identity is
//! told to the app in fields that no client can set; a token is told to nobody.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::{Answer, Ask, Gateway, Shared};
use crate::body::Body;
use crate::broker::{ApiTarget, CallError, Caller, TargetError};
use crate::listener::{BodyWatch, Peer, Refused};
use crate::oauth::Grant;
use crate::oauth::refresh::{Need, RefreshError};
use crate::policy::Target;
use crate::proxy::forwarded::Claims;
use crate::proxy::headers::{
    FORWARDED_USER, ORGANIZATION_ID, REQUEST_ID, USER, USER_ID, USER_NAME, ascii_value, requested_upgrade,
};
use crate::proxy::upgrade::Upgrades;
use crate::proxy::{self, AppHeaders, HostPolicy, Onward};
use crate::router::Route;
use crate::session::Session;
use crate::store::{Held, SessionChange};

impl Gateway {
    /// On to the app. The app needs no fresh token; only one that ended long ago is renewed first.
    pub(super) async fn forward(&self, ask: Ask, body: Body, held: Option<Held>, peer: &Peer) -> Answer {
        let shared = &self.shared;
        let Some((held, change)) = shared.recheck(held).await else {
            let decision = shared.decide(&ask, Target::App { public: false }, None);
            return shared.refuse(&ask, decision, None).change(SessionChange::End);
        };
        let Ask { id, origin, looking, site, head } = ask;
        let watch = head.extensions.get::<BodyWatch>().cloned();
        let (mut client, kept) = split(head);
        let claims = Claims::read(&client.headers);
        let own_token = shared.app.drop_authorization || is_our_token(&client.headers);
        let upgrade = requested_upgrade(&client.headers).is_some();
        let mut headers = AppHeaders::from_client(std::mem::take(&mut client.headers), |name| shared.owns(name));
        if own_token {
            headers.drop_authorization();
        }
        origin.tell(&mut headers, &claims);
        match &shared.app.host {
            // HTTP/1.0 knows no Host, and what goes on is HTTP/1.1 (RFC 9112 section 3.2).
            HostPolicy::Keep => headers.set_where_missing(HOST, || ascii_value(&shared.app.upstream.authority())),
            HostPolicy::App => headers.set(HOST, ascii_value(&shared.app.upstream.authority())),
            HostPolicy::Fixed(host) => headers.set(HOST, ascii_value(host)),
        }
        headers.set(REQUEST_ID, ascii_value(&id.to_string()));
        if let Some(held) = held.as_ref().filter(|held| shared.identity_may_be_told(&held.session)) {
            tell_identity(&mut headers, &held.session);
        }
        let upgrades = Upgrades {
            tracker: peer.tracker.clone(),
            drain: peer.drain.clone(),
            session_end: held.as_ref().filter(|_| upgrade).map(|held| shared.session_end(held)),
            idle: shared.upgrade_idle,
            metrics: shared.metrics.clone(),
        };
        let onward = Onward { client, headers, upgrades };
        let answer = match proxy::to_app(&self.app, onward, body, |name| shared.owns(name)).await {
            Ok(response) => response.into(),
            Err(error) => {
                shared.fault(&Ask { id, origin, looking, site, head: kept }, &blame(watch.as_ref(), app_fault(&error)))
            }
        };
        let answer = Answer { change, ..answer };
        match &held {
            Some(held) => answer.user(held),
            None => answer,
        }
    }

    /// On to the API, as the session's user.
    pub(super) async fn call(&self, ask: Ask, body: Body, route: Route<'_>, held: Held) -> Answer {
        let reseal = held.reseal.then(|| held.clone());
        let answer = self.broker_call(ask, body, route, Caller::Session(held.clone())).await.user(&held);
        match (&answer.change, reseal) {
            (SessionChange::Keep, Some(held)) => answer.change(SessionChange::Replace(held)),
            _ => answer,
        }
    }

    /// On to the API, as `caller`.
    pub(super) async fn broker_call(&self, mut ask: Ask, body: Body, route: Route<'_>, caller: Caller) -> Answer {
        let shared = &self.shared;
        let target = match ApiTarget::parse(route, ask.head.uri.query(), &shared.graphql_path) {
            Ok(target) => target,
            Err(TargetError::Forbidden) => return shared.fault(&ask, &Fault::ForbiddenTarget),
            Err(TargetError::NotApi) => return shared.fault(&ask, &Fault::NotFound),
        };
        let service = matches!(caller, Caller::Service(_));
        let watch = ask.head.extensions.get::<BodyWatch>().cloned();
        let (head, kept) = split(ask.head);
        ask.head = kept;
        let outcome = self.broker.call(head, body, &target, caller).await;
        let answer = match outcome.response {
            Ok(mut response) => {
                response.headers_mut().extend(self.broker.quota().headers());
                response.into()
            }
            Err(CallError::Token(RefreshError::Revoked)) if !service => {
                let decision = shared.decide(&ask, Target::Api, None);
                shared.refuse(&ask, decision, None)
            }
            Err(error) => shared.fault(&ask, &blame(watch.as_ref(), api_fault(error, service))),
        };
        answer.change(outcome.change)
    }
}

/// How often it is looked whether a session with upgraded connections still lives.
const LOOK: Duration = Duration::from_secs(15);

impl Shared {
    /// Cancelled when the session is over, however that comes: signed out here or at another replica, run out, or taken
    /// back by the access rules. A socket ends when its session does.
    fn session_end(self: &Arc<Self>, held: &Held) -> Arc<CancellationToken> {
        let (token, fresh) = self.ends.watch(&held.session.id);
        if fresh {
            tokio::spawn(self.clone().look_after(held.clone(), Arc::downgrade(&token)));
        }
        token
    }

    async fn look_after(self: Arc<Self>, held: Held, watched: Weak<CancellationToken>) {
        let session = &held.session;
        let ends_at = session.ends_at(self.session.lifetime);
        while watched.strong_count() > 0 {
            let (now, access) = (self.clock.now(), self.access.load_full());
            let organization = session.organization.as_ref().map(|organization| organization.id.as_str());
            let admitted =
                access.admits(&session.user.id, organization) && !access.ended(&session.user.id, session.began_at);
            // A store that cannot be asked has not said that the session is over.
            if now >= ends_at || !admitted || matches!(self.store.alive(&held).await, Ok(false)) {
                return self.ends.end(&session.id);
            }
            self.clock.sleep_until(ends_at.min(now.plus(LOOK))).await;
        }
    }

    /// A session whose token ended over `session.recheck` ago is refreshed before the app is reached: only Upwork's own word
    /// ends it, an outage does not (CONTRACT "A session").
    /// `None` where it is over.
    async fn recheck(&self, held: Option<Held>) -> Option<(Option<Held>, SessionChange)> {
        let Some(held) = held else { return Some((None, SessionChange::Keep)) };
        let change = if held.reseal { SessionChange::Replace(held.clone()) } else { SessionChange::Keep };
        if !held.session.needs_recheck(self.clock.now(), self.session.recheck) {
            return Some((Some(held), change));
        }
        match self.refresher.fresh(held.clone(), Need::Due).await {
            Ok(fresh) if Arc::ptr_eq(&fresh.session, &held.session) => Some((Some(held), change)),
            Ok(fresh) => Some((Some(fresh.clone()), SessionChange::Replace(fresh))),
            Err(RefreshError::Revoked) => None,
            Err(RefreshError::Misconfigured(_) | RefreshError::Unavailable { .. }) => Some((Some(held), change)),
        }
    }

    /// A token of the implicit grant may have been issued to somebody else's application (token substitution): identity
    /// rests on it only where the configuration accepts that.
    pub(super) fn identity_may_be_told(&self, session: &Session) -> bool {
        session.grant == Grant::Code || self.upwork.config().implicit_identity
    }
}

/// The head for the upstream, and what of it a fault would need.
fn split(head: http::request::Parts) -> (http::request::Parts, http::request::Parts) {
    let mut kept = http::Request::new(()).into_parts().0;
    kept.method = head.method.clone();
    kept.uri = head.uri.clone();
    (head, kept)
}

/// `Authorization: Bearer upwd_…` or `upwt_…`: ours, and not the app's business.
fn is_our_token(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').map_or(text, |(_, token)| token).trim();
        token.starts_with("upwd_") || token.starts_with("upwt_")
    })
}

fn tell_identity(headers: &mut AppHeaders, session: &Session) {
    for (name, value) in identity(session) {
        headers.set(name, value);
    }
}

/// The identity headers of CONTRACT "Headers".
pub(super) fn identity(session: &Session) -> Vec<(http::HeaderName, HeaderValue)> {
    let user = &session.user;
    let nid = ascii_value(&user.nid);
    let mut fields = vec![(USER_ID, ascii_value(&user.id)), (USER, nid.clone()), (FORWARDED_USER, nid)];
    if let Some(name) = &user.name {
        fields.push((USER_NAME, ascii_value(name)));
    }
    if let Some(organization) = &session.organization {
        fields.push((ORGANIZATION_ID, ascii_value(&organization.id)));
    }
    fields
}

/// The chain of causes of an upstream's failure, for the log.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A body that was refused in the middle is what went wrong, whatever the upstream made of its end.
fn blame(watch: Option<&BodyWatch>, fault: Fault) -> Fault {
    watch.and_then(BodyWatch::refused).map_or(fault, Fault::Refused)
}

fn client_fault(error: &proxy::Error) -> Fault {
    Refused::of(error).map_or(Fault::ClientGone, Fault::Refused)
}

fn app_fault(error: &proxy::Error) -> Fault {
    match error {
        proxy::Error::Connect(_) | proxy::Error::ConnectTimeout => Fault::AppDown(causes(error)),
        proxy::Error::FirstByteTimeout => Fault::AppSlow,
        proxy::Error::Client(_) => client_fault(error),
        proxy::Error::Answer(_) => Fault::AppBroken(causes(error)),
    }
}

fn api_fault(error: CallError, service: bool) -> Fault {
    match error {
        CallError::Upstream(error) => match error {
            proxy::Error::FirstByteTimeout => Fault::ApiSlow,
            proxy::Error::Client(_) => client_fault(&error),
            proxy::Error::Connect(_) | proxy::Error::ConnectTimeout | proxy::Error::Answer(_) => {
                Fault::ApiDown(causes(&error))
            }
        },
        CallError::Token(error) if service => Fault::ServiceDead(error.to_string()),
        CallError::Token(RefreshError::Unavailable { why, retry_after }) => {
            Fault::RefreshUnavailable { why, retry_after }
        }
        CallError::Token(RefreshError::Misconfigured(why)) => Fault::RefreshUnavailable { why, retry_after: None },
        CallError::Token(RefreshError::Revoked) => Fault::SignInRequired { sent: false },
        CallError::Late(late) => Fault::Paced(late),
        CallError::SendAgain => Fault::SendAgain,
    }
}
