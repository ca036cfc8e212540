//! What a ticket holds: the place of a session and the key to it; or, where nothing is kept here, the access token itself.
//!
//! In: a held session, a moment. Out: sealed text, and the session again. It never holds a refresh token: with the cookie
//! store a ticket ends with its access token, with the others it leads to the session, which is refreshed where it is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Place, Store, StoreError, StoredSession};
use crate::clock::Timestamp;
use crate::seal::{Purpose, SharedKeyring};
use crate::secret::Secret;
use crate::session::{Session, Tokens};

/// What came of a ticket that was shown.
#[derive(Debug)]
pub enum OpenedTicket {
    /// The session it is for.
    Good(StoredSession),
    /// It does not open.
    Bad,
    /// It was good once.
    Expired,
    /// The session it is for was ended.
    Over,
}

#[derive(Serialize, Deserialize)]
struct Inside<'a> {
    #[serde(rename = "e")]
    ends_at: Timestamp,
    #[serde(flatten)]
    #[serde(borrow)]
    whom: Whom<'a>,
}

#[derive(Serialize, Deserialize)]
enum Whom<'a> {
    /// The place of a record: the session's id and its key.
    #[serde(rename = "p")]
    Place(Cow<'a, str>, Cow<'a, str>),
    /// The session itself.
    #[serde(rename = "s")]
    Session(Box<Session>),
}

impl Store {
    /// A ticket for this session until `ends_at`; none for one that is not in its store yet.
    pub fn ticket(&self, held: &StoredSession, ends_at: Timestamp) -> Result<Option<String>, StoreError> {
        let whom = match (self, &held.place) {
            (Self::Cookie(_), _) => {
                let tokens = Tokens { refresh: None, ..held.session.tokens.clone() };
                Whom::Session(Box::new(Session { tokens, ..Session::clone(&held.session) }))
            }
            (Self::Embedded(_) | Self::Valkey(_), Some(Place { key: Some(key), .. })) => {
                Whom::Place(held.session.id.as_str().into(), key.expose().into())
            }
            (Self::Embedded(_) | Self::Valkey(_), _) => return Ok(None),
        };
        // Texts and numbers always serialize.
        let bytes = serde_json::to_vec(&Inside { ends_at, whom }).map(Zeroizing::new).unwrap_or_default();
        Ok(Some(self.ring().load().seal(Purpose::Ticket, &bytes)?))
    }

    /// The session that a ticket is for, at `now`.
    pub async fn open_ticket(&self, text: &str, now: Timestamp) -> Result<OpenedTicket, StoreError> {
        let Some(opened) = self.ring().load().open(Purpose::Ticket, text) else { return Ok(OpenedTicket::Bad) };
        let Ok(inside) = serde_json::from_slice::<Inside<'_>>(&opened.bytes) else { return Ok(OpenedTicket::Bad) };
        if now >= inside.ends_at {
            return Ok(OpenedTicket::Expired);
        }
        let held = match (self, inside.whom) {
            (Self::Cookie(_), Whom::Session(session)) => Some(StoredSession::new(*session)),
            (Self::Embedded(store), Whom::Place(id, key)) => store.0.find(&id, Secret::new(key)).await?,
            (Self::Valkey(store), Whom::Place(id, key)) => store.0.find(&id, Secret::new(key)).await?,
            // Made before the kind of store was changed.
            (Self::Cookie(_), Whom::Place(..)) | (Self::Embedded(_) | Self::Valkey(_), Whom::Session(_)) => None,
        };
        Ok(held.map_or(OpenedTicket::Over, OpenedTicket::Good))
    }

    fn ring(&self) -> &SharedKeyring {
        match self {
            Self::Cookie(store) => store.ring(),
            Self::Embedded(store) => &store.0.ring,
            Self::Valkey(store) => &store.0.ring,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::seal::Keyring;
    use crate::session::tests::session;
    use crate::store::cookie::CookieStore;

    fn cookie_store() -> (SharedKeyring, Store) {
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        (ring.clone(), Store::Cookie(CookieStore::new(ring)))
    }

    #[tokio::test]
    async fn a_ticket_holds_no_refresh_token_and_opens_until_its_end() {
        let (ring, store) = cookie_store();
        let now = Timestamp::from_seconds(1_000_000);
        let ticket =
            store.ticket(&StoredSession::new(session(true)), now.plus(Duration::from_secs(300))).unwrap().unwrap();
        let OpenedTicket::Good(held) = store.open_ticket(&ticket, now).await.unwrap() else { panic!("it opens") };
        assert_eq!(held.session.user.id, "1");
        assert!(held.session.tokens.refresh.is_none());
        let later = now.plus(Duration::from_secs(300));
        assert!(matches!(store.open_ticket(&ticket, later).await.unwrap(), OpenedTicket::Expired));
        assert!(ring.load().open(Purpose::Session, &ticket).is_none(), "a ticket is no cookie");
        let cookie = store.save(&held, later).await.unwrap();
        assert!(matches!(store.open_ticket(&cookie, now).await.unwrap(), OpenedTicket::Bad), "a cookie is no ticket");
    }
}
