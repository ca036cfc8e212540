//! Shares confirmations between the durable writes of a connection.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A confirmation covers every write whose answer arrived before it began.
#[derive(Debug)]
pub(super) struct Confirmations {
    writes: AtomicU64,
    /// How many writes the last confirmation covers, and its outcome.
    last: Mutex<(u64, Result<(), String>)>,
}

impl Confirmations {
    pub(super) fn new() -> Self {
        Self { writes: AtomicU64::new(0), last: Mutex::new((0, Ok(()))) }
    }

    /// Call once a write is answered. Runs `confirm`, unless another write's confirmation began in the meantime.
    pub(super) async fn share(&self, confirm: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let own = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if last.0 < own {
            let covered = self.writes.load(Ordering::SeqCst);
            *last = (covered, confirm.await);
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn writes_that_came_in_time_share_a_confirmation_and_its_outcome() {
        let (confirmations, begun, go, count) = (Confirmations::new(), Notify::new(), Notify::new(), Cell::new(0));
        let confirm = || async {
            count.set(count.get() + 1);
            begun.notify_one();
            go.notified().await;
            if count.get() == 2 { Err("none".to_owned()) } else { Ok(()) }
        };
        let late = async {
            begun.notified().await;
            // They were written after the first confirmation began.
            let both = async { tokio::join!(confirmations.share(confirm()), confirmations.share(confirm())) };
            let answered = async {
                go.notify_one();
                begun.notified().await;
                go.notify_one();
            };
            tokio::join!(both, answered).0
        };
        let (first, (second, third)) = tokio::join!(confirmations.share(confirm()), late);
        assert_eq!((first, second.is_err(), third.is_err(), count.get()), (Ok(()), true, true, 2));
    }
}
