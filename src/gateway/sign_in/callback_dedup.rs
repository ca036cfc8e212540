//! A callback that comes twice: a double click, a browser's retry, a reload while Upwork is slow.
//!
//! A code is redeemed once: an authorization server may take a second attempt for theft, and revoke the tokens of the first
//! (RFC 6749 section 4.1.2). So the work goes on in a task of its own when its client leaves, everyone who asks meanwhile
//! gets the same outcome, and who comes later learns that the code was used, without a question to Upwork. A failure is
//! not remembered: trying again may help.

use std::sync::{Arc, Mutex};

use http::header::HeaderValue;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::gateway::fault::{ClientFault, Fault, OurFault};
use crate::oauth::login::LIFETIME;
use crate::recent::{Recent, lock};
use crate::store::StoredSession;

/// For the log, in place of Upwork's words.
const REPEATED: &str = "its callback came before, and made a session";
/// Sign-ins remembered. Each takes a state that we sealed.
const MAX_SIGN_INS: usize = 20_000;

/// A session that a sign-in made.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Completed {
    pub(in crate::gateway) stored: StoredSession,
    /// `Set-Cookie` values for the session.
    pub(in crate::gateway) session_cookies: Vec<HeaderValue>,
    /// `Set-Cookie` values of the loop counter.
    pub(in crate::gateway) loop_cookies: Vec<HeaderValue>,
}

type Outcome = Result<Completed, Fault>;
type Pending = watch::Receiver<Option<Outcome>>;
/// By sign-in: the outcome to wait for; none where it made a session.
type Known = Recent<String, Option<Pending>, Timestamp>;

/// The callbacks that are being answered, and those that made a session lately. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct CallbackDedup(Arc<Mutex<Known>>);

impl CallbackDedup {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Recent::new(MAX_SIGN_INS))))
    }

    /// The outcome of sign-in `id`: by `work`, unless another callback started it already.
    pub(super) async fn once<W>(&self, id: &str, now: Timestamp, work: W) -> Outcome
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let Some(mut pending) = self.join(id, now, work) else {
            return Err(ClientFault::CodeUsed(REPEATED.to_owned()).into());
        };
        let outcome = pending.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(OurFault::Internal("the sign-in's task was dropped".to_owned()).into()))
    }

    fn join<W>(&self, id: &str, now: Timestamp, work: W) -> Option<Pending>
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut known = lock(&self.0);
        if let Some(pending) = known.get(id, now) {
            return pending.clone();
        }
        let (sender, pending) = watch::channel(None);
        // An older sign-in is refused by its own age.
        known.insert(id.to_owned(), Some(pending.clone()), now, now.plus(LIFETIME));
        drop(known);
        let mut entry = Entry { dedup: self.clone(), id: id.to_owned(), began: now, used: false };
        tokio::spawn(async move {
            let outcome = work.await;
            entry.used = outcome.is_ok();
            drop(entry);
            sender.send_replace(Some(outcome));
        });
        Some(pending)
    }
}

/// Forgets the sign-in when dropped unless a session came of it, also where the work was dropped or panicked.
struct Entry {
    dedup: CallbackDedup,
    id: String,
    began: Timestamp,
    used: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut known = lock(&self.dedup.0);
        if self.used {
            known.insert(std::mem::take(&mut self.id), None, self.began, self.began.plus(LIFETIME));
        } else {
            known.remove(&self.id);
        }
    }
}
