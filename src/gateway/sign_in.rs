//! Sign-in: to Upwork and back.
//!
//! In: a browser without a session; a callback. Out: a 303 to Upwork with the sign-in's cookie; a session's cookie and a 303
//! to where the browser wanted to go; or a page that says what happened. A code is never redeemed before its state was
//! checked, and no failure begins an endless round: failures in a row are counted inside the sealed state.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use http::header::{HOST, HeaderValue, SET_COOKIE};

use super::entries::Entry;
use super::fault::Fault;
use super::own::revoke;
use super::{Answer, Ask, Gateway, Shared, answer, shown_as};
use crate::body::Body;
use crate::cookies::RequestCookies;
use crate::oauth::Grant;
use crate::oauth::callback::{Authorization, Callback, CallbackError, StateError};
use crate::oauth::login::{Login, MAX_FAILURES, State};
use crate::oauth::login_cookies::PendingLogin;
use crate::oauth::token::TokenGrant;
use crate::oauth::upwork::UserInfo;
use crate::pages::{self, Frame};
use crate::policy::Site;
use crate::router::ReturnTo;
use crate::session::{Session, Tokens};
use crate::store::{SessionChange, StoredSession};
use crate::telemetry::metrics::SignIn;

/// Ends a redirect to `public_url`'s host, so that a second one in a row is noticed.
const MARKER: &str = "upwarden_host=1";
/// Bytes of the fragment page's form that are read: more than a token and a state can have.
const FORM: usize = 128 << 10;
const TOO_LONG: &str = "What came back from Upwork broke off, or is longer than any token.";

/// How a checked callback ends its sign-in.
type Outcome = Result<Authorization, CallbackError>;

/// A target without the marker that a redirect to `public_url` leaves at its end.
pub(super) fn without_marker(target: &str) -> &str {
    target.strip_suffix(MARKER).and_then(|rest| rest.strip_suffix(['?', '&'])).unwrap_or(target)
}

impl Shared {
    /// Sends the browser to Upwork, after `failures` sign-ins in a row that failed.
    pub(super) fn begin_sign_in(&self, ask: &Ask, place: &ReturnTo, failures: u8) -> Answer {
        if let Some(answer) = self.elsewhere(ask) {
            return answer;
        }
        // Nobody is sent to Upwork for a session that could not be kept.
        if let Err(error) = self.store.may_sign_in() {
            return self.fault(ask, &Fault::StoreDown(error.to_string()));
        }
        let now = self.clock.now();
        // A trusted proxy that names nobody stands for everybody behind it.
        let exempt = |address: &IpAddr| self.config.trusted_proxies.iter().any(|net| net.contains(address));
        if ask.origin.client.filter(|address| !exempt(address)).is_some_and(|client| !self.sign_ins.allow(client, now))
        {
            return self.fault(ask, &Fault::TooManySignIns);
        }
        let ring = self.ring.load();
        let pending = self.logins.open(&ring, &ask.cookies, now).pending;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let request = match Login::begin(self.upwork.config(), &ring, place, failures, now) {
            Ok(request) => request,
            Err(error) => return self.fault(ask, &Fault::Internal(error.to_string())),
        };
        let lines = match self.logins.set(&request.cookie, &pending, turn, &ask.cookies) {
            Ok(lines) => lines,
            Err(error) => return self.fault(ask, &Fault::SessionTooLarge(error.bytes)),
        };
        self.metrics.sign_in(SignIn::Started);
        let mut response = answer::see_other(&request.url);
        for line in lines {
            response.headers_mut().append(SET_COOKIE, line);
        }
        response.into()
    }

    /// A navigation on another host than `public_url`'s is sent there before any cookie is set; a second one in a row is a
    /// page that names `trusted_proxies` (docs/reference.md "Host names").
    fn elsewhere(&self, ask: &Ask) -> Option<Answer> {
        let asked = ask.origin.host.as_ref().and_then(|host| host.to_str().ok())?;
        let (scheme, ours) = self.config.public_url.split_once("://").unwrap_or(("https", ""));
        if same_authority(asked, ours, scheme) {
            return None;
        }
        let target = ask.head.uri.path_and_query().map_or("/", |target| target.as_str());
        if without_marker(target) != target {
            let (asked, public_url) = (asked.to_owned(), self.config.public_url.clone());
            self.metrics.sign_in(SignIn::Looping);
            return Some(self.fault(ask, &Fault::WrongHost { asked, public_url }));
        }
        let join = if target.contains('?') { '&' } else { '?' };
        Some(answer::see_other(&format!("{}{join}{MARKER}", at(&self.config.public_url, target))).into())
    }

    /// On the right host, the marker has done its work.
    pub(super) fn clean_marker(&self, ask: &Ask) -> Option<Answer> {
        let target = ask.head.uri.path_and_query()?.as_str();
        let clean = without_marker(target);
        if clean == target || !ask.looking.navigation || !ask.safe() {
            return None;
        }
        let host = ask.head.headers.get(HOST).or(ask.origin.host.as_ref())?.to_str().ok()?;
        let (scheme, ours) = self.config.public_url.split_once("://")?;
        same_authority(host, ours, scheme).then(|| answer::see_other(&at(&self.config.public_url, clean)).into())
    }
}

/// `target` on our host. Always the whole address: `//evil.example` or `/\evil.example` alone would be another host's.
fn at(public_url: &str, target: &str) -> String {
    let slash = if target.starts_with('/') { "" } else { "/" };
    format!("{public_url}{slash}{target}")
}

/// Hosts alike, whatever their case, with the scheme's own port or without.
pub(super) fn same_authority(asked: &str, ours: &str, scheme: &str) -> bool {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(default).unwrap_or(host).to_ascii_lowercase();
    bare(asked) == bare(ours)
}

impl Gateway {
    /// `/auth/callback`.
    pub(super) async fn callback(&self, ask: Ask, body: Body) -> Answer {
        let shared = &self.shared;
        let implicit = shared.upwork.config().grant == Grant::Implicit;
        let text = match ask.head.method {
            Method::GET => {
                let query = ask.head.uri.query().unwrap_or_default().to_owned();
                if implicit && Callback::parse(&query).is_ok_and(|callback| callback.is_empty()) {
                    return shared.fragment_page(&ask);
                }
                query
            }
            Method::POST if implicit && ask.site == Site::Foreign => return shared.fault(&ask, &Fault::CrossSite),
            Method::POST if implicit => match body.collect(FORM).await {
                Ok(form) => String::from_utf8_lossy(&form).into_owned(),
                Err(_) => return shared.fault(&ask, &Fault::BadRequest(TOO_LONG)),
            },
            _ => return shared.fault(&ask, &Fault::MethodNotAllowed(if implicit { "GET, POST" } else { "GET" })),
        };
        let Ok(callback) = Callback::parse(&text) else { return shared.bad_state(&ask) };
        // No token in an address (RFC 9700 section 4.3.2): the fragment page posts it.
        if ask.head.method == Method::GET && callback.has_token() {
            return shared.bad_state(&ask);
        }
        let (ring, now) = (shared.ring.load(), shared.clock.now());
        let state = callback.state(&ring);
        let browser = shared.logins.open(&ring, &ask.cookies, now);
        let issuer = shared.upwork.config().issuer.as_deref();
        match callback.verify(state.as_ref(), &browser, issuer, now) {
            Ok(verified) => self.finish(Arc::new(ask), verified.login.clone(), verified.outcome).await,
            Err(CallbackError::BadState(fault)) => self.stale(&ask, state, fault).await,
            Err(error) => self.stateless(&ask, error.into()).await,
        }
    }

    /// A callback without a sign-in of this browser: a live session is left as it is; else one fresh sign-in, counted.
    async fn stale(&self, ask: &Ask, state: Option<State>, fault: Option<StateError>) -> Answer {
        let shared = &self.shared;
        shared.metrics.sign_in(SignIn::BadState);
        if let Some(answer) = self.signed_in_already(ask).await {
            return answer;
        }
        let Some(state) = state else { return shared.sealed_by_others(ask) };
        let failures = state.failures.saturating_add(1);
        if failures >= MAX_FAILURES {
            shared.metrics.sign_in(SignIn::Looping);
            return shared.fault(ask, &Fault::Looped(shared.loop_cause(ask, &state, fault)));
        }
        let place = state.return_to(&shared.router.prefix).unwrap_or_else(ReturnTo::home);
        shared.begin_sign_in(ask, &place, failures)
    }

    /// An error that came back without any state: told, and no sign-in of the browser is over by it.
    async fn stateless(&self, ask: &Ask, fault: Fault) -> Answer {
        if let Some(answer) = self.signed_in_already(ask).await {
            return answer;
        }
        self.shared.count_failed(&fault);
        self.shared.fault_at(ask, &fault, None)
    }

    async fn signed_in_already(&self, ask: &Ask) -> Option<Answer> {
        match self.shared.identify(&ask.cookies).await {
            Ok(Some(_)) => Some(answer::see_other("/").into()),
            Ok(None) => None,
            Err(error) => Some(self.shared.fault(ask, &Fault::StoreDown(error.to_string()))),
        }
    }

    /// State checked: redeem, ask who it is, hold the access rules against it, keep the session.
    async fn finish(&self, ask: Arc<Ask>, pending: PendingLogin, outcome: Outcome) -> Answer {
        let (shared, PendingLogin { slot, login }) = (&self.shared, pending);
        // Before the code is redeemed: the sign-in and its cookie stay, so that the same address works once the store is back.
        if let Err(error) = shared.store.ready().await {
            return shared.fault_of_sign_in(&ask, &Fault::StoreDown(error.to_string()), &login);
        }
        let (gateway, asked) = (self.clone(), ask.clone());
        let work = async move {
            let session = gateway.sign_in(outcome).await.inspect_err(|fault| gateway.shared.count_failed(fault))?;
            gateway.enter(&asked, session).await
        };
        let mut answer = match shared.entries.once(login.id(), shared.clock.now(), work).await {
            Ok(Entry { held, cookies }) => {
                let mut response = answer::see_other(login.return_to(&shared.router.prefix).as_str());
                for line in cookies {
                    response.headers_mut().append(SET_COOKIE, line);
                }
                Answer::from(response).change(SessionChange::Keep).user(&held)
            }
            Err(fault) => shared.fault_of_sign_in(&ask, &fault, &login),
        };
        // This sign-in is over, whichever way it went; the others under way stay.
        for line in shared.logins.jar(slot).map(|jar| jar.clear(&RequestCookies::default())).unwrap_or_default() {
            answer.response.headers_mut().append(SET_COOKIE, line);
        }
        answer
    }

    async fn sign_in(&self, outcome: Outcome) -> Result<Session, Fault> {
        let shared = &self.shared;
        let implicit = shared.upwork.config().grant == Grant::Implicit;
        let now = shared.clock.now();
        let (tokens, grant) = match outcome {
            Ok(Authorization::Code(code)) if !implicit => {
                (shared.upwork.tokens(TokenGrant::Code(&code)).await?, Grant::Code)
            }
            Ok(Authorization::Token(token)) if implicit => {
                let expires_at = now.plus(token.lifetime);
                (Tokens { access: token.token, refresh: None, issued_at: now, expires_at }, Grant::Implicit)
            }
            Ok(Authorization::Code(_) | Authorization::Token(_)) => return Err(Fault::BadState),
            Err(error) => return Err(error.into()),
        };
        // Such a session would be over as it begins, and the next request would begin a sign-in.
        if tokens.refresh.is_none() && tokens.expires_at <= now {
            return Err(Fault::nonsense("a token that had ended when it came, and none to refresh it with".to_owned()));
        }
        let UserInfo { user, organization } = shared.upwork.user_info(&tokens.access).await?;
        let admitted =
            shared.access.load().admits(&user.id, organization.as_ref().map(|organization| organization.id.as_str()));
        if !admitted {
            let (shown, id) = shown_as(&user);
            // Nobody will use this grant; that it could not be taken back is no reason to tell the person anything else.
            if let Err(error) = shared.upwork.revoke(&tokens).await {
                tracing::warn!(%error, "Upwork did not end the grant of somebody who may not enter");
            }
            return Err(Fault::NotAdmitted { shown, id });
        }
        let id = crate::seal::random_id().map_err(|error| Fault::Internal(error.to_string()))?;
        Ok(Session { id, user, organization, grant, tokens, began_at: shared.clock.now(), refreshed: None })
    }

    /// A good state always makes a new session; the one before is forgotten.
    async fn enter(&self, ask: &Ask, session: Session) -> Result<Entry, Fault> {
        let shared = &self.shared;
        let before = shared.identify(&ask.cookies).await;
        let fresh = !matches!(&before, Ok(Some(before)) if shared.may_stay(before));
        if let Ok(Some(before)) = before {
            shared.close(&before.session);
            // A store that is down now shows itself at the next line that needs it.
            let _ = shared.store.end(&before).await;
        }
        let tokens = session.tokens.clone();
        let held = shared.share_with_tokens(StoredSession::new(session)).await?;
        // Told now rather than lost later: a session that fits no cookie would loop for ever.
        let mut cookies = match shared.session_cookies(&held, &ask.cookies).await {
            Ok(lines) => lines,
            Err(fault) => {
                // A grant that personal access tokens use is theirs; any other would be nobody's.
                if !held.is_shared() {
                    revoke(shared.upwork.clone(), tokens).await;
                }
                return Err(fault);
            }
        };
        if fresh {
            let bytes = cookies.iter().map(HeaderValue::len).sum();
            cookies.extend(shared.count_entry(ask, &held.session, bytes));
        }
        shared.metrics.sign_in(SignIn::Completed);
        tracing::info!(request_id = %ask.id, user = held.session.user.id, "signed in");
        Ok(Entry { held, cookies })
    }
}

impl Shared {
    pub(super) fn bad_state(&self, ask: &Ask) -> Answer {
        self.metrics.sign_in(SignIn::BadState);
        self.fault_at(ask, &Fault::BadState, None)
    }

    fn count_failed(&self, fault: &Fault) {
        self.metrics.sign_in(match fault {
            Fault::Declined(_) => SignIn::Declined,
            Fault::NotAdmitted { .. } => SignIn::Refused,
            Fault::BadState => SignIn::BadState,
            _ => SignIn::Failed,
        });
    }

    fn fault_of_sign_in(&self, ask: &Ask, fault: &Fault, login: &Login) -> Answer {
        self.fault_at(ask, fault, Some(&login.return_to(&self.router.prefix)))
    }

    /// A callback's fault: never a link back to the callback itself, and no referrer that would carry its query.
    fn fault_at(&self, ask: &Ask, fault: &Fault, place: Option<&ReturnTo>) -> Answer {
        let style = answer::Style { get: false, ..answer::Style::of(ask, &self.router.prefix) };
        let told = fault.told();
        if told.side == crate::telemetry::Side::Upwork {
            self.metrics.upstream_error(told.side);
        }
        // Whoever runs the site is to see Upwork's words, also where it is the person who has to do something.
        if let Some(seen) = told.seen.as_deref().filter(|_| told.side == crate::telemetry::Side::Client) {
            tracing::info!(request_id = %ask.id, fault = told.name, seen, "Upwork signed nobody in");
        }
        let mut response = answer::fault(fault, style, place);
        response.headers_mut().insert(http::header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Answer { fault: Some(told.name), user: fault.user().map(str::to_owned), ..response.into() }
    }

    /// The implicit grant's page, which posts the fragment back to the callback.
    fn fragment_page(&self, ask: &Ask) -> Answer {
        let id = ask.id.to_string();
        let callback_path = format!("{}/auth/callback", self.router.prefix);
        let view = pages::FragmentView {
            frame: Frame { prefix: &self.router.prefix, request_id: Some(&id) },
            callback_path: &callback_path,
        };
        answer::page(http::StatusCode::OK, pages::fragment(&view), "same-origin").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_taken_off_the_end_only() {
        assert_eq!(without_marker("/x?upwarden_host=1"), "/x");
        assert_eq!(without_marker("/x?a=b&upwarden_host=1"), "/x?a=b");
        assert_eq!(without_marker("/x?upwarden_host=1&a=b"), "/x?upwarden_host=1&a=b");
        assert_eq!(without_marker("/xupwarden_host=1"), "/xupwarden_host=1");
    }

    #[test]
    fn a_target_stays_on_our_host_however_it_begins() {
        for target in ["/", "//evil.example/", "/\\evil.example", "?x", "*", "@evil.example/", ".evil.example/", ""] {
            let there = url::Url::parse(&at("https://tools.example.com", target)).unwrap();
            assert_eq!(there.origin().ascii_serialization(), "https://tools.example.com", "{target}");
        }
    }

    #[test]
    fn hosts_are_compared_with_their_schemes_port() {
        assert!(same_authority("Tools.example.com", "tools.example.com", "https"));
        assert!(same_authority("tools.example.com:443", "tools.example.com", "https"));
        assert!(!same_authority("tools.example.com:80", "tools.example.com", "https"));
        assert!(!same_authority("localhost:4180", "127.0.0.1:4180", "http"));
    }
}
