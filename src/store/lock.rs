//! The right to do something for a session that one replica has at a time.
//!
//! In: a session's id. Out: a [`Lock`] with an owner and a lease, renewed while it is held, given back when it is released
//! or dropped. It never frees another owner's lock. A lease that ran out (its process stood still for seconds) is the
//! next one's: then two may refresh, which Upwork's 24 hours of grace for a replaced refresh token allow.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::StoreError;
use super::kept::{Kept, SessionStore};
use crate::seal::random;

/// A lock lives this long after its owner was last seen.
const LEASE: Duration = Duration::from_secs(5);
/// A third of the lease: two renewals may fail.
const RENEWAL: Duration = Duration::from_millis(1600);
/// Longer than a lease, so that a dead owner is outlived; and longer than a refresh takes, its call of the token endpoint
/// (15 s) included, so that a slow one is waited for rather than asked for again.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(25);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A lock that is held. Dropping it gives it back too, a little later.
#[derive(Debug)]
pub struct Lock {
    holding: Option<Holding>,
}

#[derive(Debug)]
struct Holding {
    /// Dropped or sent, it ends the task.
    release: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Lock {
    /// Of the cookie store, which shares nothing.
    pub(super) fn of_nothing() -> Self {
        Self { holding: None }
    }

    /// Gives it back, and returns when it is.
    pub async fn release(self) {
        if let Some(Holding { release, task }) = self.holding {
            drop(release);
            // It can only have been given up, when the runtime stops: then the lease ends it.
            let _ = task.await;
        }
    }
}

impl<S: SessionStore> Kept<S> {
    /// See [`super::Store::lock`].
    pub(super) async fn lock(&self, id: &str) -> Result<Option<Lock>, StoreError> {
        let owner = URL_SAFE_NO_PAD.encode(random::<16>()?);
        let give_up = Instant::now() + LOCK_WAIT;
        let mut pause = FIRST_PAUSE;
        while !self.store.try_lock(id, &owner, LEASE).await? {
            if Instant::now() >= give_up {
                return Ok(None);
            }
            // Half and up to half more, so that those who wait do not come all at once.
            let [spread] = random::<1>()?;
            tokio::time::sleep(pause / 2 + pause / 2 * u32::from(spread) / 255).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let (release, released) = oneshot::channel();
        let task = self.control.spawn(hold(self.store.clone(), id.to_owned(), owner, released));
        Ok(Some(Lock { holding: Some(Holding { release, task }) }))
    }
}

/// Renews the lease until the lock is released or lost. One task does both, so that no renewal comes after the release.
async fn hold<S: SessionStore>(store: S, id: String, owner: String, mut released: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut released => break,
            () = tokio::time::sleep(RENEWAL) => match store.try_lock(&id, &owner, LEASE).await {
                // A store that is down for a moment may be back for the next renewal.
                Ok(true) | Err(_) => {}
                Ok(false) => return,
            },
        }
    }
    // Where it cannot be given back, the lease ends it.
    let _ = store.unlock(&id, &owner).await;
}
