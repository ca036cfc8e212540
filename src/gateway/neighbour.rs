//! The neighbour door: the API for processes next door, without a cookie and without a browser.
//!
//! In: a request from loopback or a Unix socket. Out: Upwork's answer, called as the service identity. What a browser sends
//! is refused, and so is a host name that is not the door's own (DNS rebinding, LESSONS 21). It never sets a cookie.

use http::header::{HOST, HeaderValue};

use super::fault::Fault;
use super::{Answer, Ask, Gateway, Shared, facts};
use crate::body::Body;
use crate::broker::Caller;
use crate::proxy::headers::SECRET;
use crate::router::{self, Route};
use crate::store::SessionChange;
use crate::telemetry::RouteKind;

impl Gateway {
    pub(super) async fn neighbour(&self, mut ask: Ask, body: Body) -> (RouteKind, Answer) {
        let shared = &self.shared;
        // Whoever calls here is a program, whatever it accepts.
        ask.looking = facts::Looking { navigation: false, document: false, person: false };
        let path = ask.path().to_owned();
        let route = router::route(&shared.router, &path);
        let kind = route.kind();
        if let Err(fault) = shared.may_knock(&ask) {
            return (kind, shared.fault(&ask, &fault));
        }
        let answer = match (route, &shared.service) {
            (Route::Ambiguous, _) => shared.fault(&ask, &Fault::AmbiguousPath),
            (Route::Auth(_) | Route::Unknown | Route::App { .. }, _) => shared.fault(&ask, &Fault::NeighbourPath),
            (Route::Api(_) | Route::Graphql, None) => shared.fault(&ask, &Fault::NoServiceIdentity),
            (Route::Api(_) | Route::Graphql, Some(service)) => {
                self.broker_call(ask, body, route, Caller::Service(service.clone())).await.change(SessionChange::Keep)
            }
        };
        (kind, answer)
    }
}

impl Shared {
    fn may_knock(&self, ask: &Ask) -> Result<(), Fault> {
        let headers = &ask.head.headers;
        if facts::from_browser(headers) {
            return Err(Fault::NeighbourBrowser);
        }
        if !headers.get(HOST).is_some_and(|host| self.is_neighbours_name(host)) {
            return Err(Fault::NeighbourHost);
        }
        match &self.config.neighbour_secret {
            Some(secret) if !headers.get(SECRET).is_some_and(|shown| secret.matches(shown.as_bytes())) => {
                Err(Fault::NeighbourSecret)
            }
            _ => Ok(()),
        }
    }

    fn is_neighbours_name(&self, host: &HeaderValue) -> bool {
        let Ok(host) = host.to_str() else { return false };
        let bare = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
            _ => host,
        };
        self.config.neighbour_hosts.iter().any(|known| known.eq_ignore_ascii_case(bare))
    }
}
