//! The cluster as it will be once every move that is planned or under way is done.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::availability::seconds;
use crate::model::{Link, Node, Snapshot, Workload};
use crate::overload;
use crate::policy::Policy;

/// Utilization of a node, as fractions of its capacity; `None` if not measured. Can exceed 1: demand, not use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) cpu: Option<f64>,
    pub(crate) memory: Option<f64>,
}

pub(crate) struct Projection<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    links: BTreeMap<(&'a str, &'a str), &'a Link>,
    loads: BTreeMap<&'a str, Load>,
    /// Where a workload is going.
    flying: BTreeMap<&'a str, &'a str>,
    /// Moves from and to a node, planned and under way.
    moves: BTreeMap<&'a str, u32>,
    moves_total: u32,
    /// When a workload last left a node; `Timestamp::MAX` if one is about to.
    last_left: BTreeMap<&'a str, Timestamp>,
}

impl<'a> Projection<'a> {
    /// Everything is put into an order of its own, so that the order of the snapshot's lists never matters.
    pub(crate) fn new(snapshot: &'a Snapshot, policy: &Policy, now: Timestamp) -> Self {
        let nodes: BTreeMap<&str, &Node> = snapshot.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        let load =
            |node: &Node| Load { cpu: overload::cpu(node, policy), memory: node.memory.filter(|m| m.is_finite()) };
        let mut projection = Self {
            loads: nodes.iter().map(|(name, node)| (*name, load(node))).collect(),
            links: snapshot.links.iter().map(|link| ((link.from.as_str(), link.to.as_str()), link)).collect(),
            flying: BTreeMap::new(),
            moves: BTreeMap::new(),
            moves_total: 0,
            last_left: BTreeMap::new(),
            nodes,
        };
        let workloads: BTreeMap<&str, &Workload> = snapshot.workloads.iter().map(|w| (w.name.as_str(), w)).collect();
        let mut flights: Vec<_> = snapshot.in_flight.iter().collect();
        flights.sort_by_key(|flight| &flight.workload);
        for flight in flights {
            projection.flying.insert(flight.workload.as_str(), flight.to.as_str());
            projection.count(flight.from.as_str(), flight.to.as_str());
            if let Some(workload) = workloads.get(flight.workload.as_str()) {
                projection.shift(workload, flight.from.as_str(), flight.to.as_str());
            }
        }
        // Until the window has passed, samples still show a workload where it was.
        let window = seconds(policy.sampling.interval_s * f64::from(policy.sampling.window));
        for workload in workloads.values() {
            let (Some(moved_at), Some(from)) = (workload.moved_at, &workload.last_from) else { continue };
            let left = projection.last_left.entry(from.as_str()).or_insert(moved_at);
            *left = moved_at.max(*left);
            let fresh = moved_at <= now && now.duration_since(moved_at) < window;
            if fresh && *from != workload.node && !projection.flying.contains_key(workload.name.as_str()) {
                projection.shift(workload, from.as_str(), workload.node.as_str());
            }
        }
        projection
    }

    /// By name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'a Node> {
        self.nodes.values().copied()
    }

    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        self.nodes.get(name).copied()
    }

    pub(crate) fn load(&self, node: &Node) -> Load {
        self.loads.get(node.name.as_str()).copied().unwrap_or(Load { cpu: None, memory: None })
    }

    /// The load of `destination` once `workload` is there too.
    pub(crate) fn load_with(&self, workload: &Workload, source: &Node, destination: &Node) -> Load {
        let (now, more) = (self.load(destination), Share::of(workload, source, destination));
        Load { cpu: now.cpu.map(|cpu| cpu + more.cpu), memory: now.memory.map(|memory| memory + more.memory) }
    }

    /// Where a workload that is migrating goes.
    pub(crate) fn flying_to(&self, workload: &Workload) -> Option<&'a str> {
        self.flying.get(workload.name.as_str()).copied()
    }

    pub(crate) fn moves(&self, node: &Node) -> u32 {
        self.moves.get(node.name.as_str()).copied().unwrap_or(0)
    }

    pub(crate) fn moves_total(&self) -> u32 {
        self.moves_total
    }

    /// When a workload last left the node; in the future if one is about to.
    pub(crate) fn last_left(&self, node: &Node) -> Option<Timestamp> {
        self.last_left.get(node.name.as_str()).copied()
    }

    pub(crate) fn rtt_ms(&self, a: &Node, b: &Node) -> Option<f64> {
        self.either_way(a, b, |link| link.rtt_ms)
    }

    pub(crate) fn bandwidth_mbps(&self, from: &Node, to: &Node) -> Option<f64> {
        self.either_way(from, to, |link| link.bandwidth_mbps).filter(|mbps| *mbps > 0.0)
    }

    fn either_way(&self, a: &Node, b: &Node, read: impl Fn(&Link) -> Option<f64>) -> Option<f64> {
        let (a, b) = (a.name.as_str(), b.name.as_str());
        let there = self.links.get(&(a, b)).and_then(|link| read(link));
        there.or_else(|| self.links.get(&(b, a)).and_then(|link| read(link))).filter(|value| value.is_finite())
    }

    /// Plans a move.
    pub(crate) fn plan(&mut self, workload: &'a Workload, source: &'a Node, destination: &'a Node) {
        self.flying.insert(workload.name.as_str(), destination.name.as_str());
        self.count(source.name.as_str(), destination.name.as_str());
        self.shift(workload, source.name.as_str(), destination.name.as_str());
    }

    fn count(&mut self, from: &'a str, to: &'a str) {
        *self.moves.entry(from).or_default() += 1;
        *self.moves.entry(to).or_default() += 1;
        self.moves_total += 1;
        self.last_left.insert(from, Timestamp::MAX);
    }

    fn shift(&mut self, workload: &Workload, from: &str, to: &str) {
        let (Some(source), Some(destination)) = (self.node(from), self.node(to)) else { return };
        let (less, more) = (Share::of(workload, source, source), Share::of(workload, source, destination));
        if let Some(load) = self.loads.get_mut(from) {
            load.cpu = load.cpu.map(|cpu| (cpu - less.cpu).max(0.0));
            load.memory = load.memory.map(|memory| (memory - less.memory).max(0.0));
        }
        if let Some(load) = self.loads.get_mut(to) {
            load.cpu = load.cpu.map(|cpu| cpu + more.cpu);
            load.memory = load.memory.map(|memory| memory + more.memory);
        }
    }
}

/// What a workload takes of a node, as fractions of the node's capacity, finite and 0 or more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

impl Share {
    /// What `workload`, measured on `source`, takes on `node`. Slower cores need more of them for the same work.
    pub(crate) fn of(workload: &Workload, source: &Node, node: &Node) -> Self {
        let cpu = workload.cpus * (source.cpu_score / node.cpu_score) / node.cpus;
        let memory = workload.memory_bytes as f64 / node.memory_bytes.max(1) as f64;
        let sane = |share: f64| if share.is_finite() { share.max(0.0) } else { 0.0 };
        Self { cpu: sane(cpu), memory: sane(memory) }
    }
}
