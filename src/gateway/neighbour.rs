//! The neighbour door: the API for processes next door, without a cookie and without a browser.
//!
//! In: a request from loopback or a Unix socket. Out: Upwork's answer, called as the user whose ticket is shown, else as the
//! service identity; a bad ticket is never a reason to call as the latter. What a browser sends is refused, and so is a host name that is not the door's own (DNS rebinding, docs/design.md "Other sites"). It never sets a cookie.

use http::header::{HOST, HeaderValue};

use super::credential::{Shown, shown};
use super::fault::{Fault, TicketFault, TokenFault};
use super::forward::Calling;
use super::{Answer, Ask, Gateway, Shared, facts};
use crate::body::Body;
use crate::broker::Caller;
use crate::proxy::headers::SECRET;
use crate::router::{self, Route};
use crate::store::{SessionChange, StoredSession};
use crate::telemetry::RouteKind;

impl Gateway {
    pub(super) async fn neighbour(&self, mut ask: Ask, body: Body) -> (RouteKind, Answer) {
        let shared = &self.shared;
        // Whoever calls here is a program, whatever it accepts.
        ask.looking = facts::Looking { navigation: false, document: false, person: false };
        let route = router::route(&shared.router, ask.path());
        let kind = route.kind();
        if let Err(fault) = shared.may_knock(&ask) {
            return (kind, shared.fault(&ask, &fault));
        }
        let answer = match route {
            Route::Ambiguous => shared.fault(&ask, &Fault::AmbiguousPath),
            Route::Auth(_) | Route::Unknown | Route::App { .. } => shared.fault(&ask, &Fault::NeighbourPath),
            Route::Api | Route::Graphql => self.call_from_next_door(ask, body, route).await,
        };
        // There is no browser here to be told. A ticket that holds a token without what renews it says nothing of its session.
        if let SessionChange::End(held) = &answer.change
            && held.session.tokens.refresh.is_some()
        {
            shared.ended_by_upwork(&held.session);
        }
        (kind, answer.change(SessionChange::Keep))
    }

    async fn call_from_next_door(&self, ask: Ask, body: Body, route: Route) -> Answer {
        let (shared, read_only) = (&self.shared, self.shared.config.neighbour_read_only);
        let held = match shared.next_door(&ask).await {
            Ok(held) => held,
            Err(fault) => return shared.fault(&ask, &fault),
        };
        match (held, &shared.service) {
            (Some(held), _) => {
                let over = Some(Fault::Ticket(TicketFault::Over));
                let calling = Calling { route, caller: Caller::Session(held.clone()), read_only, over };
                self.broker_call(ask, body, calling).await.user(&held)
            }
            (None, Some(service)) => {
                let calling = Calling { route, caller: Caller::Service(service.clone()), read_only, over: None };
                self.broker_call(ask, body, calling).await
            }
            (None, None) => shared.fault(&ask, &Fault::NoServiceIdentity),
        }
    }
}

impl Shared {
    /// Whom a ticket names; none where there is no ticket.
    async fn next_door(&self, ask: &Ask) -> Result<Option<StoredSession>, Fault> {
        match shown(&ask.head.headers) {
            Shown::Nothing => Ok(None),
            Shown::Ticket(ticket) => self.ticket_holder(ask, &ticket).await.map(Some),
            Shown::BadTicket => Err(Fault::Ticket(TicketFault::Bad)),
            Shown::Token(_) | Shown::BadToken => Err(Fault::Token(TokenFault::Elsewhere)),
        }
    }

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
