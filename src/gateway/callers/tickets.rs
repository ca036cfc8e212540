//! Recently made tickets: one per minute for each session.

use std::sync::Mutex;
use std::time::Duration;

use http::HeaderValue;

use crate::clock::Timestamp;
use crate::recent::{Recent, lock};
use crate::session::Session;

const REUSE: Duration = Duration::from_secs(60);
const MAX_SESSIONS: usize = 20_000;

#[derive(Debug)]
pub(super) struct TicketCache(Mutex<Recent<String, Ticket, Timestamp>>);

#[derive(Debug)]
struct Ticket {
    value: HeaderValue,
    made_at: Timestamp,
    /// When the tokens it was made with were issued.
    issued_at: Timestamp,
}

impl TicketCache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent::new(MAX_SESSIONS)))
    }

    pub(super) fn get(&self, session: &Session, now: Timestamp) -> Option<HeaderValue> {
        let tickets = lock(&self.0);
        let ticket = tickets.get(&session.id, now)?;
        (ticket.made_at <= now && ticket.issued_at == session.tokens.issued_at).then(|| ticket.value.clone())
    }

    pub(super) fn insert(&self, session: &Session, value: HeaderValue, now: Timestamp) {
        let ticket = Ticket { value, made_at: now, issued_at: session.tokens.issued_at };
        lock(&self.0).insert(session.id.clone(), ticket, now, now.plus(REUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    #[test]
    fn a_ticket_is_reused_for_a_minute() {
        let (tickets, held) = (TicketCache::new(), session(true));
        let start = Timestamp::from_seconds(1000);
        assert!(tickets.get(&held, start).is_none());
        tickets.insert(&held, HeaderValue::from_static("upwt_a"), start);
        assert!(tickets.get(&held, start.plus(Duration::from_secs(59))).is_some());
        assert!(tickets.get(&held, start.plus(REUSE)).is_none());
        assert!(tickets.get(&held, start.minus(REUSE)).is_none(), "the clock was set back");
        let mut refreshed = session(true);
        refreshed.tokens.issued_at = start;
        assert!(tickets.get(&refreshed, start).is_none(), "other tokens, another ticket");
    }
}
