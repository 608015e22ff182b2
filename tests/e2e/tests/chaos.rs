//! `make chaos` with a fixed seed, several oracles at once and every fault in its turn.

#![allow(clippy::unwrap_used, reason = "tests")]

use fog_e2e::chaos::Plan;

#[test]
fn random_faults_lose_nothing_and_double_nothing() {
    let plan = Plan { migrations: 216, seed: 1, labs: 2, oracles: 4, faults: Vec::new() };
    let summary = fog_e2e::chaos::run(&plan, &|line| eprintln!("{line}")).unwrap();
    eprintln!("{summary}");
    assert!(summary.with_a_fault >= 200 && summary.ticks > 200);
}
