//! How well the planner decides, over a simulated day: `decisions [--svg FILE] [NODES…]`. The default is 10, 100 and 1,000
//! nodes. Three seeds each, added up. Then small clusters against the exact optimum.

use anyhow::{Context, Result};
use fog_bench_decisions::balancer::Balancer;
use fog_bench_decisions::day::{Day, MINUTES, Outcome};
use fog_bench_decisions::exact::{Left, optimum, planned, small};
use fog_bench_decisions::plot::{Panel, Series, svg};
use fog_core::Policy;

const SEEDS: u64 = 3;
const SMALL_CASES: u64 = 300;
const HEAD: &str = "\
# How well the planner decides

Three simulated days added up (seeds 1 to 3): twelve containers a node with daily curves, bursts, heavy tails and failing
nodes; the same wishes whoever decides. *Overload-minutes* are minutes in which a node is at 80 % CPU or above; a ping-pong
is a return within an hour. The others follow their published rules as far as there are any (`src/balancer.rs`); their
moves at once are limited as Fogshift's are (4, or one for 25 nodes). *Fogshift* is the default policy; with `mode =
\"balance\"` it also evens out what is not overloaded, which takes more moves for less overload.

Made by `make bench-decisions`.

![Overload-minutes against moves](decisions.svg)
";

fn main() -> Result<()> {
    let mut sizes: Vec<usize> = Vec::new();
    let mut file = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--svg" => file = Some(arguments.next().context("--svg needs a file")?),
            size => sizes.push(size.parse().with_context(|| format!("{size:?} is no number of nodes"))?),
        }
    }
    if sizes.is_empty() {
        sizes = vec![10, 100, 1000];
    }
    println!("{HEAD}");
    println!(
        "| nodes | who decides | overload-minutes | starved core-minutes | moves | GB moved | downtime s | ping-pongs |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---:|");
    let mut panels = Vec::new();
    for nodes in sizes {
        let mut series = Vec::new();
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
            if balancer != Balancer::None {
                let point = (sum.moves.max(1) as f64, sum.overload_minutes.max(1) as f64);
                series.push(Series { name: balancer.name().to_owned(), points: vec![point], line: false });
            }
        }
        let title = format!("{nodes} nodes, three days");
        panels.push(Panel { title, x: "moves", y: "overload-minutes", series });
    }
    if let Some(file) = file {
        std::fs::write(&file, svg(&panels)).with_context(|| format!("cannot write {file}"))?;
    }
    against_the_optimum()
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

fn against_the_optimum() -> Result<()> {
    let mut policy = Policy::default();
    (policy.concurrency.per_node, policy.concurrency.cluster) = (100, 100);
    let (mut ours, mut best) = (Vec::<Left>::new(), Vec::<Left>::new());
    for seed in 0..SMALL_CASES {
        let snapshot = small(seed)?;
        let Some(left) = planned(&snapshot, &policy) else { anyhow::bail!("seed {seed}: the plan fills a node") };
        ours.push(left);
        best.push(optimum(&snapshot, &policy));
    }
    let above = |all: &[Left]| all.iter().map(|left| left.above_millicores).sum::<u64>() as f64 / 1000.0;
    let same: Vec<usize> =
        (0..ours.len()).filter(|at| ours[*at].above_millicores == best[*at].above_millicores).collect();
    let moves = |all: &[Left]| same.iter().map(|at| all[*at].moves).sum::<usize>();
    println!("\n## Against the exact optimum\n");
    println!(
        "{SMALL_CASES} clusters of three to five nodes with six to nine workloads; the optimum is found by trying every"
    );
    println!(
        "placement, without the planner's other rules (least gain, cost, downtime, nothing moves off a node that is not"
    );
    println!("overloaded).\n");
    println!("| | exact | Fogshift | |");
    println!("|---|---:|---:|---:|");
    let ratio = |a: f64, b: f64| if b > 0.0 { format!("{:+.1} %", (a / b - 1.0) * 100.0) } else { "–".to_owned() };
    println!(
        "| cores above `done` that are left, all cases | {:.2} | {:.2} | {} |",
        above(&best),
        above(&ours),
        ratio(above(&ours), above(&best))
    );
    println!("| cases with as little overload left as possible | {SMALL_CASES} | {} | |", same.len());
    let (a, b) = (moves(&ours), moves(&best));
    println!("| moves in these | {b} | {a} | {} |", ratio(a as f64, b as f64));
    Ok(())
}
