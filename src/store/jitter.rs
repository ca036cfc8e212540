use std::time::Duration;

use crate::seal::random;

/// A random pause of at least half this length, so that waiters do not all retry at once.
pub(super) fn jitter(pause: Duration) -> Duration {
    let [random] = random::<1>().unwrap_or([255]);
    pause / 2 + pause / 2 * u32::from(random) / 255
}
