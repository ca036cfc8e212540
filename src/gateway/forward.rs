//! The two deeds: on to the app, on to the API.
//!
//! In: a request that may pass, and whose it is. Out: the upstream's answer, or the fault that stood in for it. Identity is
//! told to the app in fields that no client can set; a token is told to nobody.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, MAX_FORWARDS, TE, TRAILER, VIA};
use http::{HeaderMap, Method, Response, StatusCode, Version};

use super::fault::Fault;
use super::{Answer, Ask, Gateway, Shared, answer, reading};
use crate::body::Body;
use crate::broker::{ApiTarget, CallError, Caller, TargetError};
use crate::listener::{BodyWatch, Peer, Refused};
use crate::oauth::refresh::RefreshError;
use crate::oauth::{Grant, Unavailable};
use crate::policy::{Decision, Target};
use crate::proxy::forwarded::Claims;
use crate::proxy::headers::{
    FORWARDED_USER, ORGANIZATION_ID, REQUEST_ID, TICKET, USER, USER_ID, USER_NAME, ascii_value, requested_upgrade,
    strip,
};
use crate::proxy::upgrade::Upgrades;
use crate::proxy::{self, AppHeaders, AppRequest, HostPolicy};
use crate::router::Route;
use crate::session::Session;
use crate::store::{SessionChange, StoredSession};
use crate::telemetry::{RequestId, Side, causes};
use crate::tls;

/// A call of the API: where, as whom, and what is special about it.
#[derive(Debug)]
pub(super) struct Calling {
    /// Its path.
    pub(super) route: Route,
    /// Whose token it uses.
    pub(super) caller: Caller,
    /// It may only read.
    pub(super) read_only: bool,
    /// What is said where Upwork has ended the grant; `None` asks for a sign-in.
    pub(super) over: Option<Fault>,
}

impl Gateway {
    /// On to the app, as whom the session says unless it turns out to be over. The app needs no fresh token; only one that
    /// ended long ago is renewed first.
    pub(super) async fn forward(
        &self,
        ask: Ask,
        body: Body,
        (who, target): (Option<StoredSession>, Target),
        peer: &Peer,
    ) -> Answer {
        let shared = &self.shared;
        // Only on its way to the app: an app may well call the API with what it was sent.
        if shared.via.passed(&ask.head.headers) {
            return shared.fault(&ask, &Fault::Circle);
        }
        let nobody = || shared.decide(&ask, target, None);
        let (held, change) = shared.recheck(who, || nobody() == Decision::AllowAnonymous).await;
        if matches!(change, SessionChange::End(_)) && nobody() != Decision::AllowAnonymous {
            return shared.refuse(&ask, nobody(), None).change(change);
        }
        let Ask { id, origin, looking, site, cookies, mut head } = ask;
        if has_no_step_left(&mut head) {
            return answer::bare(StatusCode::NO_CONTENT).into();
        }
        let watch = head.extensions.get::<BodyWatch>().cloned();
        let (mut client, kept) = split(head);
        let claims = Claims::read(&client.headers);
        let via = shared.via.field(&client.headers, client.version);
        let own_token = shared.app.drop_authorization || is_our_token(&client.headers);
        let upgrade = requested_upgrade(&client.headers).is_some();
        let mut headers = AppHeaders::from_client(std::mem::take(&mut client.headers), &cookies);
        if own_token {
            headers.drop_authorization();
        }
        origin.write_to(&mut headers, &claims);
        headers.set(VIA, via);
        shared.tell_app(&mut headers, id, held.as_ref());
        let upgrades = Upgrades {
            tracker: peer.tracker.clone(),
            drain: peer.drain.clone(),
            session_end: held.as_ref().filter(|_| upgrade).map(|held| shared.end_with(held)),
            idle: shared.upgrade_idle,
            metrics: shared.metrics.clone(),
        };
        // HTTP/1 sends no trailers to who does not ask for them (RFC 9110 section 6.5.1); then none are announced.
        let trailers = client.version > Version::HTTP_11 || headers.as_map().contains_key(TE);
        let onward = AppRequest { client, headers, upgrades };
        let answer = match proxy::to_app(&self.app, onward, body, |name| shared.owns(name)).await {
            Ok(mut response) => {
                if !trailers {
                    strip(response.headers_mut(), &TRAILER);
                }
                response.into()
            }
            Err(error) => {
                let ask = Ask { id, origin, looking, site, cookies, head: kept };
                shared.fault(&ask, &blame(watch.as_ref(), app_fault(&error)))
            }
        };
        let answer = Answer { change, ..answer };
        match &held {
            Some(held) => answer.user(held),
            None => answer,
        }
    }

    /// On to the API, as the session's user.
    pub(super) async fn call(&self, ask: Ask, body: Body, route: Route, held: StoredSession) -> Answer {
        let reseal = held.reseal.then(|| held.clone());
        let calling = Calling {
            route,
            caller: Caller::Session(held.clone()),
            read_only: self.shared.config.public_read_only,
            over: None,
        };
        let answer = self.broker_call(ask, body, calling).await.user(&held);
        match (&answer.change, reseal) {
            (SessionChange::Keep, Some(held)) => answer.change(SessionChange::Replace(held)),
            _ => answer,
        }
    }

    /// On to the API.
    pub(super) async fn broker_call(&self, mut ask: Ask, body: Body, calling: Calling) -> Answer {
        let (shared, Calling { route, caller, read_only, over }) = (&self.shared, calling);
        let target = match ApiTarget::parse(
            route,
            shared.router.below_prefix(ask.path()),
            ask.head.uri.query(),
            &shared.graphql_path,
        ) {
            Ok(target) => target,
            Err(TargetError::Forbidden) => return shared.fault(&ask, &Fault::ForbiddenTarget),
            Err(TargetError::NotApi) => return shared.fault(&ask, &Fault::NotFound),
        };
        let body = if read_only {
            match reading::only_reads(&mut ask.head, body, route).await {
                Ok(body) => body,
                Err(fault) => return shared.fault(&ask, &fault),
            }
        } else {
            body
        };
        let service = matches!(caller, Caller::Service(_));
        let watch = ask.head.extensions.get::<BodyWatch>().cloned();
        let (head, kept) = split(ask.head);
        ask.head = kept;
        let outcome = self.broker.call(head, body, &target, caller).await;
        let answer = match outcome.response {
            Ok(mut response) => {
                response.headers_mut().extend(self.broker.quota().headers());
                let wall = is_cdn_wall(&response);
                if wall {
                    shared.metrics.upstream_error(Side::Upwork);
                    tracing::warn!(request_id = %ask.id, "the CDN in front of Upwork answered a call with an HTML page: it takes us for a robot");
                }
                Answer { fault: wall.then_some("cdn-wall"), ..response.into() }
            }
            Err(CallError::Token(RefreshError::Revoked)) if !service => {
                let no_session = || shared.refuse(&ask, shared.decide(&ask, Target::Api, None), None);
                over.map_or_else(no_session, |over| shared.fault(&ask, &over))
            }
            Err(error) => shared.fault(&ask, &blame(watch.as_ref(), api_fault(error, service))),
        };
        answer.change(outcome.change)
    }
}

impl Shared {
    /// What the app is told besides its client's own fields.
    fn tell_app(&self, headers: &mut AppHeaders, id: RequestId, held: Option<&StoredSession>) {
        match &self.app.host {
            // HTTP/1.0 knows no Host, and what goes on is HTTP/1.1 (RFC 9112 section 3.2).
            HostPolicy::Keep => headers.set_where_missing(HOST, || ascii_value(&self.app.upstream.authority())),
            HostPolicy::App => headers.set(HOST, ascii_value(&self.app.upstream.authority())),
            HostPolicy::Fixed(host) => headers.set(HOST, ascii_value(host)),
        }
        headers.set(REQUEST_ID, id.into());
        if let Some(held) = held.filter(|held| self.identity_may_be_told(&held.session)) {
            tell_identity(headers, &held.session);
        }
        if let Some(ticket) = held.and_then(|held| self.ticket(held)) {
            headers.set(TICKET, ticket);
        }
    }

    /// A token of the implicit grant may have been issued to somebody else's application (token substitution): identity
    /// rests on it only where the configuration accepts that.
    pub(super) fn identity_may_be_told(&self, session: &Session) -> bool {
        session.grant == Grant::Code || self.upwork.config().implicit_identity
    }
}

/// An OPTIONS that may go no further (RFC 9110 section 7.6.2); one that may has a step less.
fn has_no_step_left(head: &mut http::request::Parts) -> bool {
    let steps = head.headers.get(MAX_FORWARDS).filter(|_| head.method == Method::OPTIONS);
    let Some(steps) = steps.and_then(|steps| steps.to_str().ok()?.parse::<u64>().ok()) else { return false };
    let left = steps.checked_sub(1);
    if let Some(left) = left {
        head.headers.insert(MAX_FORWARDS, left.into());
    }
    left.is_none()
}

/// The head for the upstream, and what of it a fault would need.
fn split(head: http::request::Parts) -> (http::request::Parts, http::request::Parts) {
    let mut kept = http::Request::new(()).into_parts().0;
    kept.method = head.method.clone();
    kept.uri = head.uri.clone();
    (head, kept)
}

/// HTML where the API speaks JSON: the bot wall of the CDN. It passes as it came, and says nothing about the session.
fn is_cdn_wall(response: &Response<Body>) -> bool {
    let html = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    html && !response.status().is_success() && !response.status().is_redirection()
}

/// `Authorization: Bearer upwd_…` or `upwt_…`, in whatever way it is written: ours, and not the app's business.
fn is_our_token(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|value| {
        let words = value.as_bytes().split(|byte| !(byte.is_ascii_alphanumeric() || b"_-.+/~".contains(byte)));
        words.into_iter().any(|word| word.starts_with(b"upwd_") || word.starts_with(b"upwt_"))
    })
}

fn tell_identity(headers: &mut AppHeaders, session: &Session) {
    for (name, value) in identity(session) {
        headers.set(name, value);
    }
}

/// The identity headers of docs/reference.md "Headers to the app".
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

/// A body that was refused in the middle is what went wrong, whatever the upstream made of its end.
fn blame(watch: Option<&BodyWatch>, fault: Fault) -> Fault {
    watch.and_then(BodyWatch::refused).map_or(fault, Fault::Refused)
}

fn client_fault(error: &proxy::Error) -> Fault {
    Refused::of(error).map_or(Fault::ClientGone, Fault::Refused)
}

fn app_fault(error: &proxy::Error) -> Fault {
    match error {
        proxy::Error::NoDescriptor => Fault::Overloaded,
        proxy::Error::Connect(cause) if tls::is_distrust(cause) => Fault::AppUntrusted(causes(error)),
        proxy::Error::Connect(_) | proxy::Error::ConnectTimeout => Fault::AppDown(causes(error)),
        proxy::Error::FirstByteTimeout => Fault::AppSlow,
        proxy::Error::RequestBody(_) => client_fault(error),
        proxy::Error::Response(_) | proxy::Error::Malformed | proxy::Error::UnexpectedUpgrade => {
            Fault::AppBroken(causes(error))
        }
    }
}

fn api_fault(error: CallError, service: bool) -> Fault {
    match error {
        CallError::Upstream(error) => match error {
            proxy::Error::NoDescriptor => Fault::Overloaded,
            proxy::Error::FirstByteTimeout => Fault::ApiSlow,
            proxy::Error::RequestBody(_) => client_fault(&error),
            proxy::Error::Connect(_)
            | proxy::Error::ConnectTimeout
            | proxy::Error::Response(_)
            | proxy::Error::Malformed
            | proxy::Error::UnexpectedUpgrade => Fault::ApiDown(causes(&error)),
        },
        CallError::Token(RefreshError::Store(error)) => Fault::StoreDown(error.to_string()),
        CallError::Token(error) if service => Fault::ServiceDead(error.to_string()),
        CallError::Token(RefreshError::Unavailable(Unavailable { reason, retry_after, .. })) => {
            Fault::RefreshUnavailable { why: reason, retry_after }
        }
        CallError::Token(RefreshError::Misconfigured(why)) => Fault::RefreshUnavailable { why, retry_after: None },
        CallError::Token(RefreshError::Revoked) => Fault::SignInRequired { sent: false },
        CallError::Late(late) => Fault::Paced(late),
        CallError::SendAgain => Fault::SendAgain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_tokens_are_known_in_whatever_way_they_are_written() {
        for text in [
            "Bearer upwd_abc",
            "bearer  upwt_abc",
            "Bearer\tupwd_abc",
            "upwd_abc",
            "Basic eA==, Bearer upwd_abc",
            "Bearer \"upwd_abc\"",
            "Bearer token=upwd_abc",
            "Bearer upwd_abc\u{e9}",
        ] {
            let headers = [(AUTHORIZATION, HeaderValue::from_bytes(text.as_bytes()).unwrap())].into_iter().collect();
            assert!(is_our_token(&headers), "{text}");
        }
        for text in ["Bearer eyJ.upwd_.x", "Basic dXB3ZF8=", "Bearer xupwd_abc", "Digest upwd"] {
            let headers = [(AUTHORIZATION, HeaderValue::from_static(text))].into_iter().collect();
            assert!(!is_our_token(&headers), "{text}");
        }
    }
}
