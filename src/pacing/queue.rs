//! A fair queue: calls wait in one queue for each caller, and callers are served in turn. Our own calls, such as those
//! of the token endpoint, have their own lanes, which go first in their turns.
//!
//! Returns the next call, and the number of calls ahead of a new one. A caller with a thousand waiting calls is served
//! as often as one with a single call.

use std::collections::{HashMap, VecDeque};

use super::limits::{CallerId, LANES};
use crate::clock::Timestamp;

/// Which lane goes first, turn by turn, so that none starves: half of the turns are for API calls. A turn that its lane
/// does not need goes to the most urgent call.
const TURNS: [usize; 8] = [0, 2, 1, 2, 0, 2, 3, 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuedCall {
    pub(super) id: u64,
    pub(super) since: Timestamp,
    /// When it stops waiting.
    pub(super) until: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FairQueue {
    calls: HashMap<CallerId, VecDeque<QueuedCall>>,
    /// By lane: callers with waiting calls, the next one first.
    order: [VecDeque<CallerId>; LANES],
    /// By lane: waiting calls.
    counts: [usize; LANES],
    turn: usize,
}

/// The lane of the next call, for these numbers of waiting calls.
fn next_lane(turn: usize, counts: &[usize; LANES]) -> Option<usize> {
    let reserved = TURNS.get(turn % TURNS.len()).copied();
    reserved.into_iter().chain(0..LANES).find(|lane| counts.get(*lane).is_some_and(|count| *count > 0))
}

impl FairQueue {
    pub(super) fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls of this caller wait.
    pub(super) fn len_of(&self, caller: &CallerId) -> usize {
        self.calls.get(caller).map_or(0, VecDeque::len)
    }

    /// Whether any of our own calls waits.
    pub(super) fn has_own(&self) -> bool {
        self.calls.keys().any(|caller| !matches!(caller, CallerId::Service | CallerId::User(_)))
    }

    /// How many calls would go before a new one of this caller, if no others arrived.
    pub(super) fn ahead_of(&self, caller: &CallerId) -> u64 {
        let lane = caller.lane();
        let mut counts = self.counts;
        if let Some(count) = counts.get_mut(lane) {
            *count = self.ahead_in_lane(caller) + 1;
        }
        for ahead in 0.. {
            let Some(next) = next_lane(self.turn + ahead, &counts) else { break };
            if let Some(count) = counts.get_mut(next) {
                *count -= 1;
                if next == lane && *count == 0 {
                    return ahead as u64;
                }
            }
        }
        0
    }

    fn ahead_in_lane(&self, caller: &CallerId) -> usize {
        let own = self.len_of(caller);
        let mut passed = false;
        let mut ahead = own;
        for other in self.order.get(caller.lane()).into_iter().flatten() {
            if other == caller {
                passed = true;
            } else {
                ahead += self.len_of(other).min(if passed { own } else { own + 1 });
            }
        }
        ahead
    }

    pub(super) fn push(&mut self, caller: CallerId, call: QueuedCall) {
        let lane = caller.lane();
        let (Some(order), Some(count)) = (self.order.get_mut(lane), self.counts.get_mut(lane)) else { return };
        let calls = self.calls.entry(caller.clone()).or_default();
        if calls.is_empty() {
            order.push_back(caller);
        }
        calls.push_back(call);
        *count += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(CallerId, QueuedCall)> {
        let lane = next_lane(self.turn, &self.counts)?;
        let (order, count) = (self.order.get_mut(lane)?, self.counts.get_mut(lane)?);
        let caller = order.pop_front()?;
        let calls = self.calls.get_mut(&caller)?;
        let call = calls.pop_front()?;
        self.turn = (self.turn + 1) % TURNS.len();
        *count -= 1;
        if calls.is_empty() {
            self.calls.remove(&caller);
        } else {
            order.push_back(caller.clone());
        }
        Some((caller, call))
    }

    pub(super) fn remove(&mut self, caller: &CallerId, id: u64) {
        self.retain(caller, |call| call.id != id);
    }

    /// Removes every call that cannot wait until `moment`.
    pub(super) fn remove_due_before(&mut self, moment: Timestamp) -> Vec<(CallerId, Vec<QueuedCall>)> {
        let callers: Vec<CallerId> = self.order.iter().flatten().cloned().collect();
        let due = callers.into_iter().map(|caller| {
            let removed = self.retain(&caller, |call| call.until >= moment);
            (caller, removed)
        });
        due.filter(|(_, removed)| !removed.is_empty()).collect()
    }

    fn retain(&mut self, caller: &CallerId, keep: impl Fn(&QueuedCall) -> bool) -> Vec<QueuedCall> {
        let Some(calls) = self.calls.get_mut(caller) else { return Vec::new() };
        let removed: Vec<QueuedCall> = calls.iter().filter(|call| !keep(call)).copied().collect();
        if removed.is_empty() {
            return removed;
        }
        calls.retain(keep);
        if let Some(count) = self.counts.get_mut(caller.lane()) {
            *count -= removed.len();
        }
        if calls.is_empty() {
            self.calls.remove(caller);
            if let Some(order) = self.order.get_mut(caller.lane()) {
                order.retain(|other| other != caller);
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: u64) -> QueuedCall {
        let moment = i64::try_from(id).unwrap();
        QueuedCall { id, since: Timestamp::from_millis(0), until: Timestamp::from_millis(moment) }
    }

    fn queue(calls: &[(&str, u64)]) -> FairQueue {
        let mut queue = FairQueue::default();
        for (caller, id) in calls {
            queue.push(CallerId::user(caller), call(*id));
        }
        queue
    }

    fn rest(mut queue: FairQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|(_, call)| call.id).collect()
    }

    const CALLS: [(&str, u64); 6] = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)];

    #[test]
    fn callers_are_served_in_turn_and_each_in_the_order_of_its_calls() {
        assert_eq!(rest(queue(&CALLS)), [1, 4, 5, 2, 6, 3]);
    }

    fn mixed() -> FairQueue {
        let mut queue = queue(&[("a", 20), ("a", 21), ("a", 22), ("b", 23), ("b", 24)]);
        for (caller, ids) in [(CallerId::Renewal, 30..32), (CallerId::SignIn(None), 10..13), (CallerId::Refresh, 0..4)]
        {
            ids.for_each(|id| queue.push(caller.clone(), call(id)));
        }
        queue
    }

    #[test]
    fn urgent_calls_go_first_and_none_starves() {
        assert_eq!(rest(mixed()), [0, 20, 10, 23, 1, 21, 30, 24, 2, 22, 11, 3, 12, 31]);
        let mut queue = FairQueue::default();
        for (caller, id) in [(CallerId::Renewal, 3), (CallerId::SignIn(None), 2), (CallerId::Refresh, 1)] {
            queue.push(caller, call(id));
        }
        assert_eq!(rest(queue), [1, 2, 3], "no turn is lost on those who do not wait");
    }

    #[test]
    fn one_networks_callbacks_hold_up_no_other_networks_sign_in() {
        let mut queue = FairQueue::default();
        let network = |last| CallerId::SignIn(Some([192, 0, 2, last].into()));
        (0..100).for_each(|id| queue.push(network(1), call(id)));
        queue.push(network(2), call(500));
        assert_eq!(rest(queue)[..3], [0, 500, 1]);
    }

    #[test]
    fn the_calls_ahead_are_known_across_lanes() {
        for served in 0..14 {
            for caller in
                [CallerId::Refresh, CallerId::SignIn(None), CallerId::user("a"), CallerId::user("z"), CallerId::Renewal]
            {
                let mut queue = mixed();
                for _ in 0..served {
                    queue.pop();
                }
                let ahead = queue.ahead_of(&caller);
                queue.push(caller.clone(), call(99));
                let position = rest(queue).iter().position(|id| *id == 99);
                assert_eq!(position, usize::try_from(ahead).ok(), "{caller:?} after {served}");
            }
        }
    }

    #[test]
    fn the_calls_ahead_of_a_new_one_are_known_exactly() {
        for served in 0..CALLS.len() {
            for caller in ["a", "b", "c", "d"] {
                let mut queue = queue(&CALLS);
                for _ in 0..served {
                    queue.pop();
                }
                let ahead = queue.ahead_of(&CallerId::user(caller));
                queue.push(CallerId::user(caller), call(99));
                let position = rest(queue).iter().position(|id| *id == 99);
                assert_eq!(position, usize::try_from(ahead).ok(), "{caller} after {served}");
            }
        }
    }

    #[test]
    fn a_removed_call_leaves_no_gap() {
        let mut queue = queue(&CALLS);
        queue.remove(&CallerId::user("b"), 4);
        queue.remove(&CallerId::user("a"), 2);
        queue.remove(&CallerId::user("a"), 77);
        assert_eq!(queue.len(), 4);
        assert_eq!(rest(queue), [1, 5, 3, 6]);
    }

    #[test]
    fn calls_that_are_out_of_time_are_removed_together() {
        let mut queue = queue(&CALLS);
        let removed = queue.remove_due_before(Timestamp::from_millis(5));
        let ids: Vec<u64> = removed.iter().flat_map(|(_, calls)| calls.iter().map(|call| call.id)).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
        assert_eq!(rest(queue), [5, 6]);
    }
}
