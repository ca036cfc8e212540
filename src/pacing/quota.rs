//! The calls of each UTC day, numbered from 1970-01-01.
//!
//! Counts calls and adopts the store's count, so that the count survives a restart and can be shared. Returns how many
//! calls are left today.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use http::header::HeaderName;

use super::limits::{CallerId, whole_seconds};
use crate::clock::Timestamp;

const DAY: i64 = 86_400_000;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// A day's budget, for the page, the metrics and the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub limit: u64,
    pub remaining: u64,
    /// Until the next UTC midnight.
    pub resets_in: Duration,
}

impl Quota {
    /// `RateLimit-Policy` and `RateLimit` (docs/reference.md "Answers of the API"; draft-ietf-httpapi-ratelimit-headers).
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let [limit, left, seconds] = [self.limit, self.remaining, whole_seconds(self.resets_in)].map(|n| n.to_string());
        // Both consist of digits and punctuation, which are valid in a header.
        let value = |parts: &[&str]| HeaderValue::try_from(parts.concat()).unwrap_or(HeaderValue::from_static(""));
        [(POLICY, value(&["\"day\";q=", &limit, ";w=86400"])), (LEFT, value(&["\"day\";r=", &left, ";t=", &seconds]))]
    }
}

pub(super) fn day_of(moment: Timestamp) -> i64 {
    moment.millis().div_euclid(DAY)
}

pub(super) fn until_midnight(moment: Timestamp) -> Duration {
    let rest = DAY - moment.millis().rem_euclid(DAY);
    Duration::from_millis(u64::try_from(rest).unwrap_or(0))
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    used: u64,
    /// This replica's calls that redeem a code.
    sign_ins: u64,
    /// The part of `used` that the store does not know yet.
    unreported: u64,
}

/// The counts of today and the adjacent days, so that a clock that is set back across midnight finds its count again.
#[derive(Clone, Debug)]
pub(super) struct DailyCounts {
    limit: u64,
    counts: BTreeMap<i64, Count>,
}

impl DailyCounts {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit: u64::from(limit), counts: BTreeMap::new() }
    }

    fn count(&mut self, day: i64) -> &mut Count {
        self.counts.entry(day).or_default()
    }

    pub(super) fn left(&self, day: i64) -> u64 {
        self.limit.saturating_sub(self.counts.get(&day).map_or(0, |count| count.used))
    }

    /// The calls left for this kind of caller. Strangers can invent codes, so sign-ins get at most three quarters of a
    /// day. A twentieth is reserved for our own calls, so that sessions are refreshed, checked and revoked even on the
    /// busiest day.
    pub(super) fn left_for(&self, day: i64, caller: &CallerId) -> u64 {
        let left = self.left(day);
        let shared = left.saturating_sub(self.limit / 20);
        match caller {
            CallerId::Refresh | CallerId::Renewal => left,
            CallerId::Service | CallerId::User(_) => shared,
            CallerId::SignIn(_) => {
                let used = self.counts.get(&day).map_or(0, |count| count.sign_ins);
                shared.min((self.limit - self.limit / 4).saturating_sub(used))
            }
        }
    }

    pub(super) fn count_sign_in(&mut self, day: i64) {
        self.count(day).sign_ins += 1;
    }

    pub(super) fn quota(&self, now: Timestamp) -> Quota {
        Quota { limit: self.limit, remaining: self.left(day_of(now)), resets_in: until_midnight(now) }
    }

    pub(super) fn add(&mut self, day: i64) {
        // A count that could not be reported for two days is useless.
        self.counts.retain(|other, _| other.abs_diff(day) <= 2);
        let count = self.count(day);
        count.used += 1;
        count.unreported += 1;
    }

    pub(super) fn cancel(&mut self, day: i64) {
        let count = self.count(day);
        count.used = count.used.saturating_sub(1);
        // A call that was reported already stays reported: counting one too many is safe.
        count.unreported = count.unreported.saturating_sub(1);
    }

    pub(super) fn take_unreported(&mut self) -> Option<(i64, u64)> {
        let (day, count) = self.counts.iter_mut().find(|(_, count)| count.unreported > 0)?;
        Some((*day, std::mem::take(&mut count.unreported)))
    }

    pub(super) fn put_back(&mut self, day: i64, calls: u64) {
        self.count(day).unreported += calls;
    }

    pub(super) fn set_total(&mut self, day: i64, total: u64) {
        let count = self.count(day);
        count.used = total.saturating_add(count.unreported);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_the_reference() {
        let mut counts = DailyCounts::new(40_000);
        counts.add(0);
        let [policy, left] = counts.quota(Timestamp::from_millis(1)).headers();
        assert_eq!((policy.0.as_str(), policy.1.to_str().unwrap()), ("ratelimit-policy", "\"day\";q=40000;w=86400"));
        assert_eq!((left.0.as_str(), left.1.to_str().unwrap()), ("ratelimit", "\"day\";r=39999;t=86400"));
    }

    #[test]
    fn each_call_is_reported_once_and_other_replicas_calls_count() {
        let mut counts = DailyCounts::new(10);
        counts.add(5);
        counts.add(5);
        assert_eq!(counts.take_unreported(), Some((5, 2)));
        counts.add(5);
        counts.set_total(5, 6);
        assert_eq!(counts.left(5), 3, "six that the store knows, and one that it does not");
        assert_eq!(counts.take_unreported(), Some((5, 1)));
        counts.put_back(5, 1);
        assert_eq!(counts.take_unreported(), Some((5, 1)));
        assert_eq!(counts.take_unreported(), None);
    }

    #[test]
    fn strangers_cannot_use_up_the_day() {
        let mut counts = DailyCounts::new(100);
        let stranger = CallerId::SignIn(None);
        for _ in 0..75 {
            assert!(counts.left_for(0, &stranger) > 0);
            counts.add(0);
            counts.count_sign_in(0);
        }
        let left = [stranger, CallerId::user("a"), CallerId::Service, CallerId::Refresh, CallerId::Renewal];
        assert_eq!(left.map(|caller| counts.left_for(0, &caller)), [0, 20, 20, 25, 25]);
        counts.set_total(0, 20);
        assert_eq!(counts.left_for(0, &CallerId::Service), 0, "the rest is for refreshes and revocations");
        assert_eq!(counts.left_for(1, &CallerId::SignIn(None)), 75);
    }

    #[test]
    fn yesterdays_calls_are_still_reported_after_midnight() {
        let mut counts = DailyCounts::new(10);
        counts.add(5);
        counts.add(6);
        assert_eq!(counts.take_unreported(), Some((5, 1)));
        assert_eq!(counts.take_unreported(), Some((6, 1)));
        assert_eq!((counts.left(5), counts.left(6), counts.left(7)), (9, 9, 10));
    }
}
