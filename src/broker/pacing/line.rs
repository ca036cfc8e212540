//! Who waits, and who is next: a line for each caller, served one call each in turn.
//!
//! In: waiting calls. Out: the next one, and how many go before a call that would come now. A caller gains nothing by
//! asking more often: whoever has a thousand calls waiting is served as often as whoever has one.

use std::collections::{HashMap, VecDeque};

use super::CallerId;
use crate::clock::Timestamp;

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Its number.
    pub(super) id: u64,
    /// When it came.
    pub(super) since: Timestamp,
    /// When it has waited long enough.
    pub(super) until: Timestamp,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    lines: HashMap<CallerId, VecDeque<Waiting>>,
    /// Callers with a line, the next one first.
    order: VecDeque<CallerId>,
    count: usize,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many calls of this caller wait.
    pub(super) fn of(&self, caller: &CallerId) -> usize {
        self.lines.get(caller).map_or(0, VecDeque::len)
    }

    /// How many calls would go before a new one of this caller, if no other came.
    pub(super) fn ahead_of(&self, caller: &CallerId) -> u64 {
        let own = self.of(caller);
        let mut passed = false;
        let mut ahead = own;
        for other in &self.order {
            if other == caller {
                passed = true;
            } else {
                ahead += self.of(other).min(if passed { own } else { own + 1 });
            }
        }
        ahead as u64
    }

    pub(super) fn push(&mut self, caller: CallerId, waiting: Waiting) {
        let line = self.lines.entry(caller.clone()).or_default();
        if line.is_empty() {
            self.order.push_back(caller);
        }
        line.push_back(waiting);
        self.count += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let caller = self.order.pop_front()?;
        let line = self.lines.get_mut(&caller)?;
        let waiting = line.pop_front()?;
        self.count -= 1;
        if line.is_empty() {
            self.lines.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        Some(waiting)
    }

    /// Takes out one call that gave up.
    pub(super) fn remove(&mut self, caller: &CallerId, id: u64) {
        self.retain(caller, |waiting| waiting.id != id);
    }

    /// Takes out every call that has to be let go before `moment`.
    pub(super) fn remove_due_before(&mut self, moment: Timestamp) -> Vec<(CallerId, Vec<Waiting>)> {
        let callers: Vec<CallerId> = self.order.iter().cloned().collect();
        let due = callers.into_iter().map(|caller| {
            let late = self.retain(&caller, |waiting| waiting.until >= moment);
            (caller, late)
        });
        due.filter(|(_, late)| !late.is_empty()).collect()
    }

    fn retain(&mut self, caller: &CallerId, keep: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let Some(line) = self.lines.get_mut(caller) else { return Vec::new() };
        let gone: Vec<Waiting> = line.iter().filter(|waiting| !keep(waiting)).copied().collect();
        if gone.is_empty() {
            return gone;
        }
        line.retain(keep);
        self.count -= gone.len();
        if line.is_empty() {
            self.lines.remove(caller);
            self.order.retain(|other| other != caller);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: u64) -> Waiting {
        let moment = i64::try_from(id).unwrap();
        Waiting { id, since: Timestamp::from_millis(0), until: Timestamp::from_millis(moment) }
    }

    fn line(calls: &[(&str, u64)]) -> Line {
        let mut line = Line::default();
        for (caller, id) in calls {
            line.push(CallerId::user(caller), waiting(*id));
        }
        line
    }

    fn rest(mut line: Line) -> Vec<u64> {
        std::iter::from_fn(|| line.pop()).map(|waiting| waiting.id).collect()
    }

    const CALLS: [(&str, u64); 6] = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6)];

    #[test]
    fn callers_are_served_in_turn_and_each_in_the_order_of_its_calls() {
        assert_eq!(rest(line(&CALLS)), [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn what_goes_before_a_new_call_is_known_exactly() {
        for served in 0..CALLS.len() {
            for caller in ["a", "b", "c", "d"] {
                let mut line = line(&CALLS);
                for _ in 0..served {
                    line.pop();
                }
                let ahead = line.ahead_of(&CallerId::user(caller));
                line.push(CallerId::user(caller), waiting(99));
                let place = rest(line).iter().position(|id| *id == 99);
                assert_eq!(place, usize::try_from(ahead).ok(), "{caller} after {served}");
            }
        }
    }

    #[test]
    fn a_call_that_gave_up_leaves_no_gap() {
        let mut line = line(&CALLS);
        line.remove(&CallerId::user("b"), 4);
        line.remove(&CallerId::user("a"), 2);
        line.remove(&CallerId::user("a"), 77);
        assert_eq!(line.len(), 4);
        assert_eq!(rest(line), [1, 5, 3, 6]);
    }

    #[test]
    fn calls_that_are_out_of_time_are_taken_out_together() {
        let mut line = line(&CALLS);
        let late = line.remove_due_before(Timestamp::from_millis(5));
        let ids: Vec<u64> = late.iter().flat_map(|(_, calls)| calls.iter().map(|call| call.id)).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
        assert_eq!(rest(line), [5, 6]);
    }
}
