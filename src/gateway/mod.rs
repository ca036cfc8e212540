//! The gate: facts → credential → decision → deed, for every request of the public and the neighbour door.
//!
//! In: a request that has one reading, and who is at the other end. Out: the app's answer, Upwork's, or one of ours. It is
//! the only room that writes `Set-Cookie`, and the only one that knows both a session and a request.

mod answer;
mod credential;
mod ends;
mod entries;
mod facts;
pub(crate) mod fault;
mod forward;
mod identify;
mod limits;
mod loops;
mod neighbour;
mod own;
mod passage;
mod reading;
mod sign_in;
mod tickets;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{EXPECT, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use ipnet::IpNet;

use crate::body::Body;
use crate::broker::Broker;
use crate::clock::SharedClock;
use crate::cookies::{Jar, RequestCookies};
use crate::listener::{Peer, Refused};
use crate::oauth::login_cookies::LoginJars;
use crate::oauth::refresh::Refresher;
use crate::oauth::service::ServiceIdentity;
use crate::oauth::upwork::Upwork;
use crate::policy::{self, Access, Credential, Decision, Facts, Site, Target};
use crate::proxy::forwarded::Origin;
use crate::proxy::headers::{REQUEST_ID, strip};
use crate::proxy::via::Via;
use crate::proxy::{AppConfig, Client};
use crate::router::{self, ReturnTo, Route};
use crate::seal::SharedKeyring;
use crate::secret::Secret;
use crate::session;
use crate::store::{SessionChange, Store, StoredSession};
use crate::telemetry::metrics::{Metrics, SignIn};
use crate::telemetry::{Door, RequestId, RouteKind};
use answer::Style;
use ends::SessionEnds;
use facts::Looking;
use fault::Fault;
use identify::shown_as;
use limits::{InFlight, Placed, SignIns};
use passage::{End, Passage};
use tickets::Tickets;

/// What the gate itself needs to know of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `https://tools.example.com`: scheme, host and, where it is not the scheme's own, port; no path, no final slash.
    pub public_url: String,
    /// CORS preflights go to the app without a session (`app.preflight = "pass"`).
    pub preflight_pass: bool,
    /// Requests to the app carry a ticket.
    pub tickets: bool,
    /// Who is believed about `X-Forwarded-*` and `Forwarded`.
    pub trusted_proxies: Vec<IpNet>,
    /// GraphQL queries and REST by GET only, at the public door.
    pub public_read_only: bool,
    /// The same at the neighbour door.
    pub neighbour_read_only: bool,
    /// Host names the neighbour door answers to, in lower case, without a port; any port is fine.
    pub neighbour_hosts: Vec<String>,
    /// Shown by callers of a neighbour door beyond loopback.
    pub neighbour_secret: Option<Secret>,
    /// Where the neighbour door listens, for the page; `None` where it is off.
    pub neighbour_address: Option<String>,
    /// Sign-ins one client address may begin in a burst.
    pub sign_ins_per_address: u32,
    /// Requests in flight of one client that a trusted proxy tells of; `None` for any.
    pub requests_per_address: Option<usize>,
}

/// What all workers' gates share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    router: router::Config,
    session: session::Config,
    app: AppConfig,
    upgrade_idle: Duration,
    graphql_path: String,
    jar: Jar,
    logins: LoginJars,
    tries: Jar,
    entered: loops::Entered,
    entries: entries::Entries,
    ring: SharedKeyring,
    store: Store,
    access: Arc<ArcSwap<Access>>,
    upwork: Arc<Upwork>,
    refresher: Arc<Refresher>,
    service: Option<Arc<ServiceIdentity>>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    sign_ins: SignIns,
    in_flight: Option<Arc<InFlight>>,
    ends: SessionEnds,
    tickets: Tickets,
    turn: AtomicUsize,
    via: Via,
}

/// The rooms and settings a gate is made of.
#[derive(Debug)]
pub(crate) struct Needs {
    /// The gate's own settings.
    pub config: Config,
    /// The router's.
    pub router: router::Config,
    /// The session's.
    pub session: session::Config,
    /// The app's.
    pub app: AppConfig,
    /// An upgraded connection on which nothing moves.
    pub upgrade_idle: Duration,
    /// The path of `upwork.graphql_url`.
    pub graphql_path: String,
    /// Keys.
    pub ring: SharedKeyring,
    /// Sessions.
    pub store: Store,
    /// Access rules, as a reload replaces them.
    pub access: Arc<ArcSwap<Access>>,
    /// Upwork.
    pub upwork: Arc<Upwork>,
    /// Fresh tokens.
    pub refresher: Arc<Refresher>,
    /// The service identity.
    pub service: Option<Arc<ServiceIdentity>>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

impl Shared {
    /// Puts the parts together.
    pub(crate) fn new(parts: Needs) -> Arc<Self> {
        Arc::new(Self {
            jar: Jar::new(&parts.session.cookie, parts.session.secure),
            logins: LoginJars::new(&parts.session.cookie, parts.session.secure),
            tries: loops::jar(&parts.session.cookie, parts.session.secure),
            entered: loops::Entered::default(),
            entries: entries::Entries::default(),
            sign_ins: SignIns::new(parts.config.sign_ins_per_address),
            in_flight: parts.config.requests_per_address.map(InFlight::new),
            ends: SessionEnds::default(),
            tickets: Tickets::default(),
            turn: AtomicUsize::new(0),
            // Without randomness a loop through another upwarden may be seen too early; nothing else rests on that.
            via: Via::new(crate::seal::random().map_or(0, u64::from_ne_bytes)),
            config: parts.config,
            router: parts.router,
            session: parts.session,
            app: parts.app,
            upgrade_idle: parts.upgrade_idle,
            graphql_path: parts.graphql_path,
            ring: parts.ring,
            store: parts.store,
            access: parts.access,
            upwork: parts.upwork,
            refresher: parts.refresher,
            service: parts.service,
            metrics: parts.metrics,
            clock: parts.clock,
        })
    }
}

/// The gate of one worker: what is shared, and the worker's own connections.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    app: Client,
    broker: Broker,
}

/// A request, and what was found out about it.
struct Ask {
    id: RequestId,
    origin: Origin,
    looking: Looking,
    site: Site,
    cookies: RequestCookies,
    head: Parts,
}

impl Ask {
    fn path(&self) -> &str {
        self.head.uri.path()
    }

    fn safe(&self) -> bool {
        matches!(self.head.method, Method::GET | Method::HEAD)
    }

    /// Where a sign-in should lead back to: this very address, for what can be asked again.
    fn return_to(&self, prefix: &str) -> Option<ReturnTo> {
        let target = self.head.uri.path_and_query().filter(|_| self.safe())?;
        ReturnTo::parse(sign_in::without_marker(target.as_str()), prefix)
    }
}

/// What stands behind the gate.
struct Gated {
    route: Route,
    target: Target,
}

/// An answer, what it does to the session, and what the access line tells of it.
struct Answer {
    response: Response<Body>,
    change: SessionChange,
    user: Option<String>,
    fault: Option<&'static str>,
    refused: Option<Refused>,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self { response, change: SessionChange::Keep, user: None, fault: None, refused: None }
    }
}

impl Answer {
    fn change(mut self, change: SessionChange) -> Self {
        self.change = change;
        self
    }

    fn user(mut self, held: &StoredSession) -> Self {
        self.user = Some(held.session.user.id.clone());
        self
    }
}

impl Gateway {
    /// A gate with connections of its own.
    pub(crate) fn new(shared: Arc<Shared>, app: Client, broker: Broker) -> Self {
        Self { shared, app, broker }
    }

    /// Drops idle upstream connections that have lain too long.
    pub(crate) fn sweep(&self) {
        self.app.sweep();
        self.broker.sweep();
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, request: Request<Body>, peer: Arc<Peer>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let refused = head.extensions.remove::<Refused>();
        if head.version == Version::HTTP_10 {
            // They count for nothing there (RFC 9110 sections 7.8 and 10.1.1).
            for name in [UPGRADE, EXPECT] {
                strip(&mut head.headers, &name);
            }
        }
        let shared = &self.shared;
        let address = peer.address.map(|address| address.ip());
        let ask = Ask {
            id: RequestId::next(),
            origin: Origin::find(address, peer.tls, &head.headers, &shared.config.trusted_proxies),
            looking: facts::looking(&head.headers),
            site: facts::site(&head.headers, &shared.config.public_url),
            cookies: RequestCookies::parse(&head.headers, |name| shared.owns(name)),
            head,
        };
        let (id, passage) = (ask.id, Passage::begin(shared, &peer, &ask, refused));
        let seen = ask.cookies.clone();
        let place = shared.place(&ask.origin);
        let (kind, answer) = match refused {
            Some(refused) => (RouteKind::None, shared.fault(&ask, &Fault::Refused(refused))),
            None if peer.door == Door::Neighbour => Box::pin(self.neighbour(ask, body)).await,
            None => match &place {
                Ok(_) => self.public(ask, body, &peer).await,
                Err(full) => (router::route(&shared.router, ask.path()).kind(), shared.fault(&ask, full)),
            },
        };
        let Answer { mut response, change, user, fault, refused } = answer;
        shared.write_cookies(change, &seen, response.headers_mut()).await;
        response.headers_mut().insert(REQUEST_ID, id.into());
        let status = response.status().as_u16();
        if let Ok(Some(place)) = place {
            response = response.map(|body| Body::wrap(Placed::new(body, place)));
        }
        passage.answered(&End { kind, status, user: user.as_deref(), fault, refused });
        response
    }

    async fn public(&self, ask: Ask, body: Body, peer: &Peer) -> (RouteKind, Answer) {
        let shared = &self.shared;
        let route = router::route(&shared.router, ask.path());
        let answer = match route {
            // The rarer ways are boxed, so that every request's future need not have room for them.
            Route::Auth(endpoint) => Box::pin(self.own(ask, body, endpoint)).await,
            Route::Unknown => shared.fault(&ask, &Fault::NotFound),
            Route::Ambiguous => shared.fault(&ask, &Fault::AmbiguousPath),
            Route::App { public } => self.gate(ask, body, Gated { route, target: Target::App { public } }, peer).await,
            Route::Api | Route::Graphql => Box::pin(self.api(ask, body, route, peer)).await,
        };
        (route.kind(), answer)
    }

    /// The app and the API: who asks, what is decided, what is done.
    async fn gate(&self, ask: Ask, body: Body, gated: Gated, peer: &Peer) -> Answer {
        let (shared, Gated { route, target }) = (&self.shared, gated);
        let held = match shared.identify(&ask.cookies).await {
            Ok(held) => held,
            // What is for anybody needs no store: the app is told no identity.
            Err(_) if shared.decide(&ask, target, None) == Decision::AllowAnonymous => None,
            Err(error) => return shared.fault(&ask, &Fault::StoreDown(error.to_string())),
        };
        if let Some(answer) = shared.clean_marker(&ask) {
            return answer;
        }
        let decision = shared.decide(&ask, target, held.as_ref());
        let shown = shared.shown_again(&ask, decision, held.as_ref());
        let answer = match (decision, held) {
            (Decision::Allow, Some(held)) if target == Target::Api => Box::pin(self.call(ask, body, route, held)).await,
            (Decision::Allow, who) => self.forward(ask, body, (who, target), peer).await,
            (Decision::AllowAnonymous, _) => self.forward(ask, body, (None, target), peer).await,
            (refusal, held) => shared.refuse(&ask, refusal, held.as_ref()),
        };
        shared.end_row(shown, answer)
    }
}

impl Shared {
    fn decide(&self, ask: &Ask, target: Target, held: Option<&StoredSession>) -> Decision {
        let preflight = self.config.preflight_pass
            && matches!(target, Target::App { .. })
            && facts::is_preflight(&ask.head.method, ask.path(), &ask.head.headers);
        let facts = Facts {
            door: Door::Public,
            target,
            safe: ask.safe(),
            navigation: ask.looking.navigation,
            document: ask.looking.document,
            preflight,
            site: ask.site,
        };
        let credential = held.map_or(Credential::Nothing, |held| Credential::Cookie(&held.session));
        policy::decide(&facts, credential, &self.access.load())
    }

    /// What is answered where the policy did not say yes.
    fn refuse(&self, ask: &Ask, decision: Decision, held: Option<&StoredSession>) -> Answer {
        match decision {
            Decision::SignIn => {
                if let Some(cause) = self.going_round(ask, held) {
                    self.metrics.sign_in(SignIn::Looping);
                    return self.fault(ask, &Fault::Looped(cause));
                }
                let place = ask.return_to(&self.router.prefix).unwrap_or_else(ReturnTo::home);
                self.begin_sign_in(ask, &place, 0)
            }
            Decision::CrossSite => self.fault(ask, &Fault::CrossSite),
            Decision::NotAdmitted => {
                let (shown, id) = held.map(|held| shown_as(&held.session.user)).unwrap_or_default();
                self.fault(ask, &Fault::NotAdmitted { shown, id })
            }
            Decision::NeedsSession | Decision::Allow | Decision::AllowAnonymous => {
                let sent = !ask.safe() && ask.head.method != Method::OPTIONS;
                self.fault(ask, &Fault::SignInRequired { sent })
            }
        }
    }

    fn fault(&self, ask: &Ask, fault: &Fault) -> Answer {
        let style = Style::of(ask, &self.router.prefix);
        let place = ask.return_to(&self.router.prefix);
        let told = fault.told();
        if matches!(told.side, crate::telemetry::Side::App | crate::telemetry::Side::Upwork) {
            self.metrics.upstream_error(told.side);
        }
        let user = fault.user().map(str::to_owned);
        let refused = if let Fault::Refused(refused) = fault { Some(*refused) } else { None };
        Answer { fault: Some(told.name), user, refused, ..answer::fault(fault, style, place.as_ref()).into() }
    }
}
