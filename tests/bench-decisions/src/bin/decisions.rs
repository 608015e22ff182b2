//! How well the planner decides, over a simulated day: `cargo run --release -p fog-bench-decisions --bin decisions`.
//! Sizes may be given as arguments; the default is 10, 100 and 1,000 nodes. Three seeds each, added up.

use anyhow::Result;
use fog_bench_decisions::balancer::Balancer;
use fog_bench_decisions::day::{Day, MINUTES, Outcome};
use fog_core::Policy;

const SEEDS: u64 = 3;

fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let sizes = if given.is_empty() { vec![10, 100, 1000] } else { given };
    println!(
        "| nodes | who decides | overload-minutes | starved core-minutes | moves | GB moved | downtime s | ping-pongs |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---:|");
    for nodes in sizes {
        for balancer in Balancer::ALL {
            let mut sum = Outcome::default();
            for seed in 1..=SEEDS {
                let one = day(nodes, seed, balancer)?;
                sum.overload_minutes += one.overload_minutes;
                sum.starved_core_minutes += one.starved_core_minutes;
                sum.moves += one.moves;
                sum.bytes += one.bytes;
                sum.downtime_s += one.downtime_s;
                sum.ping_pongs += one.ping_pongs;
            }
            println!(
                "| {nodes} | {} | {} | {:.0} | {} | {:.1} | {:.0} | {} |",
                balancer.name(),
                sum.overload_minutes,
                sum.starved_core_minutes,
                sum.moves,
                sum.bytes as f64 / 1e9,
                sum.downtime_s,
                sum.ping_pongs
            );
        }
    }
    Ok(())
}

fn day(nodes: usize, seed: u64, balancer: Balancer) -> Result<Outcome> {
    let mut policy = Policy::default();
    policy.sampling.interval_s = 60.0;
    policy.concurrency.cluster = u32::try_from(nodes / 25)?.max(4);
    let mut day = Day::new(nodes, seed)?;
    for minute in 0..MINUTES {
        day.tick();
        let moves = balancer.decide(&day, minute, &policy);
        day.carry_out(&moves);
    }
    Ok(day.result)
}
