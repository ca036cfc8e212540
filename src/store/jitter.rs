use std::time::Duration;

use crate::seal::random;

/// At least half of a pause, so that those who wait do not all come at once.
pub(super) fn jitter(pause: Duration) -> Duration {
    let [random] = random::<1>().unwrap_or([255]);
    pause / 2 + pause / 2 * u32::from(random) / 255
}
