//! One budget of the second and the minute over replicas, by counters that they share.
//!
//! In: how many calls wait, and what a store counted. Out: [`Errand`]s to the store, and leave to call. It knows neither a
//! store nor a task, and never lets a call go that no counter holds, unless the store is down.
//!
//! A whole second of UTC has a counter. A replica claims places in it by adding to it; what fits with the second before
//! into `per_second`, and with the sixty before into `per_minute`, is its lease. A leased call goes within the first
//! [`EARLY`] of its second, so that it arrives at Upwork before the second is over: then any sliding second sees two
//! counters at the most, and any sliding minute 61. Later in a second a call is claimed in this one and the next, since it
//! may arrive in either. For that, clocks of replicas must agree to 100 ms, and the way to Upwork take half a second or
//! less. A claim that was too much stays counted, which is safe; so does a call that was leased and never made.
//!
//! At the beginning of a second each replica claims its fair share only, after [`FAIR`] whatever others left. While the
//! store is down, each keeps to an equal part of the budget by itself, and tells of those calls when the store is back; for
//! a minute from then on it keeps to its part and claims, since others may not have told yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;

/// Until then a call of a second may go: another half a second for the way, and a tenth between clocks.
const EARLY: Duration = Duration::from_millis(400);
/// Until then a replica claims no more than its part.
const FAIR: Duration = Duration::from_millis(150);
/// A claim is answered sooner than this, as a rule.
const SOON: Duration = Duration::from_millis(50);
/// Seconds beside its own that a sliding minute can touch.
const MINUTE: i64 = 60;
/// Seconds by which what others take is judged.
const LATELY: i64 = 10;
/// Seconds in which every replica is counted once.
const ROLL_CALL: i64 = 10;
/// Counters are forgotten after this.
const KEPT: Duration = Duration::from_mins(2);
/// After the store is back: a minute, and what others need to notice.
const RETURN: Duration = Duration::from_secs(70);
/// Replicas there are, where none has been counted.
const GUESS: u64 = 3;

/// What is to be added to the store's counters, each in turn; the sums go to [`Share::told`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Errand {
    /// Counters, and by how much.
    pub(super) adds: Vec<(String, u64)>,
    /// When they may be forgotten.
    pub(super) expires_at: Timestamp,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// How many replicas there are.
    RollCall(i64),
    /// What a second that is over has come to.
    Read(i64),
    /// Places in a second.
    Claim { second: i64, calls: u64, late: bool },
}

/// Leave to make some calls soon.
#[derive(Debug, Default)]
struct Lease {
    left: u64,
    until: Option<Timestamp>,
}

impl Lease {
    fn left(&self, now: Timestamp) -> u64 {
        if self.until.is_some_and(|until| now < until) { self.left } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct Share {
    per_second: u64,
    per_minute: u64,
    /// What the store counted.
    totals: BTreeMap<i64, u64>,
    /// What of it was leased here.
    own: BTreeMap<i64, u64>,
    /// Calls made here that the store has not heard of.
    owed: BTreeMap<i64, u64>,
    /// Up to this second everything has been read for good.
    read_to: i64,
    lease: Lease,
    replicas: u64,
    counted: Option<i64>,
    alone: bool,
    /// Until then this replica keeps to its part, although it claims.
    careful_until: Option<Timestamp>,
    /// No errand before; after a failure.
    quiet_until: Option<Timestamp>,
}

impl Share {
    pub(super) fn new(per_second: u32, per_minute: u32) -> Self {
        Self {
            per_second: u64::from(per_second.max(1)),
            per_minute: u64::from(per_minute.max(1)),
            totals: BTreeMap::new(),
            own: BTreeMap::new(),
            owed: BTreeMap::new(),
            read_to: i64::MIN,
            lease: Lease::default(),
            replicas: GUESS,
            counted: None,
            alone: false,
            careful_until: None,
            quiet_until: None,
        }
    }

    /// Whether the store is down, and each replica by itself.
    pub(super) fn alone(&self) -> bool {
        self.alone
    }

    /// Whether it keeps to its part, be it alone or lately so.
    pub(super) fn careful(&self, now: Timestamp) -> bool {
        self.alone || self.careful_until.is_some_and(|until| now < until)
    }

    /// This replica's part of what all have used in the last minute: moments, and how many calls. Where a second's sum is
    /// not known for good, it is taken for as much as it could be.
    pub(super) fn part_used(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, u64)> {
        let second = second_of(now);
        let (mut before, mut sum, mut told) = (0, 0, 0);
        (second - MINUTE..=second).map(move |second| {
            let most = if second > self.read_to { self.per_second.saturating_sub(before) } else { 0 };
            before = self.used(second).max(most);
            sum += before;
            let part = sum.div_ceil(self.replicas) - told;
            told += part;
            (Timestamp::from_seconds(second + 1), part)
        })
    }

    /// Calls a second and a minute for a replica that is by itself.
    pub(super) fn part(&self) -> (u32, u32) {
        let part = |whole: u64| u32::try_from(whole / self.replicas).unwrap_or(u32::MAX).max(1);
        (part(self.per_second), part(self.per_minute))
    }

    /// A call goes now.
    pub(super) fn take(&mut self, now: Timestamp) {
        if self.alone {
            *self.owed.entry(second_of(now)).or_default() += 1;
        } else {
            self.lease.left = self.lease.left.saturating_sub(1);
        }
    }

    fn used(&self, second: i64) -> u64 {
        self.totals.get(&second).map_or(0, |total| (*total).min(self.per_second))
    }

    fn used_in(&self, from: i64, to: i64) -> u64 {
        self.totals.range(from..=to).map(|(_, total)| (*total).min(self.per_second)).sum()
    }

    /// How many may go in this second that are not counted yet; `late` in a second: in this and the next.
    fn room(&self, second: i64, late: bool) -> u64 {
        let free = |limit: u64, used: u64| limit.saturating_sub(used);
        let at_once = free(self.per_second, self.used_in(second - 1, second));
        let room = at_once.min(free(self.per_minute, self.used_in(second - MINUTE, second)));
        if !late {
            return room;
        }
        let twice = free(self.per_second, self.used_in(second, second + 1));
        room.min(twice.min(free(self.per_minute, self.used_in(second - MINUTE, second + 1))) / 2)
    }

    /// How many may be claimed at this moment.
    fn claimable(&self, now: Timestamp) -> u64 {
        let (second, into) = split(now);
        let room = self.room(second, into >= EARLY);
        if into >= FAIR {
            return room;
        }
        let mine = self.own.get(&second).copied().unwrap_or(0);
        room.min((room + mine).div_ceil(self.replicas).saturating_sub(mine))
    }

    /// The next thing to ask the store, where `waiting` calls could go if they had leave.
    pub(super) fn errand(&mut self, now: Timestamp, waiting: u64) -> Option<Errand> {
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let (second, into) = split(now);
        let errand = |adds: Vec<(String, u64)>, what| Some(Errand { adds, expires_at: now.plus(KEPT), what });
        let round = second.div_euclid(ROLL_CALL);
        if self.counted != Some(round) {
            let adds = vec![(format!("pacers-{round}"), 1), (format!("pacers-{}", round - 1), 0)];
            return errand(adds, What::RollCall(round));
        }
        let unread = self.read_to.saturating_add(1).max(second - MINUTE);
        if unread < second {
            let owed = self.owed.get(&unread).copied().unwrap_or(0);
            return errand(vec![(counter(unread), owed)], What::Read(unread));
        }
        let calls = waiting.saturating_sub(self.lease.left(now)).min(self.claimable(now));
        if calls == 0 || self.alone {
            return None;
        }
        let late = into >= EARLY;
        let adds = (second..=second + i64::from(late)).map(|second| (counter(second), calls)).collect();
        errand(adds, What::Claim { second, calls, late })
    }

    /// When there may be a next errand, if nothing changes before.
    pub(super) fn next_errand(&self, now: Timestamp, waiting: bool) -> Timestamp {
        let (second, into) = split(now);
        let phases = [FAIR, EARLY, Duration::from_secs(1)];
        let next = phases.into_iter().find(|phase| waiting && into < *phase).unwrap_or(Duration::from_secs(1));
        Timestamp::from_seconds(second).plus(next).max(self.quiet_until.unwrap_or(now))
    }

    /// What the store counted, or that it is down. True where a replica is by itself from now on, or no longer.
    pub(super) fn told(&mut self, errand: &Errand, sums: Option<&[u64]>, now: Timestamp) -> bool {
        let before = self.alone;
        if let Some(sums) = sums {
            self.counted(errand.what, sums, now);
        } else {
            self.alone = true;
            self.careful_until = None;
            self.quiet_until = Some(Timestamp::from_seconds(second_of(now) + 1));
        }
        before != self.alone
    }

    fn counted(&mut self, what: What, sums: &[u64], now: Timestamp) {
        let [first, rest @ ..] = sums else { return };
        match what {
            What::RollCall(round) => {
                self.counted = Some(round);
                let seen = (*first).max(rest.first().copied().unwrap_or(0)).max(1);
                // Right after an outage others may not have been counted yet.
                self.replicas = if self.careful(now) { seen.max(self.replicas) } else { seen };
            }
            What::Read(second) => {
                self.totals.insert(second, *first);
                self.owed.remove(&second);
                self.read_to = second;
                // Whoever has been by itself is together again when it knows the whole minute.
                if self.alone && second >= second_of(now) - 1 {
                    self.alone = false;
                    self.careful_until = Some(now.plus(RETURN));
                }
                self.forget(second - 2 * MINUTE);
            }
            What::Claim { second, calls, late } => self.leased(second, calls, (late, now), sums),
        }
    }

    fn leased(&mut self, second: i64, calls: u64, (late, now): (bool, Timestamp), sums: &[u64]) {
        let seconds = || (second..).zip(sums);
        for (second, sum) in seconds() {
            self.totals.insert(second, sum.saturating_sub(calls));
        }
        let granted = calls.min(self.room(second, late));
        for (second, sum) in seconds() {
            self.totals.insert(second, *sum);
            *self.own.entry(second).or_default() += granted;
        }
        let until = Timestamp::from_seconds(second + i64::from(late)).plus(EARLY);
        // Where a part of an earlier lease is left, all of it ends with the sooner one.
        let before = self.lease.left(now);
        let sooner = self.lease.until.filter(|_| before > 0).map_or(until, |earlier| earlier.min(until));
        self.lease = Lease { left: before + granted, until: Some(sooner) };
    }

    fn forget(&mut self, before: i64) {
        for counts in [&mut self.totals, &mut self.own, &mut self.owed] {
            counts.retain(|second, _| *second >= before);
        }
    }

    /// What others take in two seconds, by what they took lately; never more than their part.
    fn others(&self, second: i64) -> u64 {
        let lately = second - LATELY..second;
        let own: u64 = lately.clone().filter_map(|second| self.own.get(&second)).sum();
        let others = self.used_in(lately.start, second - 1).saturating_sub(own);
        (others * 2 / LATELY.unsigned_abs()).min(self.per_second * (self.replicas - 1) / self.replicas)
    }

    /// When a call with `ahead` others before it is likely to go, at `now` at the earliest.
    pub(super) fn forecast(&self, now: Timestamp, ahead: u64) -> Timestamp {
        let leased = self.lease.left(now);
        if ahead < leased {
            return now;
        }
        let (second, into) = split(now);
        let room = self.room(second, into >= EARLY);
        let mut ahead = ahead - leased;
        if ahead < room {
            return now.plus(SOON);
        }
        ahead -= room;
        let mut minute: VecDeque<u64> = (second - MINUTE + 1..=second).map(|second| self.used(second)).collect();
        let mut last = self.used(second) + room;
        let mut used = minute.iter().sum::<u64>() + room;
        let ours = self.per_second - self.others(second).min(self.per_second - 1);
        for next in second + 1.. {
            let free = self.per_second.saturating_sub(last).min(self.per_minute.saturating_sub(used));
            let part = (free.saturating_sub(self.used(next)) * ours).div_ceil(self.per_second);
            if ahead < part {
                return Timestamp::from_seconds(next);
            }
            ahead -= part;
            minute.push_back(free);
            used = (used + free).saturating_sub(minute.pop_front().unwrap_or(0));
            last = free;
        }
        now
    }
}

fn second_of(now: Timestamp) -> i64 {
    now.seconds()
}

/// The second, and how far into it.
fn split(now: Timestamp) -> (i64, Duration) {
    let second = second_of(now);
    (second, now.since(Timestamp::from_seconds(second)))
}

fn counter(second: i64) -> String {
    format!("pace-{second}")
}
