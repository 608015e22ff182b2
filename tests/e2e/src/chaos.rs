//! Faults at random moments of real migrations.
//!
//! Several labs of two hosts run beside each other, so that one's time-outs are another's work; in each, several oracles move at
//! once, each with a strategy of its own, and one fault befalls them. Afterwards everything that was broken is mended, and then
//! every oracle must run exactly once, go on with its story as the witness knows it, and leave nothing behind.

mod fault;
mod hosts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fog_api::migration::{Keep, Migration, Phase, ResolveRequest, Strategy};
use fog_lab::{Node, wait_until};
use serde::Serialize;

use crate::cluster::{DEADLINE, leftovers, runs, state};
use crate::oracle;
use crate::random::Random;
pub use fault::Fault;
use hosts::Hosts;

/// Within this the fault comes: moves over the slow link take about as long.
const LATEST_MS: u64 = 2_500;
/// An oracle goes on when it has told so many more ticks.
const GOES_ON: usize = 3;
const STRATEGIES: [Strategy; 4] = [Strategy::StopAndCopy, Strategy::PreCopy, Strategy::PostCopy, Strategy::Hybrid];

/// How much is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Migrations in all, at least.
    pub migrations: u32,
    /// The same seed gives the same faults, moments and strategies.
    pub seed: u64,
    /// Labs beside each other.
    pub labs: u32,
    /// Oracles in each lab.
    pub oracles: u32,
    /// Which faults, each in its turn; every one if empty.
    pub faults: Vec<Fault>,
}

/// Of what, end, count.
type Ends<K> = BTreeMap<K, BTreeMap<String, u32>>;

/// How the migrations under each fault ended.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Migrations in all.
    pub migrations: u32,
    /// Of these, with a fault.
    pub with_a_fault: u32,
    /// Ticks of oracles that were heard and found right.
    pub ticks: usize,
    /// Fault, end, count.
    pub ends: Ends<Fault>,
    /// Strategy, end, count.
    pub strategies: Ends<String>,
}

impl Summary {
    fn count(&mut self, fault: Fault, strategy: Strategy, end: &str) {
        self.migrations += 1;
        self.with_a_fault += u32::from(fault != Fault::None);
        *self.ends.entry(fault).or_default().entry(end.to_owned()).or_default() += 1;
        *self.strategies.entry(strategy.to_string()).or_default().entry(end.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: Summary) {
        self.migrations += other.migrations;
        self.with_a_fault += other.with_a_fault;
        self.ticks += other.ticks;
        add(&mut self.ends, other.ends);
        add(&mut self.strategies, other.strategies);
    }
}

fn add<K: Ord>(into: &mut Ends<K>, from: Ends<K>) {
    for (key, ends) in from {
        let into = into.entry(key).or_default();
        ends.into_iter().for_each(|(end, count)| *into.entry(end).or_default() += count);
    }
}

/// Fault by outcome, strategy by outcome.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes: BTreeSet<&String> =
            self.ends.values().chain(self.strategies.values()).flat_map(BTreeMap::keys).collect();
        let widths: Vec<usize> = outcomes.iter().map(|outcome| outcome.len() + 2).collect();
        write!(f, "{:<24}", "")?;
        outcomes.iter().zip(&widths).try_for_each(|(outcome, width)| write!(f, "{outcome:>width$}"))?;
        writeln!(f)?;
        let faults = self.ends.iter().map(|(fault, ends)| (fault.name(), ends));
        let strategies = self.strategies.iter().map(|(strategy, ends)| (strategy.clone(), ends));
        for (name, ends) in faults.chain(strategies) {
            write!(f, "{name:<24}")?;
            for (outcome, width) in outcomes.iter().zip(&widths) {
                let count = ends.get(*outcome).map_or_else(String::new, u32::to_string);
                write!(f, "{count:>width$}")?;
            }
            writeln!(f)?;
        }
        let Summary { migrations, with_a_fault, ticks, .. } = self;
        writeln!(f, "{migrations} migrations, {with_a_fault} with a fault; {ticks} ticks of oracles heard and right")
    }
}

/// Moves oracles back and forth under random faults.
pub fn run(plan: &Plan, say: &(dyn Fn(&str) + Sync)) -> Result<Summary> {
    let Plan { migrations, seed, labs, oracles, .. } = *plan;
    let rounds = migrations.div_ceil(labs * oracles);
    say(&format!("{labs} labs, {rounds} rounds of {oracles} migrations in each, seed {seed}"));
    let (all, failed) = (Mutex::new(Summary::default()), AtomicBool::new(false));
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let run = |lab: u32| {
            let (all, failed) = (&all, &failed);
            scope.spawn(move || {
                let summary = one_lab(lab, plan, rounds, failed, say);
                if summary.is_err() {
                    failed.store(true, Ordering::SeqCst);
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).add(summary?);
                Ok(())
            })
        };
        let threads: Vec<_> = (0..labs).map(run).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a lab panicked"))))
            .collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn one_lab(lab: u32, plan: &Plan, rounds: u32, failed: &AtomicBool, say: &(dyn Fn(&str) + Sync)) -> Result<Summary> {
    let hosts = Hosts::up(lab, plan.oracles, say)?;
    let mut random = Random::new(plan.seed.wrapping_mul(1000) + u64::from(lab));
    let mut summary = Summary::default();
    let mut homes: Vec<&'static str> = vec!["A"; plan.oracles as usize];
    let all = if plan.faults.is_empty() { Fault::ALL.to_vec() } else { plan.faults.clone() };
    // Every fault has its turn before one comes again; the labs begin with others.
    let mut deck: Vec<Fault> = Vec::new();
    for round in 1..=rounds {
        if failed.load(Ordering::SeqCst) {
            break;
        }
        if deck.is_empty() {
            deck.clone_from(&all);
        }
        let fault = deck.swap_remove(random.below(deck.len() as u64) as usize);
        let after = Duration::from_millis(random.below(LATEST_MS));
        let began = std::time::Instant::now();
        let ends = Round { hosts: &hosts, fault, after, random: &mut random }.run(&mut homes);
        let ends = ends.with_context(|| {
            hosts.keep_logs();
            let Plan { migrations, seed, labs, oracles, .. } = *plan;
            let mut again = format!("make chaos N={migrations} SEED={seed} LABS={labs} ORACLES={oracles}");
            if !plan.faults.is_empty() {
                let faults: Vec<String> = plan.faults.iter().map(|fault| fault.name()).collect();
                again.push_str(&format!(" FAULTS={}", faults.join(",")));
            }
            format!("lab {lab}, round {round}: {} after {after:?}; again: {again}", fault.name())
        })?;
        let shown: Vec<String> = ends.iter().map(|(strategy, end)| format!("{strategy} {end}")).collect();
        say(&format!(
            "{lab}.{round:<3} {} after {} ms: {} ({:.0} s)",
            fault.name(),
            after.as_millis(),
            shown.join(", "),
            began.elapsed().as_secs_f64()
        ));
        ends.iter().for_each(|(strategy, end)| summary.count(fault, *strategy, end));
    }
    summary.ticks = hosts.witness.ticks();
    Ok(summary)
}

struct Round<'a> {
    hosts: &'a Hosts,
    fault: Fault,
    after: Duration,
    random: &'a mut Random,
}

/// An oracle's migration.
pub(crate) struct Moving {
    name: String,
    home: &'static str,
    away: &'static str,
    id: uuid::Uuid,
    strategy: Strategy,
}

fn other(node: &str) -> &'static str {
    if node == "A" { "B" } else { "A" }
}

impl Round<'_> {
    fn run(&mut self, homes: &mut [&'static str]) -> Result<Vec<(Strategy, String)>> {
        let hosts = self.hosts;
        let trouble = fault::Trouble { hosts, fault: self.fault, node: self.random.of(&["A", "B"]) };
        let meddlers = trouble.prepare(self.random)?;
        let mut moves = Vec::new();
        for (name, home) in hosts.names.iter().zip(homes.iter()) {
            let (away, strategy) = (other(home), self.random.of(&STRATEGIES));
            let id = self.begun(name, away, strategy)?;
            moves.push(Moving { name: name.clone(), home, away, id, strategy });
        }
        sleep(self.after); // the moment of the fault is what is random here
        trouble.happen(&moves, self.random)?;
        drop(meddlers);
        trouble.mend(&moves)?;
        let mut ends = Vec::new();
        for (at, moving) in moves.iter().enumerate() {
            let (end, here) = self.end(moving)?;
            homes[at] = here;
            ends.push((moving.strategy, end));
        }
        for (moving, here) in moves.iter().zip(homes.iter()) {
            self.check(&moving.name, here).with_context(|| format!("after {} of {}", moving.strategy, moving.id))?;
        }
        hosts.cluster.wait_active()?;
        Ok(ends)
    }

    /// What has just been started, or was just mended, may not be ready to move.
    fn begun(&self, name: &str, away: &str, strategy: Strategy) -> Result<uuid::Uuid> {
        let mut last = String::new();
        let begun = wait_until(DEADLINE, "a move to be taken", || {
            let begun = self.hosts.cluster.begin_by(name, away, strategy);
            Ok(begun.inspect_err(|error| last = format!("{error:#}")).ok().map(|migration| migration.id))
        });
        begun.with_context(|| format!("{name} by {strategy} to {away}: {last}"))
    }

    /// Waits for a migration's end; what only a person can decide is decided. Returns the end and where the oracle is.
    fn end(&self, moving: &Moving) -> Result<(String, &'static str)> {
        let Hosts { cluster, witness, .. } = self.hosts;
        let Moving { name, home, away, id, .. } = moving;
        let users = self.fault.is_a_users();
        let migration = cluster.over(*id)?;
        let (mut end, mut here) = match migration.phase {
            Phase::Done => ("done".to_owned(), *away),
            Phase::RolledBack => ("rolled-back".to_owned(), *home),
            _ => ("failed".to_owned(), *home),
        };
        if migration.phase == Phase::Failed {
            end = self.decided(moving, &migration)?;
        }
        ensure!(self.fault != Fault::None || end == "done", "nothing was done to it: {migration:?}");
        if users && !self.runs_anywhere(name)? {
            // Its user removed or stopped it, and it is as he wanted.
            end = "ended by its user".to_owned();
            for node in ["A", "B"] {
                cluster.node(node).exec(&["docker", "rm", "--force", name])?;
            }
            witness.may_begin_anew(name);
            oracle::start(cluster.node(home), name, witness.address())?;
            here = *home;
        }
        Ok((end, here))
    }

    /// A person's word on a migration that failed: the source's frozen copy goes on, if there is one.
    fn decided(&self, moving: &Moving, failed: &Migration) -> Result<String> {
        let Hosts { cluster, witness, .. } = self.hosts;
        let Moving { name, id, .. } = moving;
        let users = self.fault.is_a_users();
        witness.may_step_back(name);
        let word = ResolveRequest { keep: Keep::Source, destination_is_gone: false };
        if let Err(refused) = cluster.ask(|client| async move { client.resolve(*id, &word, false).await }) {
            if !users {
                bail!("{name} failed and nobody can say which end keeps it ({refused:#}): {failed:?}");
            }
            return Ok("failed".to_owned());
        }
        let over = cluster.over(*id)?;
        ensure!(over.phase == Phase::RolledBack || users, "the source does not go on: {over:?}");
        Ok("declared lost, source kept".to_owned())
    }

    fn runs_anywhere(&self, name: &str) -> Result<bool> {
        Ok(runs(self.hosts.cluster.node("A"), name)? || runs(self.hosts.cluster.node("B"), name)?)
    }

    fn check(&self, name: &str, here: &str) -> Result<()> {
        let Hosts { cluster, witness, .. } = self.hosts;
        let gone = other(here);
        ensure!(
            runs(cluster.node(here), name)?,
            "{name} does not run on {here}: {}",
            how_it_is(cluster.node(here), name)?
        );
        let left =
            || -> Result<Vec<String>> { Ok([leftovers(cluster.node(here))?, leftovers(cluster.node(gone))?].concat()) };
        let clean = wait_until(DEADLINE, "nothing to be left behind", || {
            Ok((left()?.is_empty() && state(cluster.node(gone), name)?.is_none()).then_some(()))
        });
        clean.with_context(|| {
            format!("left behind: {:?}; {name} on {gone}: {:?}", left(), state(cluster.node(gone), name))
        })?;
        witness.goes_on(name, GOES_ON)?;
        cluster.wait_known(name, here)
    }
}

/// For the message of a failure.
fn how_it_is(node: &Node, name: &str) -> Result<String> {
    let said = |command: &[&str]| -> Result<String> {
        let output = node.exec(command)?;
        Ok([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
    };
    let state = said(&["docker", "inspect", "--format", "{{json .State}}", name])?;
    let pid = said(&["docker", "inspect", "--format", "{{.State.Pid}}", name])?;
    let status = said(&["grep", "-E", "State|Sig|Shd", &format!("/proc/{}/status", pid.trim())])?;
    Ok(format!("{state}\n{status}\n{}", said(&["docker", "logs", "--tail", "20", name])?))
}
