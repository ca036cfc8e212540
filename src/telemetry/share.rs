//! Which requests have a line in the access log.

use std::sync::atomic::{AtomicU64, Ordering};

/// The share of requests that have a line. Failed requests always have one, unless the share is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessShare(u64);

impl AccessShare {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// `None` if it is not above 0 and at most 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share")]
    pub(crate) fn of(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self((share * u64::MAX as f64) as u64))
    }

    /// Spread evenly: multiples of the golden ratio stay apart for as long as possible.
    pub(super) fn takes_next(self) -> bool {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        self == Self::ALL || REQUESTS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_requests_is_taken_evenly() {
        let share = AccessShare::of(0.01).unwrap();
        let taken: Vec<usize> = (0..10_000).filter(|_| share.takes_next()).collect();
        assert!((95..=105).contains(&taken.len()), "{}", taken.len());
        let apart = taken.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(apart.clone().min() > Some(30) && apart.max() < Some(300), "{taken:?}");
        assert!((0..100).all(|_| AccessShare::ALL.takes_next() && !AccessShare::NONE.takes_next()));
        assert_eq!(
            (AccessShare::of(1.0), AccessShare::of(0.0), AccessShare::of(1.1)),
            (Some(AccessShare::ALL), None, None)
        );
        assert_eq!(AccessShare::of(f64::NAN), None);
    }
}
