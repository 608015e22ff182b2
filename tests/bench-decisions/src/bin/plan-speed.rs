//! How long the planner thinks: `cargo run --release -p fog-bench-decisions --bin plan-speed`. The processor's time of
//! one thread, so that other work on the machine counts for little; the least of seven runs, because what disturbs a run
//! only makes it longer.

use anyhow::{Context, Result};
use fog_bench_decisions::cluster;
use fog_bench_decisions::plot::{Panel, Series, svg};
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

const HEAD: &str = "\
# How long the planner thinks

Processor time of one thread, the least of seven runs. A *roomy* cluster has one overloaded node in ten, a *full* one also
has no room elsewhere. A cluster of up to 128 nodes is searched at more length. *Moves at once* is the policy's `concurrency.cluster`: 4 is the default, 1000 the highest there is.

Made by `make bench-decisions`.

![Milliseconds against nodes](plan-speed.svg)

| nodes | workloads | cluster | moves at once | planned | stay | ms |
|---:|---:|---|---:|---:|---:|---:|";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = match arguments.next().as_deref() {
        Some("--svg") => Some(arguments.next().context("--svg needs a file")?),
        Some(other) => anyhow::bail!("unknown argument {other:?}: plan-speed [--svg FILE]"),
        None => None,
    };
    println!("{HEAD}");
    let mut series = Vec::new();
    for full in [false, true] {
        for at_once in [4, 1000] {
            let mut points = Vec::new();
            let cluster = if full { "full" } else { "roomy" };
            for (nodes, workloads) in SIZES {
                let mut policy = Policy::default();
                policy.concurrency.cluster = at_once;
                let snapshot = cluster::snapshot(nodes, workloads, full, 1)?;
                let (mut last, mut least) = (None, f64::MAX);
                for _ in 0..RUNS {
                    let began = used_ms();
                    last = Some(plan(&snapshot, &policy, snapshot.at));
                    least = least.min(used_ms() - began);
                }
                let (moves, stay) = last.map_or((0, 0), |plan| (plan.actions.len(), plan.not_moved.len()));
                println!("| {nodes} | {workloads} | {cluster} | {at_once} | {moves} | {stay} | {least:.2} |");
                points.push((workloads as f64, least));
            }
            series.push(Series { name: format!("{cluster}, {at_once} at once"), points, line: true });
        }
    }
    // From where clusters are no longer small: those are searched at more length.
    let slowest = series.last().map(|series| series.points.clone()).unwrap_or_default();
    let large = |point: &&(f64, f64)| point.0 >= SIZES[1].1 as f64;
    let (first, from) = slowest.iter().find(large).copied().unwrap_or((1000.0, 1.0));
    let grows = |n: f64| from * (n * n.ln()) / (first * first.ln());
    let points = slowest.iter().filter(large).map(|(workloads, _)| (*workloads, grows(*workloads))).collect();
    series.push(Series { name: "n log n".to_owned(), points, line: true });
    let panel = Panel { title: "Planning time".to_owned(), x: "workloads", y: "ms", series };
    if let Some(file) = file {
        std::fs::write(&file, svg(&[panel])).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// The processor's time that this thread has had. Not from /proc, which is only as fine as the scheduler's tick: a small
/// cluster would take no time at all.
fn used_ms() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.tv_sec as f64 * 1e3 + used.tv_nsec as f64 / 1e6
}
