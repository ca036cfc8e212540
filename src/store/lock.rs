//! A lock on a session or grant, so that one replica at a time refreshes it.
//!
//! A [`Lock`] has an owner and a lease. It is renewed until it is released or dropped, and never frees another owner's
//! lock. If a lease runs out because its process was suspended for seconds, another replica takes the lock. Then both
//! may refresh, which Upwork's grace period of 24 hours for a replaced refresh token allows.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::StoreError;
use super::backend::Backend as _;
use super::jitter::jitter;
use super::measured::MeasuredBackend;
use super::sealed_store::SealedStore;
use crate::seal::random;

/// A lock expires this long after its last renewal.
pub const LEASE: Duration = Duration::from_secs(5);
/// A third of the lease: two renewals may fail.
pub const RENEWAL: Duration = Duration::from_millis(1600);
/// Longer than the lease of an owner that died, and longer than a refresh with its calls to Upwork (30 s), so that a
/// slow refresh is not repeated.
pub const LOCK_WAIT: Duration = Duration::from_secs(35);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// Dropping it also frees the lock, a little later. The cookie store shares nothing, so its locks are empty.
#[derive(Debug, Default)]
pub struct Lock {
    /// Dropped or sent, it ends the task.
    release: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Lock {
    /// Returns once the lock is free.
    pub async fn release(self) {
        drop(self.release);
        if let Some(task) = self.task {
            // It fails only if its runtime was shut down; then the lease runs out.
            let _ = task.await;
        }
    }
}

impl SealedStore {
    pub(super) async fn lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        let owner = URL_SAFE_NO_PAD.encode(random::<16>()?);
        let deadline = Instant::now() + LOCK_WAIT;
        let mut pause = FIRST_PAUSE;
        while !self.backend.try_lock(name, &owner, LEASE).await? {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(jitter(pause)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        let (release, released) = oneshot::channel();
        let task = self.control.spawn(hold(self.backend.clone(), name.to_owned(), owner, released));
        Ok(Some(Lock { release: Some(release), task: Some(task) }))
    }
}

/// Renews the lease until the lock is released or lost. One task does both, so that no renewal follows the release.
async fn hold(backend: MeasuredBackend, name: String, owner: String, mut released: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut released => break,
            () = tokio::time::sleep(RENEWAL) => match backend.try_lock(&name, &owner, LEASE).await {
                // After a short outage, the store may be back for the next renewal.
                Ok(true) | Err(_) => {}
                Ok(false) => return,
            },
        }
    }
    // If this fails, the lease runs out.
    let _ = backend.unlock(&name, &owner).await;
}
