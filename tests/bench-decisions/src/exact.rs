//! Small clusters, and the best that could be done with them: every set of moves that the policy allows, all tried.

use std::collections::HashSet;

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

/// A cluster of [`small`], in numbers. The planner's rules are written here a second time, in few words, so that the bound
/// rests on the policy and not on the planner's code.
struct Cluster<'s> {
    policy: &'s Policy,
    snapshot: &'s Snapshot,
    /// Which nodes were overloaded.
    hot: Vec<bool>,
    /// The place of each workload's node.
    from: Vec<usize>,
    /// Mbit/s between two nodes.
    mbps: Vec<Vec<f64>>,
}

/// The load of every node once some workloads have moved.
#[derive(Clone)]
struct Loads {
    cpu: Vec<f64>,
    memory: Vec<f64>,
}

impl<'s> Cluster<'s> {
    fn new(snapshot: &'s Snapshot, policy: &'s Policy) -> Self {
        let place = |node: &str| snapshot.nodes.iter().position(|other| other.name == *node).unwrap_or(0);
        let count = snapshot.nodes.len();
        let mut mbps = vec![vec![policy.cost.unknown_mbps; count]; count];
        for link in &snapshot.links {
            let (a, b) = (place(link.from.as_str()), place(link.to.as_str()));
            let known = link.bandwidth_mbps.unwrap_or(policy.cost.unknown_mbps);
            (mbps[a][b], mbps[b][a]) = (known, known);
        }
        let hot = snapshot.nodes.iter().map(|node| node.cpu.unwrap_or(0.0) >= policy.overload.cpu.start).collect();
        let from = snapshot.workloads.iter().map(|workload| place(workload.node.as_str())).collect();
        Self { policy, snapshot, hot, from, mbps }
    }

    fn loads(&self) -> Loads {
        let of = |read: fn(&fog_core::Node) -> Option<f64>| {
            self.snapshot.nodes.iter().map(|node| read(node).unwrap_or(0.0)).collect()
        };
        Loads { cpu: of(|node| node.cpu), memory: of(|node| node.memory) }
    }

    /// The loads after one more move; `None` if the policy does not allow it as things are then.
    fn moved(&self, loads: &Loads, index: usize, to: usize) -> Option<Loads> {
        let (policy, workload, from) = (self.policy, &self.snapshot.workloads[index], self.from[index]);
        if from == to || !self.hot[from] || self.hot[to] || loads.cpu[from] < policy.overload.cpu.done {
            return None;
        }
        let share = |at: usize| {
            let node = &self.snapshot.nodes[at];
            (workload.cpus / node.cpus, workload.memory_bytes as f64 / node.memory_bytes as f64)
        };
        let mut after = loads.clone();
        for (at, sign) in [(from, -1.0), (to, 1.0)] {
            let (cpu, memory) = share(at);
            after.cpu[at] = (after.cpu[at] + sign * cpu).max(0.0);
            after.memory[at] = (after.memory[at] + sign * memory).max(0.0);
        }
        let room = after.cpu[to] <= 1.0 - policy.headroom.cpu && after.memory[to] <= 1.0 - policy.headroom.memory;
        let gain = loads.cpu[from] - after.cpu[to];
        let transfer_s = workload.memory_bytes as f64 * 8.0 / (self.mbps[from][to] * 1e6);
        let downtime_s = ((350.0 + transfer_s * 1000.0).ceil()) / 1000.0;
        let cost_s = downtime_s + policy.cost.transfer_weight * transfer_s;
        let worth = gain >= policy.min_gain && cost_s <= gain * policy.cost.horizon_s;
        (room && worth && downtime_s * 1000.0 <= policy.max_downtime_ms as f64).then_some(after)
    }

    fn left(&self, loads: &Loads, moves: usize) -> Left {
        let done = self.policy.overload.cpu.done;
        let nodes = self.snapshot.nodes.iter().enumerate().filter(|(at, _)| self.hot[*at]);
        let above: f64 = nodes.map(|(at, node)| (loads.cpu[at] - done).max(0.0) * node.cpus).sum();
        Left { above_millicores: (above * 1000.0).round() as u64, moves }
    }
}

struct Search<'s> {
    cluster: Cluster<'s>,
    /// Placements that were looked at, as numbers: how they came about makes no difference.
    seen: HashSet<u64>,
    best: Left,
}

impl Search<'_> {
    fn go(&mut self, loads: &Loads, placed: u64, moves: usize) {
        if !self.seen.insert(placed) || (self.best.above_millicores == 0 && moves >= self.best.moves) {
            return;
        }
        self.best = self.best.min(self.cluster.left(loads, moves));
        let nodes = loads.cpu.len();
        for index in 0..self.cluster.from.len() {
            let digit = 1u64 << (3 * index);
            // Nothing moves twice.
            if placed & (7 * digit) != 0 {
                continue;
            }
            for to in 0..nodes {
                if let Some(after) = self.cluster.moved(loads, index, to) {
                    self.go(&after, placed + digit * (to as u64 + 1), moves + 1);
                }
            }
        }
    }
}

/// The best there is: every set of moves that the policy allows, in every order.
pub fn optimum(snapshot: &Snapshot, policy: &Policy) -> Left {
    let cluster = Cluster::new(snapshot, policy);
    let loads = cluster.loads();
    let best = cluster.left(&loads, 0);
    let mut search = Search { cluster, seen: HashSet::new(), best };
    search.go(&loads, 0, 0);
    search.best
}

/// What the planner makes of it; `None` if it does what the policy does not allow.
pub fn planned(snapshot: &Snapshot, policy: &Policy) -> Option<Left> {
    let cluster = Cluster::new(snapshot, policy);
    let mut loads = cluster.loads();
    let mut moves = 0;
    for action in plan(snapshot, policy, snapshot.at).actions {
        let Action::Migrate(migrate) = action else { continue };
        let index = snapshot.workloads.iter().position(|workload| workload.name == migrate.workload)?;
        let to = snapshot.nodes.iter().position(|node| node.name == migrate.to)?;
        loads = cluster.moved(&loads, index, to)?;
        moves += 1;
    }
    Some(cluster.left(&loads, moves))
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
