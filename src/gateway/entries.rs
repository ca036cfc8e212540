//! A callback that comes twice: a double click, a browser's retry, a reload while Upwork is slow.
//!
//! In: a sign-in whose state was checked. Out: what came of it, the same for all who ask meanwhile. A code is redeemed once:
//! an authorization server may take a second try for theft, and end the tokens of the first (RFC 6749 section 4.1.2). So the
//! work goes on when its asker leaves, and who comes after it is told that the code was used, without a question to
//! Upwork. A failure is not remembered: trying again may help.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::header::HeaderValue;
use tokio::sync::watch;

use super::fault::Fault;
use crate::clock::Timestamp;
use crate::oauth::login::LIFETIME;
use crate::recent::lock;
use crate::store::StoredSession;

/// For the log, in place of Upwork's words.
const REPEATED: &str = "its callback came before, and made a session";

/// A session that a sign-in made, and what the browser gets of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Whose.
    pub(super) held: StoredSession,
    /// `Set-Cookie` values.
    pub(super) cookies: Vec<HeaderValue>,
}

type Outcome = Result<Entry, Fault>;
type Coming = watch::Receiver<Option<Outcome>>;
/// By sign-in: when its callback came first, and the outcome to wait for; none where it made a session.
type Known = HashMap<String, (Timestamp, Option<Coming>)>;

/// The callbacks that are being answered, and those that were lately. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries(Arc<Mutex<Known>>);

impl Entries {
    /// What comes of sign-in `id`: by `work`, unless somebody began on it already.
    pub(super) async fn once<W>(&self, id: &str, now: Timestamp, work: W) -> Outcome
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let Some(mut coming) = self.join(id, now, work) else { return Err(Fault::CodeUsed(REPEATED.to_owned())) };
        let outcome = coming.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(Fault::Internal("the sign-in's task was given up".to_owned())))
    }

    fn join<W>(&self, id: &str, now: Timestamp, work: W) -> Option<Coming>
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut known = self.known();
        // An older sign-in is over by itself.
        known.retain(|_, (began, coming)| now.since(*began) <= LIFETIME || coming.is_some());
        if let Some((_, coming)) = known.get(id) {
            return coming.clone();
        }
        let (told, coming) = watch::channel(None);
        known.insert(id.to_owned(), (now, Some(coming.clone())));
        drop(known);
        // Forgets the sign-in unless a session came of it, also where the work was dropped or panicked.
        let mut mark = Mark { entries: self.clone(), id: id.to_owned(), used: false };
        tokio::spawn(async move {
            let outcome = work.await;
            mark.used = outcome.is_ok();
            drop(mark);
            told.send_replace(Some(outcome));
        });
        Some(coming)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.0)
    }
}

struct Mark {
    entries: Entries,
    id: String,
    used: bool,
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut known = self.entries.known();
        match known.get_mut(&self.id) {
            Some((_, coming)) if self.used => *coming = None,
            _ => drop(known.remove(&self.id)),
        }
    }
}
