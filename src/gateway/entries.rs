//! A callback that comes twice: a double click, a browser's retry, a reload while Upwork is slow.
//!
//! In: a sign-in whose state was checked. Out: what came of it, the same for all who ask. A code is redeemed once: an
//! authorization server may take a second try for theft, and end the tokens of the first (RFC 6749 section 4.1.2). So the
//! work goes on when its asker leaves, and a session that came of it is remembered for as long as browsers try again. A
//! failure is not: trying again may help.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use tokio::sync::watch;

use super::fault::Fault;
use crate::clock::Timestamp;
use crate::store::Held;

/// How long an entry is remembered.
const KEEP: Duration = Duration::from_secs(30);

/// A session that a sign-in made, and what the browser gets of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Whose.
    pub(super) held: Held,
    /// `Set-Cookie` values.
    pub(super) cookies: Vec<HeaderValue>,
}

type Outcome = Result<Entry, Fault>;
type Known = HashMap<String, (Timestamp, watch::Receiver<Option<Outcome>>)>;

/// The callbacks that are being answered, and those that were lately. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries(Arc<Mutex<Known>>);

impl Entries {
    /// What comes of sign-in `id`: by `work`, unless somebody began on it already.
    pub(super) async fn once<W>(&self, id: &str, now: Timestamp, work: W) -> Outcome
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut coming = self.join(id, now, work);
        let outcome = coming.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(Fault::Internal("the sign-in's task was given up".to_owned())))
    }

    fn join<W>(&self, id: &str, now: Timestamp, work: W) -> watch::Receiver<Option<Outcome>>
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut known = self.known();
        // One that is still at work ends by itself.
        known.retain(|_, (began, outcome)| now.since(*began) <= KEEP || outcome.borrow().is_none());
        if let Some((_, outcome)) = known.get(id) {
            return outcome.clone();
        }
        let (told, outcome) = watch::channel(None);
        known.insert(id.to_owned(), (now, outcome.clone()));
        drop(known);
        let (entries, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            // Forgets the sign-in unless a session came of it, also where the work was dropped or panicked.
            let forget = Forget { entries, id };
            let outcome = work.await;
            if outcome.is_ok() {
                forget.not();
            }
            told.send_replace(Some(outcome));
        });
        outcome
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget {
    entries: Entries,
    id: String,
}

impl Forget {
    fn not(mut self) {
        self.id.clear();
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.entries.known().remove(&self.id);
    }
}
