//! How long the planner thinks: `cargo run --release -p fog-bench-decisions --bin plan-speed`. The processor's time of
//! one thread (`/proc/thread-self/schedstat`), so that other work on the machine counts for little; the mean
//! of seven runs. `moves` 4 is the default policy's limit of migrations at once, 1000 the highest there is.

use anyhow::{Context, Result};
use fog_bench_decisions::cluster;
use fog_core::{Policy, plan};

const RUNS: u32 = 7;

const SIZES: [(usize, usize); 8] = [
    (100, 1_000),
    (200, 2_000),
    (500, 5_000),
    (1_000, 10_000),
    (1_000, 30_000),
    (2_000, 60_000),
    (3_500, 105_000),
    (5_000, 150_000),
];

fn main() -> Result<()> {
    println!("| nodes | workloads | cluster | moves at once | planned | stay | ms |");
    println!("|---:|---:|---|---:|---:|---:|---:|");
    for full in [false, true] {
        for at_once in [4, 1000] {
            for (nodes, workloads) in SIZES {
                let mut policy = Policy::default();
                policy.concurrency.cluster = at_once;
                let snapshot = cluster::snapshot(nodes, workloads, full, 1)?;
                let mut last = None;
                let began = used_ms()?;
                for _ in 0..RUNS {
                    last = Some(plan(&snapshot, &policy, snapshot.at));
                }
                let each = (used_ms()? - began) / f64::from(RUNS);
                let (moves, stay) = last.map_or((0, 0), |plan| (plan.actions.len(), plan.not_moved.len()));
                let cluster = if full { "full" } else { "roomy" };
                println!("| {nodes} | {workloads} | {cluster} | {at_once} | {moves} | {stay} | {each:.2} |");
            }
        }
    }
    Ok(())
}

/// The processor's time that this thread has had.
fn used_ms() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = stat.split(' ').next().context("an empty schedstat")?.parse()?;
    Ok(nanoseconds / 1e6)
}
