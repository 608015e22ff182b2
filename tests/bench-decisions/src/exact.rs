//! Small clusters, and the best that could be done with them: every workload anywhere it has room, all tried.

use anyhow::Result;
use fog_core::{Action, Policy, Snapshot, plan};
use serde_json::{Value, json};

use crate::random::Random;

/// How a plan leaves a cluster; less is better, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// Of nodes that were overloaded: what they have above `done`, in thousandths of cores.
    pub above_millicores: u64,
    /// Moves.
    pub moves: usize,
}

/// Three to five nodes, one or two of them overloaded, six to nine workloads.
pub fn small(seed: u64) -> Result<Snapshot> {
    let mut random = Random::new(seed);
    let count = 3 + random.below(3);
    let hot = 1 + random.below(2);
    let (mut nodes, mut workloads, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let mut used = vec![0.0; count];
    let cores: Vec<f64> = (0..count).map(|_| [2.0, 4.0, 8.0][random.below(3)]).collect();
    for index in 0..6 + random.below(4) {
        // Most are where it is hot.
        let at = if random.fraction() < 0.75 { random.below(hot) } else { random.below(count) };
        let cpus = (cores[at] * random.heavy(0.06, 0.5) * 1000.0).round() / 1000.0;
        used[at] += cpus;
        workloads.push(json!({
            "name": format!("w{index}"), "node": format!("n{at}"), "cpus": cpus,
            "memory_bytes": random.heavy(16e6, 1e9).round() as u64,
        }));
    }
    for at in 0..count {
        // What no container uses fills a hot node up.
        let own = if at < hot {
            (random.between(0.81, 1.0) - used[at] / cores[at]).max(0.0)
        } else {
            random.between(0.05, 0.5)
        };
        let cpu = (own + used[at] / cores[at]).min(1.0);
        nodes.push(json!({
            "name": format!("n{at}"), "arch": "x86_64", "cpus": cores[at], "memory_bytes": 64u64 << 30, "cpu": cpu, "memory": 0.3,
        }));
        links.extend((0..at).map(|to| -> Value {
            json!({"from": format!("n{at}"), "to": format!("n{to}"), "rtt_ms": random.heavy(0.5, 100.0), "bandwidth_mbps": 900.0})
        }));
    }
    let at = "2026-11-22T10:00:00Z";
    Ok(serde_json::from_value(json!({"at": at, "nodes": nodes, "links": links, "workloads": workloads}))?)
}

/// What a placement of every workload comes to; `None` if it fills a node that it may not fill.
fn left(snapshot: &Snapshot, policy: &Policy, loads: &[f64], received: &[bool], moves: usize) -> Option<Left> {
    let threshold = policy.overload.cpu;
    let mut above = 0.0;
    for (at, node) in snapshot.nodes.iter().enumerate() {
        let before = node.cpu.unwrap_or(0.0);
        if received[at] && (loads[at] > 1.0 - policy.headroom.cpu + 1e-9 || before >= threshold.start) {
            return None;
        }
        if before >= threshold.start {
            above += (loads[at] - threshold.done).max(0.0) * node.cpus;
        }
    }
    Some(Left { above_millicores: (above * 1000.0).round() as u64, moves })
}

struct Search<'s> {
    snapshot: &'s Snapshot,
    policy: &'s Policy,
    /// The place of each workload's node.
    at: Vec<usize>,
    loads: Vec<f64>,
    received: Vec<bool>,
    best: Left,
}

impl Search<'_> {
    fn go(&mut self, index: usize, moves: usize) {
        if moves > self.best.moves && self.best.above_millicores == 0 {
            return;
        }
        let Some(workload) = self.snapshot.workloads.get(index) else {
            let found = left(self.snapshot, self.policy, &self.loads, &self.received, moves);
            self.best = found.map_or(self.best, |found| found.min(self.best));
            return;
        };
        let from = self.at[index];
        self.go(index + 1, moves);
        for to in (0..self.loads.len()).filter(|to| *to != from) {
            let share = |at: usize| workload.cpus / self.snapshot.nodes[at].cpus;
            let (before, received) = ((self.loads[from], self.loads[to]), self.received[to]);
            (self.loads[from], self.loads[to]) = (before.0 - share(from), before.1 + share(to));
            self.received[to] = true;
            self.go(index + 1, moves + 1);
            (self.loads[from], self.loads[to], self.received[to]) = (before.0, before.1, received);
        }
    }
}

/// The places of the workloads' nodes.
fn places(snapshot: &Snapshot) -> Vec<usize> {
    let place = |node: &str| snapshot.nodes.iter().position(|other| other.name == *node).unwrap_or(0);
    snapshot.workloads.iter().map(|workload| place(workload.node.as_str())).collect()
}

fn loads(snapshot: &Snapshot) -> Vec<f64> {
    snapshot.nodes.iter().map(|node| node.cpu.unwrap_or(0.0)).collect()
}

/// The best there is. It ignores the planner's other rules (gain, cost, downtime), so it is never worse than possible.
pub fn optimum(snapshot: &Snapshot, policy: &Policy) -> Left {
    let (at, loads) = (places(snapshot), loads(snapshot));
    let received = vec![false; loads.len()];
    let nothing = left(snapshot, policy, &loads, &received, 0);
    let best = nothing.unwrap_or(Left { above_millicores: u64::MAX, moves: 0 });
    let mut search = Search { snapshot, policy, at, loads, received, best };
    search.go(0, 0);
    search.best
}

/// What the planner makes of it.
pub fn planned(snapshot: &Snapshot, policy: &Policy) -> Option<Left> {
    let (at, mut loads) = (places(snapshot), loads(snapshot));
    let mut received = vec![false; loads.len()];
    let mut moves = 0;
    for action in plan(snapshot, policy, snapshot.at).actions {
        let Action::Migrate(migrate) = action else { continue };
        let index = snapshot.workloads.iter().position(|workload| workload.name == migrate.workload)?;
        let to = snapshot.nodes.iter().position(|node| node.name == migrate.to)?;
        let cpus = snapshot.workloads[index].cpus;
        loads[at[index]] -= cpus / snapshot.nodes[at[index]].cpus;
        loads[to] += cpus / snapshot.nodes[to].cpus;
        received[to] = true;
        moves += 1;
    }
    left(snapshot, policy, &loads, &received, moves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beats_the_optimum() -> Result<()> {
        let mut policy = Policy::default();
        (policy.concurrency.per_node, policy.concurrency.cluster) = (100, 100);
        for seed in 0..20 {
            let snapshot = small(seed)?;
            let (best, ours) = (optimum(&snapshot, &policy), planned(&snapshot, &policy));
            assert!(ours.is_some_and(|ours| ours >= best), "seed {seed}: {ours:?} against {best:?}");
        }
        Ok(())
    }
}
