//! `auth/callback`: where Upwork sends the browser back, by GET with a code, or by POST from the page that reads an
//! implicit grant's fragment (docs/design.md "The callback").

use http::{Method, StatusCode};

use crate::fields::Fields;
use crate::gateway::address_limits::Step;
use crate::gateway::answer::Answer;
use crate::gateway::fault::{ClientFault, Fault, FaultView};
use crate::gateway::request::{Message, RequestInfo};
use crate::gateway::response;
use crate::gateway::sessions::SessionChange;
use crate::gateway::sign_in::CallbackResult;
use crate::gateway::state::Gateway;
use crate::oauth::Grant;
use crate::oauth::callback::{Callback, CallbackError, StateError};
use crate::oauth::login::{Login, State};
use crate::oauth::login_cookies::PendingLogin;
use crate::pages::{self, FragmentView};
use crate::policy::Site;
use crate::router::ReturnTo;
use crate::telemetry::metrics::SignInOutcome;

/// Limit for the fragment page's form, in bytes: more than a token and a state can have.
const MAX_FORM: usize = 128 << 10;
const TOO_LONG: &str = "What came back from Upwork was cut off, or is longer than any token.";

pub(super) async fn answer(gateway: &Gateway, request: &RequestInfo, message: Message) -> Result<Answer, Fault> {
    let implicit = gateway.sign_in.upwork.config().grant == Grant::Implicit;
    let posted = request.method == Method::POST;
    if !posted && implicit && Callback::parse(request.query()).is_ok_and(|callback| callback.is_empty()) {
        return Ok(fragment_page(gateway, request));
    }
    gateway.sign_in.admit(Step::Callback, request)?;
    let text = if !posted {
        request.query().to_owned()
    } else if request.fetch.site == Site::Foreign {
        return Err(ClientFault::CrossSite.into());
    } else {
        let form = message.body.collect(MAX_FORM).await.map_err(|_| ClientFault::BadRequest(TOO_LONG))?;
        String::from_utf8_lossy(&form).into_owned()
    };
    let Ok(callback) = Callback::parse(&text) else { return Ok(bad_state(gateway, request)) };
    // No token in an address (RFC 9700 section 4.3.2): the fragment page posts it.
    if !posted && callback.has_token() {
        return Ok(bad_state(gateway, request));
    }
    let (cookies, now) = (&gateway.sign_in.cookies, gateway.context().now());
    let state = callback.state(&cookies.ring());
    let browser = cookies.open(&request.cookies, now);
    let issuer = gateway.sign_in.upwork.config().issuer.as_deref();
    match callback.verify(state.as_ref(), &browser, issuer, now) {
        Ok(verified) => {
            let PendingLogin { slot, login } = verified.login;
            // Checked before the code is redeemed: the sign-in and its cookie stay, so the same address works once the
            // store is back.
            if let Err(error) = gateway.sessions.store.ready().await {
                return Ok(shown(gateway, request, &error.into(), Some(login.return_to(gateway.prefix()))));
            }
            let answer = complete(gateway, request, &message.headers, login, verified.outcome).await;
            // This sign-in is over, whatever its outcome. Other pending sign-ins stay.
            Ok(answer.cookies(cookies.clear(*slot)))
        }
        Err(CallbackError::BadState(fault)) => stale(gateway, request, state, fault).await,
        Err(error) => stateless(gateway, request, error.into()).await,
    }
}

/// The state was checked: makes the session and leads the browser to where it wanted to go.
async fn complete(
    gateway: &Gateway,
    request: &RequestInfo,
    headers: &Fields,
    login: &Login,
    outcome: CallbackResult,
) -> Answer {
    let place = login.return_to(gateway.prefix());
    let client = gateway.sign_in.loops.client(request, headers);
    match gateway.sign_in.complete(request, client, login, outcome).await {
        Ok(completed) => Answer::from(response::see_other(place.as_str()))
            .change(SessionChange::Begin(completed.session_cookies))
            .cookies(completed.loop_cookies)
            .user(&completed.stored.session),
        Err(fault) => shown(gateway, request, &fault, Some(place)),
    }
}

/// A callback that matches no sign-in of this browser: a live session is left as it is; otherwise a new sign-in begins,
/// and is counted.
async fn stale(
    gateway: &Gateway,
    request: &RequestInfo,
    state: Option<State>,
    fault: Option<StateError>,
) -> Result<Answer, Fault> {
    gateway.sign_in.count(SignInOutcome::BadState);
    if gateway.sessions.open(&request.cookies).await?.is_some() {
        return Ok(response::see_other("/").into());
    }
    if let Some(state) = state {
        return gateway.sign_in.restart(request, gateway.prefix(), &state, fault);
    }
    match gateway.sign_in.restart_under_new_key(request) {
        Some((answer, cookies)) => Ok(answer.unwrap_or_else(|fault| gateway.fault(request, &fault)).cookies(cookies)),
        None => Ok(bad_state(gateway, request)),
    }
}

/// An error that came back without a state, which ends none of the browser's sign-ins.
async fn stateless(gateway: &Gateway, request: &RequestInfo, fault: Fault) -> Result<Answer, Fault> {
    if gateway.sessions.open(&request.cookies).await?.is_some() {
        return Ok(response::see_other("/").into());
    }
    gateway.sign_in.count_failed(&fault);
    Ok(shown(gateway, request, &fault, None))
}

fn bad_state(gateway: &Gateway, request: &RequestInfo) -> Answer {
    gateway.sign_in.count(SignInOutcome::BadState);
    shown(gateway, request, &ClientFault::BadState.into(), None)
}

/// A callback's fault, with the place that a new sign-in leads to.
fn shown(gateway: &Gateway, request: &RequestInfo, fault: &Fault, place: Option<ReturnTo>) -> Answer {
    let branding = &gateway.config.pages.branding;
    gateway.fault_shown(fault, &FaultView::of_callback(request, gateway.prefix(), branding, place))
}

/// The implicit grant's page, which posts the fragment back to the callback.
fn fragment_page(gateway: &Gateway, request: &RequestInfo) -> Answer {
    let (id, callback_path) = (request.id.to_string(), format!("{}/auth/callback", gateway.prefix()));
    let view = FragmentView { frame: gateway.frame(&id), callback_path: &callback_path };
    response::page(StatusCode::OK, pages::fragment(&view)).into()
}
