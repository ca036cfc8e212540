//! A refresh of one session by two replicas that share a store, with upwarden's own times.

mod model;

use std::time::Duration;

use model::{CURRENT, ONCE, OVER, Refresh};
use stateright::{Checker, Model};
use upwarden::testing::oauth::LONGEST;
use upwarden::testing::store::{LEASE, LOCK_WAIT, RENEWAL};

/// The rules as upwarden has them.
fn rules() -> Refresh {
    let leases = |time: Duration| u8::try_from(time.as_millis().div_ceil(LEASE.as_millis())).unwrap();
    Refresh {
        renews: RENEWAL < LEASE,
        answer: leases(LONGEST),
        wait: leases(LOCK_WAIT),
        strict: false,
        faults: 0,
        compares: true,
    }
}

fn explore(rules: Refresh) -> impl Checker<Refresh> {
    rules.checker().threads(2).spawn_bfs().join()
}

#[test]
fn two_faults_lose_no_session() {
    let explored = explore(Refresh { faults: 2, ..rules() });
    explored.assert_properties();
    assert!(explored.unique_state_count() > 100_000, "{}", explored.unique_state_count());
}

#[test]
fn without_a_fault_even_a_strict_server_sees_no_token_twice() {
    explore(Refresh { strict: true, ..rules() }).assert_properties();
}

#[test]
fn a_lease_that_ends_before_the_answer_uses_a_token_twice() {
    let broken = Refresh { renews: false, ..rules() };
    explore(broken.clone()).assert_any_discovery(ONCE);
    explore(Refresh { strict: true, ..broken }).assert_any_discovery(OVER);
}

#[test]
fn a_write_that_does_not_compare_brings_a_replaced_token_back() {
    explore(Refresh { faults: 2, compares: false, ..rules() }).assert_any_discovery(CURRENT);
}
