//! What a policy would have done with the past, and what would have come of it.
//!
//! A projection, not a recording: of the past there is the load of every node, step by step, and who moved when. What each
//! workload used then is not kept, so each is taken to have used all the time what it uses now; bursts, resizes, cordons, drains,
//! approvals and failures are left out, moves take no time, and a step is longer than a sample, so that everything is seen
//! later than it would have been. The loads are what was measured, less what would have left, plus what would have come.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::availability::Availability;
use crate::model::{NodeName, Snapshot, WorkloadName};
use crate::plan::{Action, plan};
use crate::policy::Policy;

/// A node at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// CPU utilization, 0 to 1.
    pub cpu: f64,
    /// Memory in use, 0 to 1.
    pub memory: f64,
}

/// A move that was really made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// When.
    pub at: Timestamp,
    /// What.
    pub workload: String,
    /// The source.
    pub from: String,
    /// The destination.
    pub to: String,
}

/// What is known of the past.
#[derive(Debug, Clone)]
pub struct Past {
    /// The cluster as it is now.
    pub now: Snapshot,
    /// The first step.
    pub from: Timestamp,
    /// Seconds from step to step, 1 or more.
    pub step_s: u32,
    /// For every node of `now`, in its order, what was measured at each step; `None` if nothing was.
    pub samples: Vec<Vec<Option<Sampled>>>,
    /// What really moved since, in any order.
    pub moves: Vec<Moved>,
}

/// A move that the policy would have made.
#[derive(Debug, Clone, PartialEq)]
pub struct WouldMove {
    /// When.
    pub at: Timestamp,
    /// What.
    pub workload: WorkloadName,
    /// The source.
    pub from: NodeName,
    /// The destination.
    pub to: NodeName,
    /// Why, in sentences.
    pub reason: String,
}

/// One step of both worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its beginning.
    pub at: Timestamp,
    /// Nodes at or above the policy's `overload.cpu.start`, as measured.
    pub overloaded: u32,
    /// The same, as projected.
    pub would_be: u32,
}

/// A past that is being replayed, step by step, so that the caller may stop when it takes too long.
#[derive(Debug)]
pub struct Replay {
    policy: Policy,
    past: Past,
    /// Places of the nodes in `past.now.nodes`.
    places: BTreeMap<String, usize>,
    /// Where each workload really was at this step, and where the policy would have had it.
    really: Vec<usize>,
    would: Vec<usize>,
    /// The newest last, to be taken from the end.
    moves: Vec<(Timestamp, usize, usize)>,
    windows: Vec<VecDeque<f64>>,
    hot: Vec<f64>,
    left: Vec<Vec<Timestamp>>,
    step: usize,
    /// What came of it so far.
    pub steps: Vec<Step>,
    /// What would have moved so far.
    pub would_move: Vec<WouldMove>,
}

impl Replay {
    /// `past` should hold as many samples of every node.
    pub fn new(mut past: Past, policy: &Policy) -> Self {
        let mut policy = policy.clone();
        policy.resize.enabled = false;
        policy.sampling.interval_s = f64::from(past.step_s.max(1));
        let nodes = past.now.nodes.len();
        let places: BTreeMap<String, usize> =
            past.now.nodes.iter().enumerate().map(|(at, node)| (node.name.to_string(), at)).collect();
        past.now.in_flight.clear();
        past.now.workloads.retain(|workload| places.contains_key(workload.node.as_str()));
        for node in &mut past.now.nodes {
            (node.cordoned, node.draining, node.run_queue, node.pressure, node.temperature_c) =
                (false, false, None, None, None);
        }
        for workload in &mut past.now.workloads {
            workload.cpus = workload.cpus_usual.unwrap_or(workload.cpus);
            (workload.cpus_usual, workload.moved_at, workload.last_from, workload.moves_24h) = (None, None, None, 0);
            (workload.failed_at, workload.failures, workload.dismissed_at) = (None, 0, None);
        }
        let index: BTreeMap<&str, usize> =
            past.now.workloads.iter().enumerate().map(|(at, workload)| (workload.name.as_str(), at)).collect();
        let mut really: Vec<usize> = past.now.workloads.iter().map(|workload| places[workload.node.as_str()]).collect();
        past.moves.sort_by_key(|moved| std::cmp::Reverse(moved.at));
        let mut moves = Vec::new();
        for moved in past.moves.iter().filter(|moved| moved.at >= past.from) {
            let ends = (index.get(moved.workload.as_str()), places.get(&moved.from), places.get(&moved.to));
            if let (Some(workload), Some(from), Some(to)) = ends {
                really[*workload] = *from;
                moves.push((moved.at, *workload, *to));
            }
        }
        let would = really.clone();
        let left = vec![Vec::new(); would.len()];
        let (windows, hot) = (vec![VecDeque::new(); nodes], vec![0.0; nodes]);
        Self {
            policy,
            past,
            places,
            really,
            would,
            moves,
            windows,
            hot,
            left,
            step: 0,
            steps: Vec::new(),
            would_move: Vec::new(),
        }
    }

    /// Plays one step; false once there are no more.
    pub fn step(&mut self) -> bool {
        let count = self.past.samples.iter().map(Vec::len).max().unwrap_or(0);
        if self.step >= count {
            return false;
        }
        let seconds = i64::from(self.past.step_s.max(1)) * i64::try_from(self.step).unwrap_or(i64::MAX);
        let at = self.past.from.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(self.past.from);
        while let Some((_, workload, to)) = self.moves.pop_if(|(moved, _, _)| *moved <= at) {
            self.really[workload] = to;
        }
        self.past.now.at = at;
        let (overloaded, would_be) = self.measure();
        self.steps.push(Step { at, overloaded, would_be });
        self.decide(at);
        self.step += 1;
        true
    }

    /// Sets every node's load; how many are overloaded as measured, and as projected.
    fn measure(&mut self) -> (u32, u32) {
        let start = self.policy.overload.cpu.start;
        let mut more: Vec<(f64, f64)> = vec![(0.0, 0.0); self.past.now.nodes.len()];
        for (index, workload) in self.past.now.workloads.iter().enumerate() {
            let (really, would) = (self.really[index], self.would[index]);
            if really == would {
                continue;
            }
            // It was measured where it is now; slower cores need more of them for the same work.
            let speed = self.past.now.nodes[self.places[workload.node.as_str()]].cpu_score;
            for (at, sign) in [(really, -1.0), (would, 1.0)] {
                let node = &self.past.now.nodes[at];
                more[at].0 += sign * workload.cpus * speed / node.cpu_score / node.cpus;
                more[at].1 += sign * workload.memory_bytes as f64 / node.memory_bytes.max(1) as f64;
            }
        }
        let keep = (self.policy.burst.wait_s / self.policy.sampling.interval_s).ceil().clamp(0.0, 10_000.0) as usize;
        let keep = keep.max(usize::try_from(self.policy.sampling.window).unwrap_or(usize::MAX));
        let hour = (self.policy.sampling.interval_s / 3600.0).min(1.0);
        let (mut overloaded, mut would_be) = (0, 0);
        for (at, node) in self.past.now.nodes.iter_mut().enumerate() {
            let sampled = self.past.samples.get(at).and_then(|samples| *samples.get(self.step)?);
            let Some(sampled) = sampled else {
                (node.availability, node.cpu, node.memory) = (Availability::Offline, None, None);
                continue;
            };
            let load = (sampled.cpu + more[at].0).max(0.0);
            overloaded += u32::from(sampled.cpu >= start);
            would_be += u32::from(load >= start);
            self.hot[at] += (f64::from(u8::from(load >= start)) - self.hot[at]) * hour;
            let window = &mut self.windows[at];
            window.push_back(load.min(1.0));
            window.drain(..window.len().saturating_sub(keep));
            node.availability = Availability::Active;
            (node.cpu, node.cpu_window, node.cpu_hot) =
                (Some(load.min(1.0)), window.iter().copied().collect(), Some(self.hot[at]));
            node.memory = Some((sampled.memory + more[at].1).clamp(0.0, 1.0));
        }
        (overloaded, would_be)
    }

    /// Plans, and lets happen at once what is planned.
    fn decide(&mut self, at: Timestamp) {
        let names: Vec<NodeName> = self.past.now.nodes.iter().map(|node| node.name.clone()).collect();
        let measured_on: Vec<NodeName> = self.past.now.workloads.iter().map(|workload| workload.node.clone()).collect();
        let measured: Vec<f64> = self.past.now.workloads.iter().map(|workload| workload.cpus).collect();
        for (index, workload) in self.past.now.workloads.iter_mut().enumerate() {
            let (there, here) = (self.places[workload.node.as_str()], self.would[index]);
            let speed = |at: usize| self.past.now.nodes[at].cpu_score;
            workload.cpus *= speed(there) / speed(here);
            workload.node = names[here].clone();
            self.left[index].retain(|left| at.duration_since(*left) < SignedDuration::from_hours(24));
            workload.moves_24h = u32::try_from(self.left[index].len()).unwrap_or(u32::MAX);
        }
        let planned = plan(&self.past.now, &self.policy, at).actions;
        for (index, workload) in self.past.now.workloads.iter_mut().enumerate() {
            (workload.node, workload.cpus) = (measured_on[index].clone(), measured[index]);
        }
        for action in planned {
            let Action::Migrate(migrate) = action else { continue };
            let found = self.past.now.workloads.iter().position(|workload| workload.name == migrate.workload);
            let (Some(index), Some(to)) = (found, self.places.get(migrate.to.as_str())) else { continue };
            self.would[index] = *to;
            self.left[index].push(at);
            let workload = &mut self.past.now.workloads[index];
            (workload.moved_at, workload.last_from) = (Some(at), Some(migrate.from.clone()));
            let moved = WouldMove {
                at,
                workload: migrate.workload,
                from: migrate.from,
                to: migrate.to,
                reason: migrate.reason,
            };
            self.would_move.push(moved);
        }
    }
}
