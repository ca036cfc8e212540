//! One refresh for each session and refresh token, however many requests wait for it.
//!
//! A result is kept for a while, so that a request with an older cookie finds the successor (docs/design.md "Refresh
//! races").

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::RefreshError;
use crate::recent::lock;
use crate::session::Session;
use crate::session::tokens::RefreshToken;
use crate::store::StoredSession;

/// How long a successor is kept for requests with an older cookie.
const SUCCESS_KEPT: Duration = Duration::from_secs(30);
/// How long a failure is kept, so that many requests do not ask one after the other.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

pub(super) type RefreshResult = Result<StoredSession, RefreshError>;
pub(super) type Receiver = watch::Receiver<Option<RefreshResult>>;
type Sender = watch::Sender<Option<RefreshResult>>;

/// A session's id and the digest of its refresh token, if it has one: sessions that share a grant each get their own
/// result.
#[derive(Debug)]
pub(super) struct Key {
    session: String,
    token: TokenDigest,
}

type TokenDigest = [u8; 32];

fn digest(session: &Session) -> TokenDigest {
    session.tokens.refresh.as_ref().map_or([0; 32], RefreshToken::digest)
}

impl Key {
    pub(super) fn new(session: &Session) -> Self {
        Self { session: session.id.clone(), token: digest(session) }
    }
}

#[derive(Debug)]
struct Refresh {
    result: Receiver,
    kept_until: Instant,
}

impl Refresh {
    /// Whether it is still kept and newer than `session`: if Upwork did not replace the refresh token, the refresh that
    /// returned the session's access token has the same key.
    fn is_useful(&self, session: &Session) -> bool {
        let brought = matches!(&*self.result.borrow(), Some(Ok(stored)) if !is_newer(&stored.session, session));
        !brought && self.kept_until > Instant::now()
    }
}

/// Whether `other` has a different access token than `session`, or a later answer about its user.
pub(super) fn is_newer(other: &Session, session: &Session) -> bool {
    !other.tokens.access.same_as(&session.tokens.access) || other.checked > session.checked
}

/// The refreshes in progress and recent ones. By session first: few have any, and the others need no digest.
#[derive(Debug, Default)]
pub(super) struct SingleFlight(Mutex<HashMap<String, HashMap<TokenDigest, Refresh>>>);

impl SingleFlight {
    /// The result of the refresh that can replace `session`, if one is in progress or has succeeded.
    pub(super) fn successor(&self, session: &Session) -> Option<Receiver> {
        let refreshes = lock(&self.0);
        let refresh = refreshes.get(&session.id)?.get(&digest(session)).filter(|refresh| refresh.is_useful(session))?;
        let failed = matches!(*refresh.result.borrow(), Some(Err(_)));
        (!failed).then(|| refresh.result.clone())
    }

    /// The result to wait for. If no useful refresh is known, one is registered for at most `deadline`, and the caller
    /// has to run it and publish its result through the sender.
    pub(super) fn join(&self, key: &Key, session: &Session, deadline: Duration) -> (Receiver, Option<Sender>) {
        let now = Instant::now();
        let mut refreshes = lock(&self.0);
        let known = refreshes.get(&key.session).and_then(|refreshes| refreshes.get(&key.token));
        if let Some(refresh) = known.filter(|refresh| refresh.is_useful(session)) {
            return (refresh.result.clone(), None);
        }
        refreshes.retain(|_, refreshes| {
            refreshes.retain(|_, refresh| refresh.kept_until > now);
            !refreshes.is_empty()
        });
        let (sender, result) = watch::channel(None);
        let refresh = Refresh { result: result.clone(), kept_until: now + deadline + SUCCESS_KEPT };
        refreshes.entry(key.session.clone()).or_default().insert(key.token, refresh);
        (result, Some(sender))
    }

    /// How many are in progress.
    pub(super) fn in_flight(&self) -> usize {
        lock(&self.0).values().flat_map(HashMap::values).filter(|refresh| refresh.result.borrow().is_none()).count()
    }

    pub(super) fn publish(&self, key: &Key, sender: &Sender, result: RefreshResult) {
        let kept = match result {
            Ok(_) | Err(RefreshError::Revoked) => SUCCESS_KEPT,
            Err(RefreshError::Misconfigured(_) | RefreshError::Store(_) | RefreshError::Unavailable(_)) => FAILURE_KEPT,
        };
        if let Some(refresh) = lock(&self.0).get_mut(&key.session).and_then(|refreshes| refreshes.get_mut(&key.token)) {
            refresh.kept_until = Instant::now() + kept;
        }
        sender.send_replace(Some(result));
    }
}
