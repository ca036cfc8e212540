//! Upwork's rate limits per client address. A refused call does not count.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Timestamp;

/// The API calls that one address may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// In any span of one second.
    pub per_second: usize,
    /// In any span of sixty seconds.
    pub per_minute: usize,
    /// In a UTC day.
    pub per_day: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { per_second: 10, per_minute: 300, per_day: 40_000 }
    }
}

#[derive(Default)]
pub(super) struct Limits(HashMap<IpAddr, CallHistory>);

#[derive(Default)]
struct CallHistory {
    recent: VecDeque<Timestamp>,
    day: i64,
    today: u64,
}

impl Limits {
    pub(super) fn admit(&mut self, address: IpAddr, rates: &Rates, now: Timestamp) -> bool {
        let calls = self.0.entry(address).or_default();
        let day = now.seconds().div_euclid(86_400);
        if calls.day != day {
            (calls.day, calls.today) = (day, 0);
        }
        let minute = Duration::from_mins(1);
        while calls.recent.front().is_some_and(|call| now.since(*call) >= minute) {
            calls.recent.pop_front();
        }
        let second = calls.recent.iter().rev().take_while(|call| now.since(**call) < Duration::from_secs(1)).count();
        let admitted =
            second < rates.per_second && calls.recent.len() < rates.per_minute && calls.today < rates.per_day;
        if admitted {
            calls.recent.push_back(now);
            calls.today += 1;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn the_second_the_minute_and_the_day_are_each_enforced_per_address() {
        let rates = Rates { per_second: 2, per_minute: 3, per_day: 4 };
        let mut limits = Limits::default();
        let mut admit = |address, millis| limits.admit(address, &rates, Timestamp::from_millis(millis));
        assert!(admit(HERE, 0) && admit(HERE, 10));
        assert!(!admit(HERE, 999), "a third in the same second");
        assert!(admit(THERE, 999), "another address");
        assert!(admit(HERE, 1_000));
        assert!(!admit(HERE, 59_999), "a fourth in the same minute");
        assert!(admit(HERE, 60_000));
        assert!(!admit(HERE, 4_000_000), "a fifth on the same day");
        assert!(admit(HERE, 86_400_000), "the next day");
    }
}
