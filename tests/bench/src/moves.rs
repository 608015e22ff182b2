//! Moves of one size, and bare CRIU in between on the same hosts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use fog_api::migration::{Migration, Phase, Strategy};
use fog_e2e::cluster::Cluster;
use fog_lab::{Node, wait_until};
use serde::Serialize;

use crate::bare::{self, Bare};
use crate::cost::{Before, Cost};
use crate::ticker;

/// The ticker's container.
pub const NAME: &str = "ticker";
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything measured with so much memory.
#[derive(Debug, Serialize)]
pub struct Size {
    /// Memory that the container holds.
    pub mib: u32,
    /// One entry a move.
    pub moves: Vec<Move>,
    /// One entry a bare dump and restore.
    pub bare: Vec<Bare>,
}

/// One move.
#[derive(Debug, Serialize)]
pub struct Move {
    /// What the workload saw.
    pub gap_ms: f64,
    /// What else it cost.
    pub cost: Cost,
    /// What the migration's record says of it.
    pub migration: Migration,
}

/// Moves a ticker with so much memory there and back; every other time bare CRIU has its turn.
pub fn measure(cluster: &Cluster, mib: u32, moves: u32, strategy: Strategy) -> Result<Size> {
    run(cluster.node("A"), mib, 0)?;
    let mut size = Size { mib, moves: Vec::new(), bare: Vec::new() };
    for (from, to) in turns(moves) {
        cluster.wait_known(NAME, from)?;
        settle();
        size.bare.push(bare::measure(cluster.node(from), mib)?);
        settle();
        size.moves.push(one(cluster, to, strategy)?);
    }
    end(cluster)?;
    Ok(size)
}

/// Starts a ticker that changes so many pages a millisecond.
pub fn run(node: &Node, mib: u32, pages: u32) -> Result<()> {
    let run = ["docker", "run", "--detach", "--name", NAME, "--label", "fogshift.post-copy=allowed", ticker::IMAGE];
    node.run(&[&run[..], &[ticker::PROGRAM, &mib.to_string(), &pages.to_string()]].concat())
        .context("cannot start the ticker")?;
    Ok(())
}

/// Removes the ticker, wherever it is.
pub fn end(cluster: &Cluster) -> Result<()> {
    for node in ["A", "B"] {
        cluster.node(node).exec(&["docker", "rm", "--force", NAME])?;
    }
    Ok(())
}

/// Moves the ticker once.
pub fn one(cluster: &Cluster, to: &str, strategy: Strategy) -> Result<Move> {
    let before = Before::of([cluster.node("A"), cluster.node("B")])?;
    let began = now_us();
    let migration = migrate(cluster, NAME, to, strategy)?;
    let cost = before.cost()?;
    let gap_ms = gap(cluster.node(to), began)?;
    let found = Move { gap_ms, cost, migration };
    eprintln!(
        "{strategy} → {to}: {gap_ms:.0} ms in the workload, {:.0} ms on the record, {:.2} CPU s, {:.0} MiB {:?}",
        found.migration.downtime_ms.unwrap_or_default(),
        found.cost.cpu_s,
        found.cost.agent_mib,
        found.migration.stages_ms
    );
    Ok(found)
}

/// From, to: there and back.
pub fn turns(moves: u32) -> impl Iterator<Item = (&'static str, &'static str)> {
    [("A", "B"), ("B", "A")].into_iter().cycle().take(moves as usize)
}

/// Lets what the move before has left to do come to its end.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}

/// What the orchestrator knows of the workload may still be from the middle of the move before.
pub fn migrate(cluster: &Cluster, name: &str, to: &str, strategy: Strategy) -> Result<Migration> {
    let mut refused = String::new();
    let begun = wait_until(PATIENCE, "the move to be accepted", || {
        let begun = cluster.begin_by(name, to, strategy);
        refused = begun.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(begun.ok())
    });
    let migration = cluster.over(begun.with_context(|| refused.clone())?.id)?;
    ensure!(migration.phase == Phase::Done, "{name} was not moved to {to}: {:?}", migration.cause);
    Ok(migration)
}

fn gap(node: &Node, since: u128) -> Result<f64> {
    wait_until(PATIENCE, "the ticker to say how long it stood still", || {
        let printed = node.run(&["docker", "logs", "--tail", "100", NAME])?;
        Ok(ticker::largest_gap_ms(&printed, since).filter(|gap| *gap > 20.0))
    })
}

/// Microseconds since 1970.
pub fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}
