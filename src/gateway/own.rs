//! Our own endpoints under `{prefix}/auth/`.
//!
//! In: a request for one of them. Out: a page, JSON, or a status. What changes something is a POST that no other site's page
//! can make.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SET_COOKIE};
use http::{Method, Response, StatusCode};

use super::fault::Fault;
use super::{Answer, Ask, Gateway, Shared, answer, forward};
use crate::body::Body;
use crate::cookies::RequestCookies;
use crate::oauth::Grant;
use crate::oauth::upwork::{RevokeError, Upwork};
use crate::pages::curl::Neighbour;
use crate::pages::{
    self, AccountView, ConfirmView, Frame, LastRefresh, NewToken, RefreshOutcome, Revocation, SignedOutView, TokenRow,
    TokensView,
};
use crate::policy::{Decision, Site, Target};
use crate::router::{AuthPath, ReturnTo};
use crate::secret::Secret;
use crate::session::{Session, Tokens};
use crate::store::{SessionChange, StoredSession, TokenRecord};

/// Bytes of a sign-out's form that are read.
const FORM: usize = 4 << 10;
/// A sign-out waits this long for Upwork's word; the revocation itself goes on.
const REVOKE_WAIT: Duration = Duration::from_secs(5);

impl Gateway {
    /// One of our endpoints.
    pub(super) async fn own(&self, ask: Ask, body: Body, endpoint: AuthPath) -> Answer {
        let shared = &self.shared;
        match (endpoint, &ask.head.method) {
            (AuthPath::Callback, _) => self.callback(ask, body).await,
            (AuthPath::Verify, _) => shared.verify(&ask).await,
            (AuthPath::Logout, &Method::POST) => shared.sign_out(ask, body).await,
            (AuthPath::Logout, &Method::GET | &Method::HEAD) => shared.sign_out_page(ask).await,
            (AuthPath::Logout, _) => shared.fault(&ask, &Fault::MethodNotAllowed("GET, HEAD, POST")),
            (AuthPath::Tokens | AuthPath::Token, _) => self.tokens(ask, body, endpoint).await,
            (_, method) if !matches!(*method, Method::GET | Method::HEAD) => {
                shared.fault(&ask, &Fault::MethodNotAllowed("GET, HEAD"))
            }
            (AuthPath::Login, _) => shared.login(&ask),
            (AuthPath::Stylesheet, _) => stylesheet().into(),
            (AuthPath::Account | AuthPath::Session, _) => self.about(ask, endpoint).await,
        }
    }

    async fn about(&self, ask: Ask, endpoint: AuthPath) -> Answer {
        let shared = &self.shared;
        let held = match shared.identify(&ask.cookies).await {
            Ok(held) => held,
            Err(error) => return shared.fault(&ask, &Fault::StoreDown(error.to_string())),
        };
        let decision = shared.decide(&ask, Target::Own, held.as_ref());
        match (decision, held) {
            (Decision::Allow, Some(held)) => {
                let shown = shared.shown_again(&ask, decision, Some(&held));
                let answer = if endpoint == AuthPath::Session {
                    shared.session_json(&held)
                } else {
                    self.account(&ask, &held).await
                };
                let change = if held.reseal { SessionChange::Replace(held.clone()) } else { SessionChange::Keep };
                shared.end_row(shown, answer.user(&held).change(change))
            }
            (Decision::SignIn, _) if endpoint == AuthPath::Session => {
                shared.fault(&ask, &Fault::SignInRequired { sent: false })
            }
            (decision, held) => shared.refuse(&ask, decision, held.as_ref()),
        }
    }

    async fn account(&self, ask: &Ask, held: &StoredSession) -> Answer {
        self.account_with(ask, held, None).await
    }

    /// The page, with a token that was made a moment ago where there is one.
    pub(super) async fn account_with(
        &self,
        ask: &Ask,
        held: &StoredSession,
        new: Option<(&TokenRecord, &Secret)>,
    ) -> Answer {
        let (shared, quota) = (&self.shared, self.broker.quota());
        let tokens = match shared.tokens_of(held).await {
            Ok(tokens) => tokens,
            Err(fault) => return shared.fault(ask, &fault),
        };
        let rows: Option<Vec<_>> = tokens.as_ref().map(|tokens| tokens.iter().map(token_row).collect());
        let id = ask.id.to_string();
        let session = &held.session;
        let neighbour = shared
            .config
            .neighbour_address
            .as_deref()
            .map(|address| address.strip_prefix("unix:").map_or(Neighbour::Tcp(address), Neighbour::Unix));
        let view = AccountView {
            frame: Frame { prefix: &shared.router.prefix, request_id: Some(&id) },
            public_url: &shared.config.public_url,
            now: shared.clock.now(),
            user: pages::User { name: session.user.name.as_deref(), id: &session.user.id, nid: &session.user.nid },
            organization: session
                .organization
                .as_ref()
                .map(|o| pages::Organization { name: o.name.as_deref(), id: &o.id }),
            grant: grant(session.grant),
            signed_in_until: session.ends_at(shared.session.lifetime),
            token_expires_at: session.tokens.expires_at,
            last_refresh: shared.last_refresh(session),
            everywhere: shared.store.keeps_records(),
            quota: Some(pages::Quota {
                left: quota.remaining,
                of: quota.limit,
                resets_at: shared.clock.now().plus(quota.resets_in),
            }),
            neighbour: neighbour.map(|door| (door, shared.config.neighbour_secret.is_some())),
            service: shared.service.is_some(),
            tokens: rows.as_deref().map(|rows| TokensView { rows }),
            new_token: new.map(|(record, token)| NewToken { name: &record.name, token }),
        };
        answer::page(StatusCode::OK, pages::account(&view), "same-origin").into()
    }
}

impl Shared {
    /// The last refresh that failed since one worked, else the last that worked.
    fn last_refresh(&self, session: &Session) -> Option<LastRefresh> {
        let failed = self.refresher.failure(&session.id).filter(|failed| Some(failed.at) >= session.refreshed);
        let failed = failed.map(|failed| LastRefresh {
            at: failed.at,
            outcome: if failed.misconfigured { RefreshOutcome::Misconfigured } else { RefreshOutcome::Unavailable },
        });
        failed.or(session.refreshed.map(|at| LastRefresh { at, outcome: RefreshOutcome::Renewed }))
    }

    /// Begins a sign-in, whoever asks: only a script's request is told to open it in the address bar instead.
    fn login(&self, ask: &Ask) -> Answer {
        let scripted = ask.head.headers.contains_key("sec-fetch-mode") && !ask.looking.navigation;
        if scripted {
            return self.fault(ask, &Fault::SignInRequired { sent: false });
        }
        let query = ask.head.uri.query().unwrap_or_default();
        let query = super::sign_in::without_marker(query);
        let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "return_to");
        let place = asked.and_then(|(_, place)| ReturnTo::parse(&place, &self.router.prefix));
        self.begin_sign_in(ask, &place.unwrap_or_else(ReturnTo::home), 0)
    }

    /// 204 with the identity, or 401; nothing else ever. It refreshes nothing, so a session that would have to be
    /// refreshed before the app is reached is none here: whoever asks renews it through the sign-in.
    async fn verify(&self, ask: &Ask) -> Answer {
        let held = self.identify(&ask.cookies).await.ok().flatten();
        let allowed = held.filter(|held| {
            !held.session.needs_recheck(self.clock.now(), self.session.recheck)
                && self.decide(ask, Target::App { public: false }, Some(held)) == Decision::Allow
        });
        let Some(held) = allowed else {
            let mut response = answer::bare(StatusCode::UNAUTHORIZED);
            let challenge = HeaderValue::from_static("Bearer realm=\"upwarden\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
            return response.into();
        };
        let mut response = answer::bare(StatusCode::NO_CONTENT);
        if self.identity_may_be_told(&held.session) {
            response.headers_mut().extend(forward::identity(&held.session));
        }
        Answer::from(response).user(&held)
    }

    fn session_json(&self, held: &StoredSession) -> Answer {
        let session = &held.session;
        let value = serde_json::json!({
            "user": { "id": session.user.id, "nid": session.user.nid, "name": session.user.name },
            "organization": session.organization.as_ref().map(|o| serde_json::json!({ "id": o.id, "name": o.name })),
            "grant": grant(session.grant),
            "token_expires_at": session.tokens.expires_at.rfc3339(),
            "expires_at": session.ends_at(self.session.lifetime).rfc3339(),
        });
        answer::json(StatusCode::OK, &value).into()
    }

    /// GET asks first; without a session it is the page that one lands on.
    async fn sign_out_page(&self, ask: Ask) -> Answer {
        let id = ask.id.to_string();
        let frame = Frame { prefix: &self.router.prefix, request_id: Some(&id) };
        let page = match self.identify(&ask.cookies).await {
            Err(error) => return self.fault(&ask, &Fault::StoreDown(error.to_string())),
            Ok(Some(held)) => {
                let user = &held.session.user;
                let user = user.name.as_deref().unwrap_or(&user.nid);
                pages::confirm_sign_out(&ConfirmView { frame, user, everywhere: self.store.keeps_records() })
            }
            Ok(None) => {
                let query = ask.head.uri.query().unwrap_or_default();
                let (done, everywhere) =
                    query.strip_suffix("&everywhere=1").map_or((query, false), |done| (done, true));
                let revocation = match done {
                    "done=revoked" => Revocation::Revoked,
                    "done=failed" => Revocation::Failed,
                    "done=refused" => Revocation::Refused,
                    "done=kept" => Revocation::KeptForTokens,
                    _ => Revocation::NoSession,
                };
                pages::signed_out(&SignedOutView { frame, revocation, everywhere })
            }
        };
        answer::page(StatusCode::OK, page, "same-origin").into()
    }

    /// Ends the session here, at Upwork, and in its upgraded connections.
    async fn sign_out(&self, ask: Ask, body: Body) -> Answer {
        if ask.site == Site::Foreign {
            return self.fault(&ask, &Fault::CrossSite);
        }
        let Ok(form) = body.collect(FORM).await else {
            return self.fault(&ask, &Fault::BadRequest("The form is too long, or broke off."));
        };
        let everywhere = url::form_urlencoded::parse(&form).any(|(name, value)| name == "everywhere" && value == "1");
        let held = match self.identify(&ask.cookies).await {
            Ok(held) => held,
            Err(error) => return self.fault(&ask, &Fault::StoreDown(error.to_string())),
        };
        let mut query = "";
        if let Some(held) = &held {
            query = match self.end_and_revoke(held, everywhere).await {
                Ok(query) => query,
                Err(fault) => return self.fault(&ask, &fault),
            };
        }
        let everywhere = if everywhere && held.is_some() { "&everywhere=1" } else { "" };
        let mut response = answer::see_other(&format!("{}/auth/logout{query}{everywhere}", self.router.prefix));
        for line in self.clear_all(&ask.cookies) {
            response.headers_mut().append(SET_COOKIE, line);
        }
        let answer = Answer::from(response);
        match &held {
            Some(held) => answer.user(held),
            None => answer,
        }
    }

    /// Ends it, or all of its user's, in the store and at Upwork; what the page that follows is told. A store that fails on
    /// the way leaves the session that asks for last, so that asking again does the rest; the grant is revoked in any case.
    async fn end_and_revoke(&self, held: &StoredSession, everywhere: bool) -> Result<&'static str, Fault> {
        let session = &held.session;
        if everywhere && !self.store.keeps_records() {
            return Err(Fault::BadRequest(
                "This site keeps no sessions on its side, so it cannot end those of other browsers; `access.not_before` in its configuration can.",
            ));
        }
        self.ends.end(&session.id);
        self.tickets.end(&session.id);
        let all =
            if everywhere { self.store.end_user(&session.user.id, Some(&session.id)).await.map(drop) } else { Ok(()) };
        let ended = match all {
            Ok(()) => self.store.end(held).await,
            Err(error) => Err(error),
        };
        if ended.is_ok() {
            self.close(session);
        }
        // Where it cannot be told whether personal access tokens use the grant, they are not to lose it.
        let kept = self.kept_for_tokens(held).await;
        let query = match kept {
            Ok(false) => revoke(self.upwork.clone(), session.tokens.clone()).await,
            Ok(true) | Err(_) => "?done=kept",
        };
        ended.map_err(|error| Fault::StoreDown(error.to_string()))?;
        kept.map(|_| query)
    }

    /// Every cookie of ours, with the attributes it was set with.
    fn clear_all(&self, seen: &RequestCookies) -> Vec<HeaderValue> {
        let mut lines = self.jar.clear(seen);
        let others = self.logins.all().iter().chain([&self.tries]);
        for jar in others.filter(|jar| seen.iter().any(|(name, _)| jar.owns(name))) {
            lines.extend(jar.clear(seen));
        }
        lines
    }
}

/// What Upwork said to the end of the grant, as far as it did so in time: the query of the page that tells it.
pub(super) async fn revoke(upwork: Arc<Upwork>, tokens: Tokens) -> &'static str {
    let Ok(outcome) = tokio::time::timeout(REVOKE_WAIT, upwork.revoke(&tokens)).await else { return "?done=failed" };
    if let Err(error) = &outcome {
        tracing::warn!(%error, "Upwork did not end a grant");
    }
    match outcome {
        Ok(()) => "?done=revoked",
        Err(RevokeError::Refused(_)) => "?done=refused",
        Err(RevokeError::Unavailable(_)) => "?done=failed",
    }
}

fn token_row(record: &TokenRecord) -> TokenRow<'_> {
    TokenRow {
        id: &record.id,
        name: &record.name,
        created_at: record.created_at,
        expires_at: record.expires_at,
        last_used_at: record.last_used_at,
        read_only: record.read_only,
    }
}

fn grant(grant: Grant) -> &'static str {
    match grant {
        Grant::Code => "code",
        Grant::Implicit => "implicit",
    }
}

fn stylesheet() -> Response<Body> {
    let mut response = Response::new(Body::full(pages::STYLESHEET));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
