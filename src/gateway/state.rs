//! The gateway of one worker: its owners, and what several actions need of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Version;

use super::address_limits::{InFlightLimit, Slot};
use super::answer::Answer;
use super::callers::Callers;
use super::config::PublicConfig;
use super::fault::{ClientFault, Fault, FaultView, render};
use super::request::RequestInfo;
use super::sessions::{Context, SessionChange, Sessions};
use super::sign_in::{LastingSignIn, SignIn};
use super::upstreams::Upstreams;
use crate::broker::read_only::overrides_method;
use crate::fields::Fields;
use crate::pages::Frame;
use crate::policy::Decision;
use crate::router;
use crate::session::Session;
use crate::telemetry::metrics::Refusal;
use crate::telemetry::{Door, Side};

/// Cheap to clone for another worker: shared state is behind an `Arc`.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(super) config: Arc<PublicConfig>,
    pub(super) router: Arc<router::Config>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) sign_in: Arc<SignIn>,
    pub(super) callers: Arc<Callers>,
    pub(super) upstreams: Upstreams,
    clients: Clients,
}

/// What is remembered about the clients of the public door.
#[derive(Clone, Debug)]
struct Clients {
    in_flight: Arc<InFlightLimit>,
    /// Whether an untrusted proxy has been logged.
    warned: Arc<AtomicBool>,
}

impl Gateway {
    pub(crate) fn new(
        config: PublicConfig,
        router: router::Config,
        sign_in: Arc<SignIn>,
        callers: Arc<Callers>,
        upstreams: Upstreams,
    ) -> Self {
        let in_flight = InFlightLimit::new(config.limits.requests, usize::MAX);
        let clients = Clients { in_flight, warned: Arc::default() };
        let (config, router, sessions) = (Arc::new(config), Arc::new(router), sign_in.sessions.clone());
        Self { config, router, sessions, sign_in, callers, upstreams, clients }
    }

    /// Allows the HTTP/2 streams of one client at most this many requests at once.
    #[must_use]
    pub(crate) fn limit_streams(self, most: usize) -> Self {
        let in_flight = InFlightLimit::new(self.config.limits.requests, most);
        Self { clients: Clients { in_flight, ..self.clients }, ..self }
    }

    /// Logs the first address that forwards requests and is not trusted: a proxy missing from the configuration, or a
    /// client that imitates one.
    pub(super) fn warn_of_unknown_proxy(&self, request: &RequestInfo) {
        if !request.client.by_unknown_proxy || self.clients.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        let limits = if self.config.trust.proxies.is_empty() { "do not count" } else { "count its clients together" };
        tracing::warn!(
            peer = request.client.origin.peer.map(tracing::field::display),
            "X-Forwarded-For, X-Real-IP or Forwarded arrives from an address that is not in public.trusted_proxies, so it is \
             not believed: the app takes that address for the client's, and limits by address {limits}. If it is your \
             proxy, list it (\"unix\" if it has no address). If your clients connect directly, list 127.0.0.1 alone"
        );
    }

    /// The same gateway with its own upstream connections.
    #[must_use]
    pub(crate) fn for_worker(&self) -> Self {
        Self { upstreams: self.upstreams.sibling(), ..self.clone() }
    }

    /// Closes upstream connections that were idle for too long.
    pub(crate) fn sweep(&self) {
        self.upstreams.sweep();
    }

    pub(super) fn context(&self) -> &Context {
        &self.sessions.context
    }

    pub(super) fn prefix(&self) -> &str {
        &self.router.prefix
    }

    /// What a page shows around its own content.
    pub(super) fn frame<'a>(&'a self, request_id: &'a str) -> Frame<'a> {
        Frame { prefix: self.prefix(), request_id: Some(request_id), branding: &self.config.pages.branding }
    }

    /// Whether a cookie of this name is ours and must not reach the app.
    pub(super) fn owns_cookie(&self, name: &str) -> bool {
        self.sessions.cookie.owns(name) || self.sign_in.owns(name) || self.callers.new_token.owns(name)
    }

    /// The slot of a request that shares its connection with others: a trusted proxy names its client, or it is an
    /// HTTP/2 stream. The proxies' own requests need none.
    pub(super) fn slot(&self, request: &RequestInfo, version: Version) -> Result<Option<Arc<Slot>>, Fault> {
        let client =
            request.client.limited_address.filter(|_| request.client.origin.trusted || version == Version::HTTP_2);
        let (Some(most), Some(client)) = (self.clients.in_flight.most(version), client) else { return Ok(None) };
        let slot = self.clients.in_flight.take(client, most).ok_or(ClientFault::TooManyAtOnce);
        if slot.is_err() {
            self.context().metrics.refused(Door::Public, Refusal::ConnectionsPerAddress);
        }
        Ok(Some(slot?))
    }

    /// The answer to a request that the policy did not allow.
    pub(super) fn refuse(
        &self,
        request: &RequestInfo,
        decision: Decision,
        session: Option<&Session>,
    ) -> Result<Answer, Fault> {
        match decision {
            Decision::SignIn => self.sign_in.require(request, self.prefix(), session),
            Decision::CrossSite
            | Decision::NotAdmitted
            | Decision::NotAdmittedHere
            | Decision::ReadOnly
            | Decision::NeedsSession
            | Decision::Allow
            | Decision::AllowAnonymous => Err(refusal(request, decision, session)),
        }
    }

    /// The answer to a fault.
    pub(super) fn fault(&self, request: &RequestInfo, fault: &Fault) -> Answer {
        self.fault_shown(fault, &FaultView::of(request, self.prefix(), &self.config.pages.branding))
    }

    pub(super) fn fault_shown(&self, fault: &Fault, view: &FaultView<'_>) -> Answer {
        let row = fault.row();
        if matches!(row.side, Side::App | Side::Upwork) {
            self.context().metrics.upstream_error(row.side);
        }
        let user = fault.user().map(str::to_owned);
        let refused = if let Fault::Client(ClientFault::Refused(refused)) = fault { Some(*refused) } else { None };
        Answer { fault: Some(row.name), user, refused, ..render(fault, &row, view).into() }
    }

    /// Whether the request, before it is forwarded, shows that the last sign-in lasted. See
    /// [`LoopCounter::navigation`].
    pub(super) fn shows_sign_in(
        &self,
        request: &RequestInfo,
        headers: &Fields,
        session: Option<&Session>,
    ) -> LastingSignIn {
        let session = session.filter(|_| request.fetch.navigation);
        let navigation = |session| self.sign_in.loops.navigation(request, headers, session, self.context().now());
        session.map(navigation).unwrap_or_default()
    }

    /// Resets the count of sign-ins, unless Upwork has just ended the session.
    pub(super) fn confirm(&self, lasting: LastingSignIn, answer: Answer) -> Answer {
        if matches!(answer.change, SessionChange::End(_)) {
            return answer;
        }
        answer.cookies(self.sign_in.loops.confirm(lasting))
    }
}

/// The fault of a request that the policy did not allow, if no sign-in begins.
pub(super) fn refusal(request: &RequestInfo, decision: Decision, session: Option<&Session>) -> Fault {
    match (decision, session) {
        // Our page asks for a click, which makes the next request same-origin.
        (Decision::CrossSite, _)
            if request.fetch.navigation && request.safe() && !overrides_method(request.uri.query()) =>
        {
            let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
            ClientFault::CrossSiteLink { target: target.to_owned() }.into()
        }
        (Decision::CrossSite, _) => ClientFault::CrossSite.into(),
        (Decision::NotAdmitted, Some(session)) => Fault::not_admitted(&session.user),
        (Decision::NotAdmittedHere, Some(session)) => {
            ClientFault::NotAdmittedHere { id: session.user.id.clone() }.into()
        }
        (Decision::ReadOnly, _) => {
            let why = "this part of the app takes only GET, HEAD and OPTIONS, and no upgrade".to_owned();
            ClientFault::ReadOnly { why, too_long: false }.into()
        }
        (
            Decision::NotAdmitted
            | Decision::NotAdmittedHere
            | Decision::SignIn
            | Decision::NeedsSession
            | Decision::Allow
            | Decision::AllowAnonymous,
            _,
        ) => ClientFault::SignInRequired { sent: request.sends() }.into(),
    }
}
