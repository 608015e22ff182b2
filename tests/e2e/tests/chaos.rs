//! A short run of `make chaos` with a fixed seed.

#![allow(clippy::unwrap_used, reason = "tests")]

#[test]
fn random_faults_lose_nothing_and_double_nothing() {
    let summary = fog_e2e::chaos::run(16, 1, &mut |line| eprintln!("{line}")).unwrap();
    eprintln!("{summary}");
}
