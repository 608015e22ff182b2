//! Moves of one size, and bare CRIU in between on the same hosts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use fog_api::migration::{Migration, Phase, Strategy};
use fog_e2e::cluster::Cluster;
use fog_lab::{Node, wait_until};
use serde::Serialize;

use crate::bare::{self, Bare};
use crate::ticker;

const NAME: &str = "ticker";
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
    /// What the migration's record says of it.
    pub migration: Migration,
}

/// Moves a ticker with so much memory there and back; every other time bare CRIU has its turn.
pub fn measure(cluster: &Cluster, mib: u32, moves: u32, strategy: Strategy) -> Result<Size> {
    let mib_word = mib.to_string();
    let a = cluster.node("A");
    a.run(&[
        "docker",
        "run",
        "--detach",
        "--name",
        NAME,
        "--label",
        "fogshift.post-copy=allowed",
        ticker::IMAGE,
        ticker::PROGRAM,
        &mib_word,
    ])
    .context("cannot start the ticker on A")?;
    let mut size = Size { mib, moves: Vec::new(), bare: Vec::new() };
    for (from, to) in [("A", "B"), ("B", "A")].into_iter().cycle().take(moves as usize) {
        cluster.wait_known(NAME, from)?;
        settle();
        size.bare.push(bare::measure(cluster.node(from), mib)?);
        settle();
        let began = now_us();
        let migration = migrate(cluster, to, strategy)?;
        let gap_ms = gap(cluster.node(to), began)?;
        eprintln!(
            "{mib} MiB {from} → {to}: {gap_ms:.0} ms in the workload, {:.0} ms on the record {:?}",
            migration.downtime_ms.unwrap_or_default(),
            migration.stages_ms
        );
        size.moves.push(Move { gap_ms, migration });
    }
    for node in ["A", "B"] {
        cluster.node(node).exec(&["docker", "rm", "--force", NAME])?;
    }
    Ok(size)
}

/// Lets what the move before has left to do come to its end.
fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}

/// What the orchestrator knows of the workload may still be from the middle of the move before.
fn migrate(cluster: &Cluster, to: &str, strategy: Strategy) -> Result<Migration> {
    let mut refused = String::new();
    let begun = wait_until(PATIENCE, "the move to be accepted", || {
        let begun = cluster.begin_by(NAME, to, strategy);
        refused = begun.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(begun.ok())
    });
    let migration = cluster.over(begun.with_context(|| refused.clone())?.id)?;
    ensure!(migration.phase == Phase::Done, "the ticker was not moved to {to}: {:?}", migration.cause);
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
