//! Finds out who calls: a session by its cookie, a ticket, a personal access token, or the service identity.
//!
//! Turns `Authorization` and `X-Upwork-Ticket` into a [`Caller`], whose [`Credential`] the policy judges. An invalid
//! credential of ours is a fault: no other credential is tried instead.

mod credential;
mod neighbour;
mod new_token;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::config::{Config, NeighbourConfig};
use super::fault::{ClientFault, Fault, NeighbourFault, TicketFault, TokenFault};
use super::sessions::{SessionChange, Sessions, WATCH_INTERVAL};
use crate::fields::Fields;
use crate::oauth::service::ServiceIdentity;
use crate::policy::{Credential, Decision};
use crate::seal::SharedKeyring;
use crate::session::Session;
use crate::session::personal::PersonalToken;
use crate::store::{OpenedTicket, StoreError, StoredSession, TokenRecord};
use crate::telemetry::Door;
pub(super) use credential::is_our_token;
use credential::{OwnCredential, TICKET_PREFIX, own_credential};
pub(super) use neighbour::admit_neighbour;
use new_token::NewTokenCookie;
use tickets::TicketCache;

const TICKET_LIFETIME: Duration = Duration::from_secs(300);
/// The last use of a token is recorded at most this often.
const USE_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Callers {
    sessions: Arc<Sessions>,
    /// Recently made tickets, if requests to the app carry one.
    tickets: Option<TicketCache>,
    service: Option<Arc<ServiceIdentity>>,
    pub(super) neighbour: NeighbourConfig,
    pub(super) new_token: NewTokenCookie,
}

#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Shows no valid credential, at this listener.
    Anonymous(Door),
    Session(StoredSession),
    Ticket(StoredSession),
    Token(Box<TokenCaller>),
    Service(Arc<ServiceIdentity>),
}

#[derive(Clone, Debug)]
pub(super) struct TokenCaller {
    pub(super) stored: StoredSession,
    pub(super) record: TokenRecord,
    token: PersonalToken,
    /// For the policy: `access.not_before` ends the tokens created before it, even if their owner signed in again
    /// later.
    dated: Session,
}

impl Caller {
    pub(super) fn credential(&self) -> Credential<'_> {
        match self {
            Self::Anonymous(_) => Credential::Nothing,
            Self::Session(stored) => Credential::Cookie(&stored.session),
            Self::Ticket(stored) => Credential::Token(&stored.session, false),
            Self::Token(token) => Credential::Token(&token.dated, token.record.read_only),
            Self::Service(_) => Credential::Service,
        }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Session(stored) | Self::Ticket(stored) => Some(&stored.session),
            Self::Token(token) => Some(&token.stored.session),
            Self::Anonymous(_) | Self::Service(_) => None,
        }
    }

    /// The door that callers of this kind use.
    pub(super) fn door(&self) -> Door {
        match self {
            Self::Anonymous(door) => *door,
            Self::Session(_) | Self::Token(_) => Door::Public,
            Self::Ticket(_) | Self::Service(_) => Door::Neighbour,
        }
    }

    /// The fault of a caller that the policy refuses; `None` for a cookie or no credential, which may sign in.
    pub(super) fn refusal(&self, decision: Decision) -> Option<Fault> {
        let fault = match (self, decision) {
            (Self::Ticket(_) | Self::Token(_), Decision::NotAdmitted) => {
                return self.session().map(|session| Fault::not_admitted(&session.user));
            }
            (Self::Token(_), Decision::NotAdmittedHere | Decision::ReadOnly) => return None,
            (Self::Ticket(_), _) => ClientFault::Ticket(TicketFault::SessionOver),
            (Self::Token(_), _) => ClientFault::Token(TokenFault::Bad),
            (Self::Anonymous(Door::Neighbour), _) => ClientFault::Neighbour(NeighbourFault::NoServiceIdentity),
            (Self::Anonymous(_) | Self::Session(_) | Self::Service(_), _) => return None,
        };
        Some(fault.into())
    }

    /// The fault of a caller whose grant Upwork has ended; `None` for a cookie, which may sign in again.
    pub(super) fn revoked(&self) -> Option<Fault> {
        match self {
            Self::Ticket(_) => Some(ClientFault::Ticket(TicketFault::SessionOver).into()),
            Self::Token(_) => Some(ClientFault::Token(TokenFault::GrantOver).into()),
            Self::Anonymous(_) | Self::Session(_) | Self::Service(_) => None,
        }
    }
}

impl Callers {
    pub(crate) fn new(
        config: &Config,
        ring: SharedKeyring,
        sessions: Arc<Sessions>,
        service: Option<Arc<ServiceIdentity>>,
    ) -> Arc<Self> {
        let tickets = config.tickets.then(TicketCache::new);
        let new_token = NewTokenCookie::new(sessions.cookie.name(), sessions.cookie.is_secure(), ring);
        Arc::new(Self { sessions, tickets, service, neighbour: config.neighbour.clone(), new_token })
    }

    pub(super) fn has_service(&self) -> bool {
        self.service.is_some()
    }

    /// At the public listener: the token's owner, if there is a token; `None` leaves it to the cookie.
    pub(super) async fn by_token(&self, headers: &Fields) -> Result<Option<Caller>, Fault> {
        match own_credential(headers) {
            OwnCredential::Nothing => Ok(None),
            OwnCredential::Token(token) => Ok(Some(Caller::Token(self.token_owner(&token).await?))),
            OwnCredential::BadToken => Err(ClientFault::Token(TokenFault::Bad).into()),
            OwnCredential::Ticket(_) => Err(ClientFault::Ticket(TicketFault::WrongDoor).into()),
            OwnCredential::BadTicket => Err(ClientFault::Ticket(TicketFault::Bad).into()),
        }
    }

    /// The fault of a request without a session that has one of our credentials where none is accepted.
    pub(super) fn not_accepted(headers: &Fields) -> Option<Fault> {
        let fault = match own_credential(headers) {
            OwnCredential::Nothing => return None,
            OwnCredential::Token(_) | OwnCredential::BadToken => ClientFault::Token(TokenFault::OnlyApi),
            OwnCredential::Ticket(_) | OwnCredential::BadTicket => ClientFault::Ticket(TicketFault::WrongDoor),
        };
        Some(fault.into())
    }

    /// At the neighbour listener: the ticket's user, or without a ticket the service identity.
    pub(super) async fn by_ticket(&self, headers: &Fields) -> Result<Caller, Fault> {
        match own_credential(headers) {
            OwnCredential::Nothing => {
                Ok(self.service.clone().map_or(Caller::Anonymous(Door::Neighbour), Caller::Service))
            }
            OwnCredential::Ticket(ticket) => Ok(Caller::Ticket(self.ticket_holder(&ticket).await?)),
            OwnCredential::BadTicket => Err(ClientFault::Ticket(TicketFault::Bad).into()),
            OwnCredential::Token(_) | OwnCredential::BadToken => Err(ClientFault::Token(TokenFault::WrongDoor).into()),
        }
    }

    /// The caller, rechecked with Upwork if that is due, and the effect on its cookie. `Err`: Upwork has ended its
    /// grant.
    pub(super) async fn recheck(&self, caller: Caller) -> (Result<Caller, Caller>, SessionChange) {
        let stored = match &caller {
            // A ticket with an access token but no refresh token comes from a request that was checked.
            Caller::Ticket(stored) if stored.session.tokens.refresh.is_none() => {
                return (Ok(caller), SessionChange::Keep);
            }
            Caller::Session(stored) | Caller::Ticket(stored) => stored,
            Caller::Token(token) => &token.stored,
            Caller::Anonymous(_) | Caller::Service(_) => return (Ok(caller), SessionChange::Keep),
        };
        let (stored, change) = self.sessions.recheck(stored.clone(), false, || false).await;
        let Some(stored) = stored else {
            let ended = if matches!(caller, Caller::Session(_)) { change } else { SessionChange::Keep };
            return (Err(caller), ended);
        };
        match caller {
            Caller::Session(_) => (Ok(Caller::Session(stored)), change),
            Caller::Ticket(_) => (Ok(Caller::Ticket(stored)), SessionChange::Keep),
            Caller::Token(token) => {
                let dated = Session { began_at: token.record.created_at, ..Session::clone(&stored.session) };
                (Ok(Caller::Token(Box::new(TokenCaller { stored, dated, ..*token }))), SessionChange::Keep)
            }
            Caller::Anonymous(_) | Caller::Service(_) => (Ok(caller), SessionChange::Keep),
        }
    }

    async fn token_owner(&self, text: &str) -> Result<Box<TokenCaller>, Fault> {
        let (bad, now) = (|| ClientFault::Token(TokenFault::Bad), self.sessions.context.now());
        let token = PersonalToken::parse(text).ok_or_else(bad)?;
        let record = match self.sessions.store.find_token(&token).await {
            Ok(record) => record.filter(|record| now < record.expires_at).ok_or_else(bad)?,
            Err(StoreError::NoRecords) => return Err(bad().into()),
            Err(error) => return Err(error.into()),
        };
        let stored = self.sessions.store.open_shared(&record.user).await?;
        let stored = stored.ok_or(ClientFault::Token(TokenFault::GrantOver))?;
        let dated = Session { began_at: record.created_at, ..Session::clone(&stored.session) };
        Ok(Box::new(TokenCaller { stored, record, token, dated }))
    }

    /// Ends an upgraded connection or a long answer soon after the token that opened it is revoked, expires or is not
    /// admitted any more.
    pub(super) fn watch(self: &Arc<Self>, token: &TokenCaller) -> Arc<CancellationToken> {
        let end = Arc::new(CancellationToken::new());
        let (callers, held, token) = (self.clone(), Arc::downgrade(&end), token.clone());
        tokio::spawn(async move {
            let context = &callers.sessions.context;
            loop {
                let next = context.now().plus(WATCH_INTERVAL);
                context.clock.sleep_until(next.min(token.record.expires_at)).await;
                let Some(end) = held.upgrade() else { return };
                if !callers.still_opens(&token).await {
                    return end.cancel();
                }
            }
        });
        end
    }

    async fn still_opens(&self, token: &TokenCaller) -> bool {
        let in_time = self.sessions.context.now() < token.record.expires_at;
        // An outage of the store does not mean that the token is revoked.
        in_time
            && self.sessions.is_admitted(&token.dated)
            && self.sessions.store.find_token(&token.token).await.map_or(true, |record| record.is_some())
    }

    /// Records the use of an admitted token.
    pub(super) async fn note_use(&self, record: &TokenRecord) {
        let now = self.sessions.context.now();
        if record.last_used_at.is_none_or(|last| now.since(last) >= USE_INTERVAL) {
            // A call must not fail because its use could not be recorded.
            let _ = self.sessions.store.token_used(record, now).await;
        }
    }

    async fn ticket_holder(&self, ticket: &str) -> Result<StoredSession, Fault> {
        let text = ticket.strip_prefix(TICKET_PREFIX).unwrap_or_default();
        let fault = match self.sessions.store.open_ticket(text, self.sessions.context.now()).await? {
            OpenedTicket::Valid(stored) if self.sessions.is_live(&stored.session) => return Ok(stored),
            OpenedTicket::Valid(_) | OpenedTicket::SessionEnded => TicketFault::SessionOver,
            OpenedTicket::Invalid => TicketFault::Bad,
            OpenedTicket::Expired => TicketFault::Expired,
        };
        Err(ClientFault::Ticket(fault).into())
    }

    /// Whether the app's ticket contains the access token itself, as with the cookie store.
    pub(super) fn tickets_hold_tokens(&self) -> bool {
        self.tickets.is_some() && !self.sessions.store.keeps_records()
    }

    /// The ticket for the app that handles a request of this session.
    pub(super) fn ticket(&self, stored: &StoredSession) -> Option<HeaderValue> {
        let (tickets, now) = (self.tickets.as_ref()?, self.sessions.context.now());
        if let Some(ticket) = tickets.get(&stored.session, now) {
            return Some(ticket);
        }
        let sealed = match self.sessions.store.ticket(stored, now.plus(TICKET_LIFETIME)) {
            Ok(sealed) => sealed?,
            Err(error) => {
                tracing::error!(%error, "a ticket could not be made");
                return None;
            }
        };
        let mut ticket = HeaderValue::from_str(&format!("{TICKET_PREFIX}{sealed}")).ok()?;
        ticket.set_sensitive(true);
        tickets.insert(&stored.session, ticket.clone(), now);
        Some(ticket)
    }
}
