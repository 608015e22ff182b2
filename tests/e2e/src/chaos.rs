//! Faults at random moments of real migrations. After each one everything that died is started again, and then the
//! looper must run exactly once, with no number missing or repeated, and nothing may be left behind.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fog_api::migration::{Migration, Phase};
use fog_lab::{LabConfig, Suite, wait_until};
use serde::Serialize;

use crate::cluster::{Cluster, DEADLINE, leftovers, runs, state};
use crate::looper;

const WORKLOAD: &str = "looper";
/// Within this the fault comes: a move over the slow link takes about as long.
const LATEST_MS: u64 = 3_000;
const SLOW: &str = "60mbit";
const HEAVY_MIB: u32 = 12;

/// What is done to a running migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing: it must be done.
    None,
    /// SIGKILL of the source's agent.
    KillSourceAgent,
    /// SIGKILL of the destination's agent.
    KillDestinationAgent,
    /// SIGKILL of the orchestrator.
    KillOrchestrator,
    /// SIGKILL of everything of ours.
    KillAll,
    /// No packet passes between the two nodes until it is over or something gave up.
    CutNodes,
    /// The source loses its network for a moment.
    CutSource,
    /// A user cancels it.
    Cancel,
}

const FAULTS: [Fault; 8] = [
    Fault::None,
    Fault::KillSourceAgent,
    Fault::KillDestinationAgent,
    Fault::KillOrchestrator,
    Fault::KillAll,
    Fault::CutNodes,
    Fault::CutSource,
    Fault::Cancel,
];

/// Reproducible randomness: splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// How the migrations under each fault ended.
#[derive(Debug, Default, Serialize)]
pub struct Summary(BTreeMap<Fault, BTreeMap<String, u32>>);

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, ends) in &self.0 {
            let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
            writeln!(f, "  {:<22} {}", format!("{fault:?}"), ends.join(", "))?;
        }
        Ok(())
    }
}

/// Moves a looper back and forth `rounds` times under random faults; the same seed gives the same faults and moments.
pub fn run(rounds: u32, seed: u64, say: &mut dyn FnMut(&str)) -> Result<Summary> {
    let mut config = LabConfig::new(&format!("chaos-{}", std::process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        node.suite = Suite::Forky;
    }
    say(&format!("{rounds} migrations with seed {seed}"));
    let cluster = Cluster::up(config, say)?;
    looper::run_heavy(cluster.node("A"), WORKLOAD, HEAVY_MIB)?;
    cluster.wait_known(WORKLOAD, "A")?;
    for node in ["A", "B"] {
        cluster.node(node).limit_rate(Some(SLOW))?;
    }
    let mut random = Random(seed);
    let mut summary = Summary::default();
    let mut home = "A";
    for round in 1..=rounds {
        let fault = FAULTS[usize::try_from(random.below(FAULTS.len() as u64))?];
        let after = Duration::from_millis(random.below(LATEST_MS));
        let away = if home == "A" { "B" } else { "A" };
        let end = one(&cluster, home, away, fault, after)
            .with_context(|| format!("round {round}, seed {seed}: {fault:?} after {after:?}, {home} → {away}"))?;
        say(&format!("{round:>4}  {home} → {away}  {fault:?} after {} ms: {}", after.as_millis(), end.phase));
        *summary.0.entry(fault).or_default().entry(end.phase.to_string()).or_default() += 1;
        if end.phase == Phase::Done {
            home = away;
        }
    }
    Ok(summary)
}

fn one(cluster: &Cluster, home: &str, away: &str, fault: Fault, after: Duration) -> Result<Migration> {
    let lab = cluster.lab();
    let before = looper::numbers(cluster.node(home), WORKLOAD)?.len();
    let id = cluster.begin(WORKLOAD, away)?.id;
    sleep(after); // the moment of the fault is what is random here
    match fault {
        Fault::None => {}
        Fault::KillSourceAgent => lab.kill_agent(home)?,
        Fault::KillDestinationAgent => lab.kill_agent(away)?,
        Fault::KillOrchestrator => lab.kill_orchestrator()?,
        Fault::KillAll => {
            lab.kill_orchestrator()?;
            lab.kill_agent(home)?;
            lab.kill_agent(away)?;
        }
        Fault::CutNodes => lab.cut_between(home, away)?,
        Fault::CutSource => lab.cut(home)?,
        // It may be too late for that, which is an answer too.
        Fault::Cancel => drop(cluster.ask(|client| async move { client.cancel(id).await })),
    }
    if fault == Fault::CutSource {
        lab.heal(home)?;
    }
    lab.start_orchestrator()?;
    lab.start_agent(home)?;
    lab.start_agent(away)?;
    let migration = cluster.over(id)?;
    lab.heal_between(home, away)?;
    ensure!(matches!(migration.phase, Phase::Done | Phase::RolledBack), "it ended {migration:?}");
    ensure!(fault != Fault::None || migration.phase == Phase::Done, "nothing was done to it: {migration:?}");
    let (here, gone) = if migration.phase == Phase::Done { (away, home) } else { (home, away) };
    check(cluster, here, gone, before)?;
    Ok(migration)
}

fn check(cluster: &Cluster, here: &str, gone: &str, before: usize) -> Result<()> {
    ensure!(runs(cluster.node(here), WORKLOAD)?, "it does not run on {here}");
    let clean = wait_until(DEADLINE, "nothing to be left behind", || {
        let left = [leftovers(cluster.node(here))?, leftovers(cluster.node(gone))?].concat();
        Ok((left.is_empty() && state(cluster.node(gone), WORKLOAD)?.is_none()).then_some(()))
    });
    clean.with_context(|| {
        let left = [here, gone].map(|node| leftovers(cluster.node(node)).unwrap_or_default());
        format!(
            "left behind on {here} and {gone}: {left:?}; on {gone} Docker says {:?}",
            state(cluster.node(gone), WORKLOAD)
        )
    })?;
    let numbers = wait_until(DEADLINE, "the looper to count on", || {
        Ok(Some(looper::numbers(cluster.node(here), WORKLOAD)?).filter(|numbers| numbers.len() > before + 1))
    })?;
    looper::check_consecutive(&numbers)?;
    cluster.wait_active()?;
    cluster.wait_known(WORKLOAD, here)
}
