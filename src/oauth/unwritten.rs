//! What Upwork gave and the store has not taken yet.
//!
//! In: tokens, and the session that they are for, before they are written. Out: the same tokens for whoever would ask
//! Upwork again with what they replace, and the sessions that wait. It lives in memory only: what it holds when the process
//! dies is lost, and then the refresh token in the record is the old one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

use crate::recent::lock;
use crate::session::Tokens;
use crate::session::tokens::RefreshToken;
use crate::store::StoredSession;

/// As long as Upwork lets a replaced refresh token live.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Tokens by the digest of the refresh token they replace.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<[u8; 32], Waiting>,
    /// Somebody sees to it that they are written.
    tended: bool,
}

#[derive(Debug)]
struct Waiting {
    before: StoredSession,
    tokens: Tokens,
    since: Instant,
}

impl Unwritten {
    /// Remembers tokens for a session as it was before.
    pub(super) fn put(&self, replaced: [u8; 32], before: &StoredSession, tokens: Tokens) {
        let waiting = Waiting { before: before.clone(), tokens, since: Instant::now() };
        // Tokens that were tried before are as old as they were.
        self.inner().waiting.entry(replaced).or_insert(waiting);
    }

    /// Whether something is left to be written and nobody sees to it: whoever is told so does, until [`Self::left`] ends.
    pub(super) fn begin(&self) -> bool {
        let mut inner = self.inner();
        let wanted = !inner.waiting.is_empty() && !inner.tended;
        inner.tended |= wanted;
        wanted
    }

    pub(super) fn get(&self, replaced: &[u8; 32]) -> Option<Tokens> {
        let inner = self.inner();
        inner.waiting.get(replaced).filter(|waiting| waiting.is_good()).map(|waiting| waiting.tokens.clone())
    }

    /// They are written, or their session is over.
    pub(super) fn remove(&self, replaced: &[u8; 32]) {
        self.inner().waiting.remove(replaced);
    }

    /// The sessions, by what their tokens replace; none at all where nothing is left, and then nobody sees to it any more.
    pub(super) fn left(&self) -> Option<Vec<([u8; 32], StoredSession)>> {
        let mut inner = self.inner();
        inner.waiting.retain(|_, waiting| waiting.is_good());
        inner.tended = !inner.waiting.is_empty();
        let left = inner.waiting.iter().map(|(replaced, waiting)| (*replaced, waiting.before.clone()));
        inner.tended.then(|| left.collect())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

impl Waiting {
    fn is_good(&self) -> bool {
        self.since.elapsed() < REMEMBERED
    }
}

/// What a token is known by, without keeping it.
pub(super) fn key(token: &RefreshToken) -> [u8; 32] {
    digest(&SHA256, token.expose().as_bytes()).as_ref().try_into().unwrap_or_default()
}
