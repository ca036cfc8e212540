//! Tickets: sealed text that refers to a session's record or, with the cookie store, contains the access token itself.
//!
//! A ticket never contains a refresh token. With the cookie store it ends with its access token; with the others it
//! refers to the session, which is refreshed in the store.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::stored_session::RecordHandle;
use super::{Store, StoreError, StoredSession};
use crate::clock::Timestamp;
use crate::seal::Purpose;
use crate::secret::Secret;
use crate::session::{Session, Tokens};

#[derive(Debug)]
pub enum OpenedTicket {
    Valid(StoredSession),
    Invalid,
    Expired,
    SessionEnded,
}

#[derive(Serialize, Deserialize)]
struct Ticket<'a> {
    #[serde(rename = "e")]
    ends_at: Timestamp,
    #[serde(flatten)]
    #[serde(borrow)]
    subject: Subject<'a>,
}

#[derive(Serialize, Deserialize)]
enum Subject<'a> {
    /// A record: the session's id and its key.
    #[serde(rename = "p")]
    Record(Cow<'a, str>, Cow<'a, str>),
    #[serde(rename = "s")]
    Session(Box<Session>),
}

impl Store {
    /// A ticket for this session until `ends_at`; `None` for a session that was not stored yet.
    pub fn ticket(&self, stored: &StoredSession, ends_at: Timestamp) -> Result<Option<String>, StoreError> {
        let subject = match (self, &stored.record) {
            (Self::Cookie(_), _) => {
                let tokens = Tokens { refresh: None, ..stored.session.tokens.clone() };
                Subject::Session(Box::new(Session { tokens, ..Session::clone(&stored.session) }))
            }
            (Self::Records(_), Some(RecordHandle { key: Some(key), .. })) => {
                Subject::Record(stored.session.id.as_str().into(), key.expose().into())
            }
            (Self::Records(_), _) => return Ok(None),
        };
        Ok(Some(self.ring().load().seal_json(Purpose::Ticket, &Ticket { ends_at, subject })?))
    }

    pub async fn open_ticket(&self, text: &str, now: Timestamp) -> Result<OpenedTicket, StoreError> {
        let Some(opened) = self.ring().load().open(Purpose::Ticket, text) else { return Ok(OpenedTicket::Invalid) };
        let Ok(ticket) = serde_json::from_slice::<Ticket<'_>>(&opened.bytes) else { return Ok(OpenedTicket::Invalid) };
        if now >= ticket.ends_at {
            return Ok(OpenedTicket::Expired);
        }
        let stored = match (self, ticket.subject) {
            (Self::Cookie(_), Subject::Session(session)) => Some(StoredSession::new(*session)),
            (Self::Records(store), Subject::Record(id, key)) => store.find(&id, Secret::new(key)).await?,
            // Issued before `store.kind` was changed.
            (Self::Cookie(_), Subject::Record(..)) | (Self::Records(_), Subject::Session(_)) => None,
        };
        Ok(stored.map_or(OpenedTicket::SessionEnded, OpenedTicket::Valid))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::seal::{Keyring, SharedKeyring};
    use crate::session::tests::session;
    use crate::store::cookie::CookieStore;

    fn cookie_store() -> (SharedKeyring, Store) {
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        (ring.clone(), Store::Cookie(CookieStore::new(ring)))
    }

    #[tokio::test]
    async fn a_ticket_contains_no_refresh_token_and_opens_until_its_end() {
        let (ring, store) = cookie_store();
        let now = Timestamp::from_seconds(1_000_000);
        let ticket =
            store.ticket(&StoredSession::new(session(true)), now.plus(Duration::from_secs(300))).unwrap().unwrap();
        let OpenedTicket::Valid(stored) = store.open_ticket(&ticket, now).await.unwrap() else { panic!("it opens") };
        assert_eq!(stored.session.user.id, "1");
        assert!(stored.session.tokens.refresh.is_none());
        let later = now.plus(Duration::from_secs(300));
        assert!(matches!(store.open_ticket(&ticket, later).await.unwrap(), OpenedTicket::Expired));
        assert!(ring.load().open(Purpose::Session, &ticket).is_none(), "a ticket is no cookie");
        let cookie = store.save(&stored, later).await.unwrap();
        assert!(
            matches!(store.open_ticket(&cookie, now).await.unwrap(), OpenedTicket::Invalid),
            "a cookie is no ticket"
        );
    }
}
