//! Tokens that Upwork issued and the store has not accepted yet.
//!
//! A request that would redeem the replaced refresh token again gets these instead. They live in memory only: a process that
//! dies loses them, and the record keeps the old refresh token.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::recent::lock;
use crate::session::Tokens;
use crate::session::tokens::RefreshToken;
use crate::store::StoredSession;

/// As long as Upwork accepts a replaced refresh token (docs/upwork.md "Token").
const KEPT: Duration = Duration::from_hours(24);

/// The digest of the refresh token that was replaced.
pub(super) type Replaced = [u8; 32];

#[derive(Debug, Default)]
pub(super) struct UnsavedTokens(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Replaced, Unsaved>,
    /// A task is writing them.
    writing: bool,
}

#[derive(Debug)]
struct Unsaved {
    /// The session before the refresh.
    before: StoredSession,
    tokens: Tokens,
    since: Instant,
}

impl UnsavedTokens {
    pub(super) fn insert(&self, replaced: &RefreshToken, before: &StoredSession, tokens: Tokens) {
        let unsaved = Unsaved { before: before.clone(), tokens, since: Instant::now() };
        // Tokens that were already there keep their age.
        self.state().entries.entry(replaced.digest()).or_insert(unsaved);
    }

    pub(super) fn get(&self, replaced: &RefreshToken) -> Option<Tokens> {
        let state = self.state();
        state.entries.get(&replaced.digest()).filter(|unsaved| unsaved.is_valid()).map(|unsaved| unsaved.tokens.clone())
    }

    /// Call when they are written or their session is over.
    pub(super) fn remove(&self, replaced: &Replaced) {
        self.state().entries.remove(replaced);
    }

    /// Whether there are entries and no task is writing them. If so, the caller has to, until [`Self::pending`] returns none.
    pub(super) fn claim_writing(&self) -> bool {
        let mut state = self.state();
        let claimed = !state.entries.is_empty() && !state.writing;
        state.writing |= claimed;
        claimed
    }

    /// The sessions to write. `None` if there are none, and then no task is writing any more.
    pub(super) fn pending(&self) -> Option<Vec<(Replaced, StoredSession)>> {
        let mut state = self.state();
        state.entries.retain(|_, unsaved| unsaved.is_valid());
        state.writing = !state.entries.is_empty();
        let pending = state.entries.iter().map(|(replaced, unsaved)| (*replaced, unsaved.before.clone()));
        state.writing.then(|| pending.collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Unsaved {
    fn is_valid(&self) -> bool {
        self.since.elapsed() < KEPT
    }
}
