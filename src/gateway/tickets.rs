//! Tickets: with one, the app calls the API at the neighbour door as the user whose request it is handling.
//!
//! In: a session on its way to the app; a ticket shown next door. Out: a field value, made at most once a minute a session;
//! the session again, or the fault. Nothing here ends in a cookie.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use http::HeaderValue;

use super::credential::TICKET_PREFIX;
use super::fault::{Fault, TicketFault};
use super::{Ask, Shared, shown_as};
use crate::clock::Timestamp;
use crate::policy::{self, Credential, Decision, Facts, Target};
use crate::recent::lock;
use crate::store::{OpenedTicket, StoredSession};
use crate::telemetry::Door;

/// How long a ticket is good.
pub(super) const LIFE: Duration = Duration::from_secs(300);
/// How long the same one is handed out.
const FRESH: Duration = Duration::from_secs(60);
/// Sessions remembered at the most.
const MOST: usize = 20_000;

/// The tickets made lately.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    made: Mutex<HashMap<String, Made>>,
}

#[derive(Debug)]
struct Made {
    ticket: HeaderValue,
    at: Timestamp,
    /// Of the tokens it was made with.
    issued_at: Timestamp,
}

impl Tickets {
    fn known(&self, held: &StoredSession, now: Timestamp) -> Option<HeaderValue> {
        let made = lock(&self.made);
        let made = made.get(&held.session.id)?;
        let good = now.since(made.at) < FRESH && made.at <= now && made.issued_at == held.session.tokens.issued_at;
        good.then(|| made.ticket.clone())
    }

    fn keep(&self, held: &StoredSession, ticket: HeaderValue, now: Timestamp) {
        let mut made = lock(&self.made);
        make_room(&mut made, |made| now.since(made.at) < FRESH);
        let issued_at = held.session.tokens.issued_at;
        made.insert(held.session.id.clone(), Made { ticket, at: now, issued_at });
    }

    /// The session was ended: its ticket is handed out no more.
    pub(super) fn end(&self, session: &str) {
        lock(&self.made).remove(session);
    }
}

/// Full, it forgets what is no use any more; full still, everything.
fn make_room<T>(map: &mut HashMap<String, T>, of_use: impl Fn(&T) -> bool) {
    if map.len() >= MOST {
        map.retain(|_, value| of_use(value));
        if map.len() >= MOST {
            map.clear();
        }
    }
}

impl Shared {
    /// The ticket for the app that handles a request of this session.
    pub(super) fn ticket(&self, held: &StoredSession) -> Option<HeaderValue> {
        if !self.config.tickets {
            return None;
        }
        let now = self.clock.now();
        if let Some(ticket) = self.tickets.known(held, now) {
            return Some(ticket);
        }
        let sealed = match self.store.ticket(held, now.plus(LIFE)) {
            Ok(sealed) => sealed?,
            Err(error) => {
                tracing::error!(%error, "a ticket could not be made");
                return None;
            }
        };
        let mut ticket = HeaderValue::from_str(&format!("{TICKET_PREFIX}{sealed}")).ok()?;
        ticket.set_sensitive(true);
        self.tickets.keep(held, ticket.clone(), now);
        Some(ticket)
    }

    /// Whom a ticket is for, where it is good and they may enter.
    pub(super) async fn ticket_holder(&self, ask: &Ask, ticket: &str) -> Result<StoredSession, Fault> {
        let now = self.clock.now();
        let text = ticket.strip_prefix(TICKET_PREFIX).unwrap_or_default();
        let opened = self.store.open_ticket(text, now).await.map_err(|error| Fault::StoreDown(error.to_string()))?;
        let held = match opened {
            OpenedTicket::Good(held) => held,
            OpenedTicket::Bad => return Err(Fault::Ticket(TicketFault::Bad)),
            OpenedTicket::Expired => return Err(Fault::Ticket(TicketFault::Expired)),
            OpenedTicket::Over => return Err(Fault::Ticket(TicketFault::Over)),
        };
        let session = &held.session;
        if self.ends.is_over(session) || now >= session.ends_at(self.session.lifetime) {
            return Err(Fault::Ticket(TicketFault::Over));
        }
        match policy::decide(&api_facts(ask, Door::Neighbour), Credential::Token(session), &self.access.load()) {
            Decision::Allow => Ok(held),
            Decision::NotAdmitted => {
                let (shown, id) = shown_as(&session.user);
                Err(Fault::NotAdmitted { shown, id })
            }
            Decision::AllowAnonymous | Decision::SignIn | Decision::NeedsSession | Decision::CrossSite => {
                Err(Fault::Ticket(TicketFault::Over))
            }
        }
    }
}

/// The facts of a call that no cookie came with.
pub(super) fn api_facts(ask: &Ask, door: Door) -> Facts {
    Facts {
        door,
        target: Target::Api,
        safe: ask.safe(),
        navigation: false,
        document: false,
        preflight: false,
        site: ask.site,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    #[test]
    fn the_same_ticket_is_handed_out_for_a_minute() {
        let (tickets, held) = (Tickets::default(), StoredSession::new(session(true)));
        let start = Timestamp::from_seconds(1000);
        assert!(tickets.known(&held, start).is_none());
        tickets.keep(&held, HeaderValue::from_static("upwt_a"), start);
        assert!(tickets.known(&held, start.plus(Duration::from_secs(59))).is_some());
        assert!(tickets.known(&held, start.plus(FRESH)).is_none());
        assert!(tickets.known(&held, start.minus(FRESH)).is_none(), "the clock was set back");
        let mut refreshed = session(true);
        refreshed.tokens.issued_at = start;
        assert!(tickets.known(&StoredSession::new(refreshed), start).is_none(), "other tokens, another ticket");
        tickets.end(&held.session.id);
        assert!(tickets.known(&held, start).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut map: HashMap<String, u64> = (0..MOST as u64).map(|id| (id.to_string(), id)).collect();
        make_room(&mut map, |id| *id < 10);
        assert_eq!(map.len(), 10);
    }
}
