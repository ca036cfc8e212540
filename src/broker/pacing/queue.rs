//! A fair queue: calls wait in one queue for each caller, and callers are served in turn.
//!
//! Returns the next call, and how many calls go before a new one. A caller gains nothing by asking more often: one with a
//! thousand waiting calls is served as often as one with a single call.

use std::collections::{HashMap, VecDeque};

use super::limits::CallerId;
use crate::clock::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuedCall {
    pub(super) id: u64,
    pub(super) since: Timestamp,
    /// When it has waited long enough.
    pub(super) until: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct FairQueue {
    calls: HashMap<CallerId, VecDeque<QueuedCall>>,
    /// Callers with waiting calls, the next one first.
    order: VecDeque<CallerId>,
    count: usize,
}

impl FairQueue {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many calls of this caller wait.
    pub(super) fn len_of(&self, caller: &CallerId) -> usize {
        self.calls.get(caller).map_or(0, VecDeque::len)
    }

    /// How many calls would go before a new one of this caller, if no other came.
    pub(super) fn ahead_of(&self, caller: &CallerId) -> u64 {
        let own = self.len_of(caller);
        let mut passed = false;
        let mut ahead = own;
        for other in &self.order {
            if other == caller {
                passed = true;
            } else {
                ahead += self.len_of(other).min(if passed { own } else { own + 1 });
            }
        }
        ahead as u64
    }

    pub(super) fn push(&mut self, caller: CallerId, call: QueuedCall) {
        let calls = self.calls.entry(caller.clone()).or_default();
        if calls.is_empty() {
            self.order.push_back(caller);
        }
        calls.push_back(call);
        self.count += 1;
    }

    pub(super) fn pop(&mut self) -> Option<QueuedCall> {
        let caller = self.order.pop_front()?;
        let calls = self.calls.get_mut(&caller)?;
        let call = calls.pop_front()?;
        self.count -= 1;
        if calls.is_empty() {
            self.calls.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        Some(call)
    }

    pub(super) fn remove(&mut self, caller: &CallerId, id: u64) {
        self.retain(caller, |call| call.id != id);
    }

    /// Removes every call that cannot wait until `moment`.
    pub(super) fn remove_due_before(&mut self, moment: Timestamp) -> Vec<(CallerId, Vec<QueuedCall>)> {
        let callers: Vec<CallerId> = self.order.iter().cloned().collect();
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
        self.count -= removed.len();
        if calls.is_empty() {
            self.calls.remove(caller);
            self.order.retain(|other| other != caller);
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
        std::iter::from_fn(|| queue.pop()).map(|call| call.id).collect()
    }

    const CALLS: [(&str, u64); 6] = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)];

    #[test]
    fn callers_are_served_in_turn_and_each_in_the_order_of_its_calls() {
        assert_eq!(rest(queue(&CALLS)), [1, 4, 5, 2, 6, 3]);
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
