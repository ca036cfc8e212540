//! The pacing of calls by two replicas that share a store, under Upwork's limits.

mod conformance;
mod model;
mod script;

use model::{Action, Pacing, SECOND, WAY};
use stateright::{Checker, HasDiscoveries, Model};

/// The second: two calls are allowed, and three are made. Time passes by the delay of a call, and by the rest of a
/// second.
fn second(fault: Option<Action>) -> impl Checker<Pacing> {
    explore(Pacing { per_second: 2, per_minute: 60, calls: 3, times: [WAY, 1_020], waits: 3, fault })
}

/// The minute: three calls are allowed, and four are made.
fn minute(fault: Option<Action>) -> impl Checker<Pacing> {
    explore(Pacing { per_second: 2, per_minute: 3, calls: 4, times: [1_020, 30_050], waits: 3, fault })
}

fn explore(model: Pacing) -> impl Checker<Pacing> {
    model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

#[test]
fn no_second_and_no_minute_has_a_call_too_many() {
    second(None).assert_properties();
    minute(None).assert_properties();
}

#[test]
fn a_late_reply_of_the_store_costs_no_call_too_many() {
    second(Some(Action::CallLate(0))).assert_properties();
}

#[test]
fn a_suspended_replica_makes_no_call_too_many() {
    second(Some(Action::Sleep(0))).assert_properties();
}

#[test]
fn a_replica_that_dies_makes_no_call_too_many() {
    second(Some(Action::Kill(0))).assert_properties();
}

#[test]
fn a_clock_that_is_set_back_makes_no_call_too_many() {
    second(Some(Action::Jump(0, -7_000))).assert_properties();
}

/// docs/operations.md "Upwork's rate limits" says so: an outage that only some replicas notice, and a clock set forward.
#[test]
fn what_the_limits_do_not_hold_against_is_found() {
    for fault in [Action::CallLost(0), Action::Down, Action::Jump(0, 7_000)] {
        second(Some(fault)).assert_any_discovery(SECOND);
    }
}
