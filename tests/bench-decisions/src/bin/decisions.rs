//! How well the planner decides, over a simulated day: `decisions [--svg FILE] [--policy FILE] [--only NAME] [NODES…]`. The
//! default is the default policy, everybody, and 10, 100 and 1,000 nodes. Several seeds each, added up. Then what each move was worth, and small clusters against the exact optimum.

use anyhow::{Context, Result};
use fog_bench_decisions::balancer::Balancer;
use fog_bench_decisions::day::{Day, MINUTES, Outcome};
use fog_bench_decisions::exact::{Left, optimum, planned, small};
use fog_bench_decisions::plot::{Panel, Series, svg};
use fog_core::Policy;

/// At most so many seeds, and so many simulated nodes.
const MOST: (u64, usize) = (30, 3000);
/// What each move was worth is asked on so many nodes, over so many days.
const ASKED: (usize, u64) = (100, 10);
const HOURS: usize = 4;
const SMALL_CASES: u64 = 300;
const HEAD: &str = "\
# How well the planner decides

Simulated days added up, each with its own seed: twelve containers a node with daily curves, bursts, heavy tails and failing
nodes; the same wishes whoever decides. *Overload-minutes* are minutes in which a node is at 80 % CPU or above; a ping-pong
is a return within an hour. The others follow their published rules as far as there are any (`src/balancer.rs`); their
moves at once are limited as Fogshift's are (4, or one for 25 nodes). *Fogshift* is the default policy; with `mode =
\"balance\"` it also evens out what is not overloaded, which takes more moves for less overload.

Made by `make bench-decisions`.

![Overload-minutes against moves](decisions.svg)
";

fn main() -> Result<()> {
    let mut sizes: Vec<usize> = Vec::new();
    let (mut file, mut default, mut only) = (None, Policy::default(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--svg" => file = Some(arguments.next().context("--svg needs a file")?),
            "--policy" => {
                let file = arguments.next().context("--policy needs a file")?;
                default = Policy::parse(&std::fs::read_to_string(&file)?, &file)?;
            }
            "--only" => only = Some(arguments.next().context("--only needs a name of the table's")?),
            size => sizes.push(size.parse().with_context(|| format!("{size:?} is no number of nodes"))?),
        }
    }
    if sizes.is_empty() {
        sizes = vec![10, 100, 1000];
    }
    println!("{HEAD}");
    println!(
        "| nodes | days | who decides | overload-minutes | starved core-minutes | moves | GB moved | downtime s | ping-pongs |"
    );
    println!("|---:|---:|---|---:|---:|---:|---:|---:|---:|");
    let mut panels = Vec::new();
    for nodes in sizes {
        let days = u64::try_from(MOST.1 / nodes.max(1))?.clamp(1, MOST.0);
        let mut series = Vec::new();
        for balancer in Balancer::ALL.into_iter().filter(|one| only.as_ref().is_none_or(|only| one.name() == only)) {
            let mut sum = Outcome::default();
            for seed in 1..=days {
                let one = day(nodes, seed, balancer, &default)?;
                sum.overload_minutes += one.overload_minutes;
                sum.starved_core_minutes += one.starved_core_minutes;
                sum.moves += one.moves;
                sum.bytes += one.bytes;
                sum.downtime_s += one.downtime_s;
                sum.ping_pongs += one.ping_pongs;
            }
            println!(
                "| {nodes} | {days} | {} | {} | {:.0} | {} | {:.1} | {:.0} | {} |",
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
        let title = format!("{nodes} nodes, {days} days");
        panels.push(Panel { title, x: "moves", y: "overload-minutes", series });
    }
    if let Some(file) = file {
        std::fs::write(&file, svg(&panels)).with_context(|| format!("cannot write {file}"))?;
    }
    if only.is_some() {
        return Ok(());
    }
    what_moves_were_worth(&default)?;
    against_the_optimum(&default)
}

fn policy(nodes: usize, default: &Policy) -> Result<Policy> {
    let mut policy = default.clone();
    policy.sampling.interval_s = 60.0;
    policy.concurrency.cluster = u32::try_from(nodes / 25)?.max(4);
    Ok(policy)
}

fn day(nodes: usize, seed: u64, balancer: Balancer, default: &Policy) -> Result<Outcome> {
    let policy = policy(nodes, default)?;
    let mut day = Day::new(nodes, seed)?;
    for minute in 0..MINUTES {
        day.tick();
        let moves = balancer.decide(&day, minute, &policy);
        day.carry_out(&moves);
    }
    Ok(day.result)
}

/// Sorts every move by the overload-minutes that the cluster has without it and does not have with it.
fn what_moves_were_worth(default: &Policy) -> Result<()> {
    let (nodes, days) = ASKED;
    println!("\n## What each move was worth\n");
    println!(
        "{nodes} nodes, {days} days: every move by the overload-minutes that the cluster is spared within {HOURS} hours by it alone,"
    );
    println!("all other places as they are at that moment.\n");
    println!("| who decides | moves | worse | none | 1 to 10 | 11 to 60 | more | spared by a move, on average |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let policy = policy(nodes, default)?;
    for balancer in [Balancer::Drs, Balancer::Fogshift, Balancer::FogshiftBalance] {
        let (mut classes, mut count, mut sum) = ([0u64; 5], 0u64, 0i64);
        for seed in 1..=days {
            let mut day = Day::new(nodes, seed)?;
            for minute in 0..MINUTES {
                day.tick();
                let moves = balancer.decide(&day, minute, &policy);
                for spared in day.spared(&moves, (HOURS * 60).min(MINUTES - minute - 1)) {
                    let class = match spared {
                        ..=-1 => 0,
                        0 => 1,
                        1..=10 => 2,
                        11..=60 => 3,
                        _ => 4,
                    };
                    (classes[class], count, sum) = (classes[class] + 1, count + 1, sum + spared);
                }
                day.carry_out(&moves);
            }
        }
        let [worse, none, few, some, more] = classes;
        let mean = sum as f64 / count.max(1) as f64;
        println!("| {} | {count} | {worse} | {none} | {few} | {some} | {more} | {mean:.0} |", balancer.name());
    }
    Ok(())
}

fn against_the_optimum(default: &Policy) -> Result<()> {
    let mut policy = default.clone();
    (policy.concurrency.per_node, policy.concurrency.cluster) = (100, 100);
    let (mut ours, mut best) = (Vec::<Left>::new(), Vec::<Left>::new());
    for seed in 0..SMALL_CASES {
        let snapshot = small(seed)?;
        let Some(left) = planned(&snapshot, &policy) else {
            anyhow::bail!("seed {seed}: the plan breaks a rule of the policy")
        };
        ours.push(left);
        best.push(optimum(&snapshot, &policy));
    }
    let above = |all: &[Left]| all.iter().map(|left| left.above_millicores).sum::<u64>() as f64 / 1000.0;
    let same: Vec<usize> =
        (0..ours.len()).filter(|at| ours[*at].above_millicores == best[*at].above_millicores).collect();
    let moves = |all: &[Left]| same.iter().map(|at| all[*at].moves).sum::<usize>();
    println!("\n## Against the exact optimum\n");
    println!(
        "{SMALL_CASES} clusters of three to five nodes with six to nine workloads; the optimum is found by trying every set of"
    );
    println!(
        "moves that the policy allows (room and reserve, least gain, cost, downtime, only off overloaded nodes), in every order."
    );
    println!("Least overload counts first, then the number of moves.\n");
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
