//! A simulated day, minute by minute: what containers want, where they are, and what moving them takes.

use std::collections::BTreeMap;

use anyhow::Result;
use fog_core::{Availability, Link, Node, Snapshot, Workload};
use jiff::SignedDuration;
use serde_json::json;

use crate::random::Random;

/// Minutes of a day.
pub const MINUTES: usize = 1440;
/// At or above this share of its cores a node is overloaded: the default policy's threshold.
pub const OVERLOADED: f64 = 0.80;
/// A return within so many minutes is a ping-pong.
const PING_PONG: i64 = 60;
/// An average is over so many minutes, and known after so many: as the orchestrator keeps it.
const MEMORY: f64 = 60.0;
const KNOWN: i64 = 10;
/// Minutes of samples that are kept.
const KEPT: usize = 15;
const WORKLOADS_PER_NODE: usize = 12;
const UNKNOWN_MBPS: f64 = 100.0;

/// A move that a balancer wants: the places of the workload and of its destination in the snapshot's lists.
pub type Move = (usize, usize);

/// What a container wants over the day.
#[derive(Clone)]
struct Demand {
    cores: f64,
    /// Share of it that follows the time of day, and when its day begins.
    swing: f64,
    phase: f64,
    /// Minutes of a burst that are left, and how much it multiplies.
    burst: (u32, f64),
    /// What it has used on average.
    usual: f64,
}

/// The cluster, and what has happened to it.
#[derive(Clone)]
pub struct Day {
    /// As a balancer sees it.
    pub snapshot: Snapshot,
    /// Where each workload is: a place in `snapshot.nodes`.
    pub at: Vec<usize>,
    /// Round trips in ms and bandwidths in Mbit/s, where they are known.
    pub links: BTreeMap<(usize, usize), (f64, f64)>,
    demands: Vec<Demand>,
    /// Minutes until a failed node is back.
    down: Vec<u32>,
    /// Share of the last hour or so in which each was overloaded.
    hot: Vec<f64>,
    left: Vec<Vec<(i64, usize)>>,
    random: Random,
    minute: i64,
    /// What it came to.
    pub result: Outcome,
}

/// What a day came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    /// Minutes in which a node was overloaded, over all nodes.
    pub overload_minutes: u64,
    /// Core-minutes that were wanted and not there.
    pub starved_core_minutes: f64,
    /// Moves.
    pub moves: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Seconds in which a workload stood still because it moved.
    pub downtime_s: f64,
    /// Returns to a node that was left less than an hour before.
    pub ping_pongs: u64,
}

impl Day {
    /// The same seed gives the same containers, bursts and failures, whoever balances.
    pub fn new(nodes: usize, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let mut listed: Vec<Node> = Vec::new();
        let mut shares = Vec::new();
        for at in 0..nodes {
            let cpus = [4.0, 8.0, 16.0][random.below(3)];
            shares.extend(std::iter::repeat_n(
                at,
                if cpus < 8.0 {
                    1
                } else if cpus < 16.0 {
                    2
                } else {
                    4
                },
            ));
            listed.push(serde_json::from_value(json!({
                "name": format!("n{at:04}"), "arch": "x86_64", "cpus": cpus, "memory_bytes": 64u64 << 30, "memory": 0.3,
            }))?);
        }
        let (mut links, mut known) = (Vec::new(), BTreeMap::new());
        for at in 0..nodes {
            for step in (1..=4).filter(|step| nodes > 2 * step) {
                let other = (at + step) % nodes;
                let (rtt, mbps) = (random.heavy(0.5, 150.0), random.between(100.0, 1000.0));
                known.insert((at, other), (rtt, mbps));
                known.insert((other, at), (rtt, mbps));
                let (from, to) = (listed[at].name.clone(), listed[other].name.clone());
                let link =
                    Link { from, to, rtt_ms: Some(rtt), bandwidth_mbps: Some(mbps), loss: 0.0, technology: None };
                links.push(link);
            }
        }
        let (mut workloads, mut demands, mut at): (Vec<Workload>, Vec<Demand>, Vec<usize>) = Default::default();
        for index in 0..nodes * WORKLOADS_PER_NODE {
            let place = shares[random.below(shares.len())];
            let bytes = random.heavy(16e6, 1e9).round() as u64;
            workloads.push(serde_json::from_value(json!({
                "name": format!("w{index:05}"), "node": format!("n{place:04}"), "cpus": 0.0, "memory_bytes": bytes,
            }))?);
            let phase = if random.fraction() < 0.7 { random.between(0.0, 0.2) } else { random.fraction() };
            let (cores, swing) = (random.heavy(0.12, 3.0), random.between(0.2, 0.8));
            demands.push(Demand { cores, swing, phase, burst: (0, 1.0), usual: 0.0 });
            at.push(place);
        }
        let start = "2026-11-22T00:00:00Z".parse()?;
        let snapshot = Snapshot { at: start, nodes: listed, links, workloads, in_flight: Vec::new() };
        let (left, down) = (vec![Vec::new(); at.len()], vec![0; nodes]);
        let result = Outcome::default();
        Ok(Self { snapshot, at, links: known, demands, hot: vec![0.0; nodes], down, left, random, minute: 0, result })
    }

    /// A minute passes: everybody's wish changes, nodes fail and come back, and what is overloaded is counted.
    pub fn tick(&mut self) {
        self.minute += 1;
        self.snapshot.at += SignedDuration::from_mins(1);
        let time = self.minute as f64 / MINUTES as f64;
        for (workload, demand) in self.snapshot.workloads.iter_mut().zip(&mut self.demands) {
            let chance = self.random.fraction();
            let size = self.random.between(1.5, 4.0);
            if demand.burst.0 > 0 {
                demand.burst.0 -= 1;
            } else {
                // Mostly a minute or three; one in ten lasts an hour or two.
                let minutes = if chance < 0.0002 { 60 + (size * 20.0) as u32 } else { size as u32 };
                demand.burst = if chance < 0.002 { (minutes, size) } else { (0, 1.0) };
            }
            let curve = 1.0 - demand.swing * (0.5 + 0.5 * ((time + demand.phase) * std::f64::consts::TAU).cos());
            let noise = self.random.between(0.9, 1.1);
            workload.cpus = demand.cores * curve * noise * demand.burst.1;
            // What the orchestrator would have learned of it.
            demand.usual += (workload.cpus - demand.usual) / (self.minute as f64).min(MEMORY);
            workload.cpus_usual = (self.minute >= KNOWN).then_some(demand.usual);
        }
        let mut used = vec![0.0; self.snapshot.nodes.len()];
        for (workload, at) in self.snapshot.workloads.iter().zip(&self.at) {
            used[*at] += workload.cpus;
        }
        for (at, node) in self.snapshot.nodes.iter_mut().enumerate() {
            let (chance, length) = (self.random.fraction(), self.random.between(20.0, 120.0) as u32);
            self.down[at] = match self.down[at] {
                0 if chance < 0.0001 => length,
                minutes => minutes.saturating_sub(1),
            };
            node.availability = if self.down[at] > 0 { Availability::Offline } else { Availability::Active };
            let load = used[at] / node.cpus;
            if self.down[at] == 0 {
                self.result.overload_minutes += u64::from(load >= OVERLOADED);
                self.result.starved_core_minutes += (used[at] - node.cpus).max(0.0);
            }
            let hot = &mut self.hot[at];
            *hot += (f64::from(u8::from(load >= OVERLOADED)) - *hot) / MEMORY;
            node.cpu_hot = Some(*hot);
            node.cpu = Some(load.min(1.0));
            node.cpu_window.push(load.min(1.0));
            if node.cpu_window.len() > KEPT {
                node.cpu_window.remove(0);
            }
        }
        let day_ago = self.minute - MINUTES as i64;
        for (workload, left) in self.snapshot.workloads.iter_mut().zip(&self.left) {
            workload.moves_24h = left.iter().filter(|(then, _)| *then > day_ago).count().try_into().unwrap_or(u32::MAX);
        }
    }

    /// Carries out what can be: one move a workload, between nodes that are up.
    pub fn carry_out(&mut self, moves: &[Move]) {
        for (index, to) in moves {
            let from = self.at[*index];
            if from == *to || self.down[from] > 0 || self.down[*to] > 0 {
                continue;
            }
            let workload = &mut self.snapshot.workloads[*index];
            let mbps = self.links.get(&(from, *to)).map_or(UNKNOWN_MBPS, |link| link.1);
            self.result.moves += 1;
            self.result.bytes += workload.memory_bytes;
            self.result.downtime_s += 0.35 + workload.memory_bytes as f64 * 8.0 / (mbps * 1e6);
            let back = self.left[*index].iter().any(|(then, node)| node == to && self.minute - then < PING_PONG);
            self.result.ping_pongs += u64::from(back);
            self.left[*index].push((self.minute, from));
            workload.node = self.snapshot.nodes[*to].name.clone();
            workload.last_from = Some(self.snapshot.nodes[from].name.clone());
            workload.moved_at = Some(self.snapshot.at);
            self.at[*index] = *to;
        }
    }

    /// The overload-minutes of the next `minutes` that each of these moves by itself spares the cluster; below 0 if it adds
    /// some. The future is the same whoever moves what.
    pub fn spared(&self, moves: &[Move], minutes: usize) -> Vec<i64> {
        if moves.is_empty() {
            return Vec::new();
        }
        let ahead = |mut day: Self| {
            (0..minutes).for_each(|_| day.tick());
            day.result.overload_minutes.cast_signed()
        };
        let without = ahead(self.clone());
        let with = |one: &Move| {
            let mut day = self.clone();
            day.carry_out(&[*one]);
            ahead(day)
        };
        moves.iter().map(|one| without - with(one)).collect()
    }

    /// Whether a node is up.
    pub fn is_up(&self, node: usize) -> bool {
        self.down[node] == 0
    }

    /// The load of every node as last sampled; more than all of it if something fails there.
    pub fn loads(&self) -> Vec<f64> {
        self.snapshot.nodes.iter().map(|node| node.cpu.unwrap_or(0.0)).collect()
    }

    /// The workloads of every node, the largest first.
    pub fn by_node(&self) -> Vec<Vec<usize>> {
        let mut lists = vec![Vec::new(); self.snapshot.nodes.len()];
        self.at.iter().enumerate().for_each(|(index, at)| lists[*at].push(index));
        let size = |index: &usize| self.snapshot.workloads[*index].cpus;
        lists
            .iter_mut()
            .for_each(|list| list.sort_by(|a: &usize, b: &usize| size(b).total_cmp(&size(a)).then(a.cmp(b))));
        lists
    }
}
