//! Handles callbacks that arrive more than once: a double click, a browser's retry, a reload while Upwork is slow, or
//! an attack on the token endpoint.
//!
//! A sign-in is redeemed once: an authorization server may take a second attempt for theft and revoke the tokens of the
//! first (RFC 6749 section 4.1.2). So the work runs on the control runtime, where it continues if its client leaves or its
//! worker ends. Simultaneous callbacks share its outcome, and later ones get an error that the code was used, without a
//! request to Upwork. Only if Upwork did not answer or was busy may the same sign-in be tried again: a few times, with
//! growing pauses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::gateway::fault::{ClientFault, Fault, OurFault, UpworkFault};
use crate::oauth::login::Login;
use crate::oauth::{Unavailable, UnavailableKind};
use crate::recent::{Recent, lock};
use crate::store::StoredSession;
use crate::telemetry::trace;

/// For the log, instead of Upwork's message.
const REPEATED: &str = "its callback came before";
/// Sign-ins remembered. Each needs a state that we sealed.
const MAX_SIGN_INS: usize = 20_000;
const MAX_RETRIES: u32 = 3;
/// The pause between the first and the second attempt, which then doubles. Until it ends, the outcome stands.
const PAUSE: Duration = Duration::from_secs(5);

/// A session created by a sign-in.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct NewSession {
    pub(in crate::gateway) stored: StoredSession,
    pub(in crate::gateway) session_cookies: Vec<HeaderValue>,
    pub(in crate::gateway) loop_cookies: Vec<HeaderValue>,
}

#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// As far as known nothing was redeemed, so another attempt may help.
    retry: bool,
}

impl Failure {
    /// A failure that ends the sign-in.
    pub(super) fn last(fault: Fault) -> Self {
        Self { fault, retry: false }
    }

    /// The failure of a request to Upwork, which may be repeated if Upwork did not answer or was busy.
    pub(super) fn of(fault: Fault) -> Self {
        let retry = match &fault {
            Fault::Upwork(UpworkFault::SignInUnavailable(Unavailable { kind, .. })) => match kind {
                UnavailableKind::NoResponse | UnavailableKind::Busy => true,
                UnavailableKind::ServerError | UnavailableKind::Invalid => false,
            },
            Fault::Client(_) | Fault::App(_) | Fault::Upwork(_) | Fault::Ours(_) => false,
        };
        Self { fault, retry }
    }
}

type Outcome = Result<NewSession, Failure>;
type Pending = watch::Receiver<Option<Outcome>>;
type Known = Recent<String, Redemption, Timestamp>;

/// What is known of a sign-in's redemption.
#[derive(Clone, Debug)]
enum Redemption {
    /// The attempt with this number is running, or failed, and its outcome stands until this time.
    Attempt {
        number: u32,
        outcome: Pending,
        until: Option<Timestamp>,
    },
    Over,
}

/// Callbacks in progress, and recent ones. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct CallbackDedup {
    known: Arc<Mutex<Known>>,
    control: Handle,
}

impl CallbackDedup {
    pub(super) fn new(control: Handle) -> Self {
        Self { known: Arc::new(Mutex::new(Recent::new(MAX_SIGN_INS))), control }
    }

    /// The outcome of a sign-in: runs `work`, unless another callback has started it.
    pub(super) async fn once<W>(&self, login: &Login, now: Timestamp, work: W) -> Result<NewSession, Fault>
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let Some(mut pending) = self.join(login, now, work) else {
            return Err(ClientFault::CodeUsed(REPEATED.to_owned()).into());
        };
        let outcome = pending.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        let dropped = || Err(Failure::last(OurFault::Internal("the sign-in's task was dropped".to_owned()).into()));
        outcome.unwrap_or_else(dropped).map_err(|failure| failure.fault)
    }

    fn join<W>(&self, login: &Login, now: Timestamp, work: W) -> Option<Pending>
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let (id, over_at) = (login.id(), login.is_over_at(now));
        let mut known = lock(&self.known);
        let number = match known.get(id, now) {
            None => 1,
            Some(Redemption::Over) => return None,
            Some(Redemption::Attempt { number, until: Some(until), .. }) if *until <= now => number + 1,
            Some(Redemption::Attempt { outcome, .. }) => return Some(outcome.clone()),
        };
        let (sender, outcome) = watch::channel(None);
        let attempt = Redemption::Attempt { number, outcome: outcome.clone(), until: None };
        // An older sign-in is refused by its own age.
        known.insert(id.to_owned(), attempt, now, over_at);
        drop(known);
        let pause = PAUSE * 2_u32.pow(number - 1);
        let failed = Redemption::Attempt { number, outcome: outcome.clone(), until: Some(now.plus(pause)) };
        let mut entry = Entry { dedup: self.clone(), id: id.to_owned(), began: now, over_at, next: Redemption::Over };
        // Boxed once, rather than copied from one wrapper of the task into the next.
        let work = Box::pin(work);
        self.control.spawn(trace::carry(async move {
            let outcome = work.await;
            if number <= MAX_RETRIES && matches!(outcome, Err(Failure { retry: true, .. })) {
                entry.next = failed;
            }
            drop(entry);
            sender.send_replace(Some(outcome));
        }));
        Some(outcome)
    }
}

/// Records on drop how the attempt ended. If the work was dropped or panicked, the sign-in is over.
struct Entry {
    dedup: CallbackDedup,
    id: String,
    began: Timestamp,
    over_at: Timestamp,
    next: Redemption,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let next = std::mem::replace(&mut self.next, Redemption::Over);
        lock(&self.dedup.known).insert(std::mem::take(&mut self.id), next, self.began, self.over_at);
    }
}
