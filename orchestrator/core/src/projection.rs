//! The cluster as it will be once every move that is planned or under way is done.
//!
//! Nodes are known by their place in the order of their names (`usize` here), so that a tie decided by the lower place is
//! one decided by name, and so that a large cluster is planned without looking names up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use jiff::Timestamp;

use crate::availability::seconds;
use crate::constraint::Peers;
use crate::coordinate::Coordinate;
use crate::model::{Link, Node, Snapshot, Workload};
use crate::overload::{self, Metric, Overload, overloads};
use crate::policy::{Constraint, Effect, Policy};
use crate::score::weights;

/// Overload that shows in this share of the samples has lasted: load is never even.
const LASTS: f64 = 0.8;

/// Hashes with a fixed key: the same from run to run. Used for lookup only, never iterated over.
pub(crate) type Lookup<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Overload that may pass by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Passing {
    /// Only bursts cause it; what the node would be at without them.
    Burst {
        /// A fraction of its cores.
        without: f64,
    },
    /// It is hardly over the threshold.
    Slight,
    /// The last sample is below `done`: the median has not caught up.
    Ending {
        /// The last sample, a fraction of its cores.
        last: f64,
    },
}

/// Utilization of a node, as fractions of its capacity; `None` if not measured. Can exceed 1: demand, not use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) cpu: Option<f64>,
    pub(crate) memory: Option<f64>,
    /// The disk that holds Docker's data, with all that is on its way there. What leaves frees nothing: it does so only when
    /// its migration is over.
    pub(crate) disk: Option<f64>,
}

/// A node, as no plan changes it.
struct Seen<'a> {
    node: &'a Node,
    /// As measured, the worst first.
    overloads: Vec<Overload>,
    /// It is being emptied: because a person said so, or this window.
    draining: Option<Draining<'a>>,
    /// The window in which nothing moves from or to it.
    frozen: Option<&'a str>,
    /// The nodes that a link leads to or from.
    neighbours: Vec<usize>,
    /// What bursts take of it, as a fraction of its cores.
    burst: f64,
}

/// What is projected for a node.
#[derive(Clone, Copy)]
struct State {
    load: Load,
    /// Moves from and to it, planned and under way.
    moves: u32,
    /// When a workload last left it; `Timestamp::MAX` if one is about to.
    last_left: Option<Timestamp>,
}

/// Nodes whose states are copied together when the first of them changes.
const SLICE: usize = 64;

/// The states of all nodes. A trial shares them with what it is a trial of, but for those that it changes: a group is
/// tried on dozens of nodes, in a cluster of thousands.
#[derive(Clone)]
struct States(Vec<Arc<Vec<State>>>);

impl States {
    fn new(states: &[State]) -> Self {
        Self(states.chunks(SLICE).map(|slice| Arc::new(slice.to_vec())).collect())
    }

    fn of(&self, at: usize) -> &State {
        &self.0[at / SLICE][at % SLICE]
    }

    fn change(&mut self, at: usize) -> &mut State {
        &mut Arc::make_mut(&mut self.0[at / SLICE])[at % SLICE]
    }
}

/// Why a node is being emptied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Draining<'a> {
    /// A person said so.
    Asked,
    /// This maintenance window is open.
    Window(&'a str),
}

/// The cluster, as no plan changes it.
struct Known<'a> {
    /// By name.
    nodes: Vec<Seen<'a>>,
    index: Lookup<&'a str, usize>,
    links: Lookup<(usize, usize), &'a Link>,
}

/// Cheap to clone, to try something out.
#[derive(Clone)]
pub(crate) struct Projection<'a> {
    known: Arc<Known<'a>>,
    states: States,
    /// Where a workload is going.
    flying: Arc<BTreeMap<&'a str, &'a str>>,
    moves_total: u32,
    /// For each of the policy's constraints, where those are that it wants together or apart.
    peers: Arc<Vec<Option<Peers>>>,
    /// The policy's weights, in the order of `FactorName::ALL`, as shares of their sum.
    pub(crate) weights: [f64; 8],
    /// The most that any node has: cores times their speed, and bytes of memory.
    largest: (f64, f64),
    now: Timestamp,
}

impl<'a> Known<'a> {
    /// Of these nodes, in the order of their names.
    fn new(nodes: &[&'a Node], snapshot: &'a Snapshot, policy: &'a Policy, now: Timestamp) -> Self {
        let open: Vec<_> = policy.windows.iter().filter(|window| window.is_open(now)).collect();
        let window = |node: &Node, effect: Effect| {
            let found = open.iter().find(|window| window.effect == effect && window.concerns(node));
            found.map(|window| window.name.as_str())
        };
        let seen = |node: &&'a Node| Seen {
            draining: match node.draining {
                true => Some(Draining::Asked),
                false => window(node, Effect::Drain).map(Draining::Window),
            },
            frozen: window(node, Effect::Freeze),
            node,
            overloads: overloads(node, policy),
            neighbours: Vec::new(),
            burst: 0.0,
        };
        let mut known = Self {
            index: nodes.iter().enumerate().map(|(at, node)| (node.name.as_str(), at)).collect(),
            nodes: nodes.iter().map(seen).collect(),
            links: Lookup::default(),
        };
        for link in &snapshot.links {
            let ends = (known.find(link.from.as_str()), known.find(link.to.as_str()));
            let (Some(from), Some(to)) = ends else { continue };
            known.links.insert((from, to), link);
            known.nodes[from].neighbours.push(to);
            known.nodes[to].neighbours.push(from);
        }
        known.see_bursts(snapshot, policy);
        known
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn see_bursts(&mut self, snapshot: &Snapshot, policy: &Policy) {
        if policy.burst.wait_s <= 0.0 {
            return;
        }
        for workload in &snapshot.workloads {
            let Some(usual) = workload.cpus_usual.filter(|usual| workload.cpus > usual * policy.burst.factor) else {
                continue;
            };
            if let Some(at) = self.find(workload.node.as_str()) {
                let seen = &mut self.nodes[at];
                seen.burst += sane((workload.cpus - usual) / seen.node.cpus);
            }
        }
    }
}

impl<'a> Projection<'a> {
    /// Everything is put into an order of its own, so that the order of the snapshot's lists never matters.
    pub(crate) fn new(snapshot: &'a Snapshot, policy: &'a Policy, now: Timestamp) -> Self {
        let mut nodes: Vec<&Node> = snapshot.nodes.iter().rev().collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        let known = Known::new(&nodes, snapshot, policy, now);
        let state = |node: &&Node| State {
            load: Load {
                cpu: overload::cpu(node, policy),
                memory: node.memory.filter(|m| m.is_finite()),
                disk: node.disk.filter(|disk| disk.is_finite() && node.disk_bytes.is_some()),
            },
            moves: 0,
            last_left: None,
        };
        let largest = |of: fn(&Node) -> f64| nodes.iter().map(|node| of(node)).fold(0.0, f64::max);
        let mut peers: Vec<_> = policy.constraints.iter().map(|constraint| Peers::new(constraint, &nodes)).collect();
        for (constraint, peers) in policy.constraints.iter().zip(&mut peers) {
            let Some(peers) = peers else { continue };
            for workload in snapshot.workloads.iter().filter(|workload| constraint.concerns(workload)) {
                let flight = snapshot.in_flight.iter().find(|flight| flight.workload == workload.name);
                let node = flight.map_or(&workload.node, |flight| &flight.to);
                known.find(node.as_str()).into_iter().for_each(|at| peers.add(at));
            }
        }
        let mut projection = Self {
            largest: (largest(|node| node.cpus * node.cpu_score), largest(|node| node.memory_bytes as f64)),
            states: States::new(&nodes.iter().map(state).collect::<Vec<_>>()),
            known: Arc::new(known),
            flying: Arc::default(),
            moves_total: 0,
            peers: Arc::new(peers),
            weights: weights(policy),
            now,
        };
        projection.project(snapshot, policy, now);
        projection
    }

    /// Why an overloaded node is left alone for a while; `None` if it is not, or no longer.
    pub(crate) fn passing(&self, at: usize, policy: &Policy) -> Option<Passing> {
        let seen = &self.known.nodes[at];
        let [Overload { metric: Metric::Cpu, value, threshold }] = seen.overloads[..] else { return None };
        let samples = (policy.burst.wait_s / policy.sampling.interval_s).ceil().clamp(0.0, 1e6) as usize;
        let window = &seen.node.cpu_window;
        let last = &window[window.len().saturating_sub(samples)..];
        let hot = last.iter().filter(|cpu| **cpu >= threshold.start).count();
        let complete = last.len() == samples;
        if let Some(last) = last.last().filter(|cpu| samples > 0 && **cpu < threshold.done) {
            return Some(Passing::Ending { last: *last });
        }
        let often = seen.node.cpu_hot.is_some_and(|share| share >= policy.burst.often);
        if samples == 0 || often || complete && hot as f64 >= LASTS * samples as f64 {
            return None;
        }
        let without = value - seen.burst;
        if without < threshold.start.min(policy.burst.under) {
            return Some(Passing::Burst { without: without.max(0.0) });
        }
        // A history that is too short to tell is no reason to wait.
        (complete && value < threshold.start + policy.burst.slight).then_some(Passing::Slight)
    }

    fn project(&mut self, snapshot: &'a Snapshot, policy: &'a Policy, now: Timestamp) {
        let mut flights: Vec<_> = snapshot.in_flight.iter().collect();
        flights.sort_by_key(|flight| &flight.workload);
        for flight in &flights {
            Arc::make_mut(&mut self.flying).insert(flight.workload.as_str(), flight.to.as_str());
            self.count(self.find(flight.from.as_str()), self.find(flight.to.as_str()));
        }
        // Only these few have moved; most workloads never do.
        let mut moved: Vec<&Workload> = snapshot
            .workloads
            .iter()
            .filter(|workload| workload.moved_at.is_some() || self.flying.contains_key(workload.name.as_str()))
            .collect();
        moved.sort_by(|a, b| a.name.cmp(&b.name));
        moved.dedup_by(|a, b| a.name == b.name);
        for flight in flights {
            if let Ok(at) = moved.binary_search_by(|workload| workload.name.cmp(&flight.workload)) {
                self.shift(moved[at], self.find(flight.from.as_str()), self.find(flight.to.as_str()));
            }
        }
        // Until the window has passed, samples still show a workload where it was.
        let window = seconds(policy.sampling.interval_s * f64::from(policy.sampling.window));
        for workload in moved {
            let (Some(moved_at), Some(from)) = (workload.moved_at, &workload.last_from) else { continue };
            let from_at = self.find(from.as_str());
            if let Some(at) = from_at {
                let left = &mut self.states.change(at).last_left;
                *left = Some(left.map_or(moved_at, |left| left.max(moved_at)));
            }
            let fresh = moved_at <= now && now.duration_since(moved_at) < window;
            if fresh && *from != workload.node && !self.flying.contains_key(workload.name.as_str()) {
                self.shift(workload, from_at, self.find(workload.node.as_str()));
            }
        }
    }

    /// How many nodes there are; each is known by a number below this.
    pub(crate) fn len(&self) -> usize {
        self.known.nodes.len()
    }

    pub(crate) fn node(&self, at: usize) -> &'a Node {
        self.known.nodes[at].node
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.known.find(name)
    }

    pub(crate) fn draining(&self, at: usize) -> Option<Draining<'a>> {
        self.known.nodes[at].draining
    }

    pub(crate) fn frozen(&self, at: usize) -> Option<&'a str> {
        self.known.nodes[at].frozen
    }

    /// Where those are that the policy's constraint of this index wants together or apart.
    pub(crate) fn peers(&self, constraint: usize) -> Option<&Peers> {
        self.peers.get(constraint)?.as_ref()
    }

    /// What the node suffers from, as measured; the worst first.
    pub(crate) fn overloads(&self, at: usize) -> &[Overload] {
        &self.known.nodes[at].overloads
    }

    /// The nodes that something is known about the way to; some perhaps twice.
    pub(crate) fn neighbours(&self, at: usize) -> &[usize] {
        &self.known.nodes[at].neighbours
    }

    pub(crate) fn load(&self, at: usize) -> Load {
        self.states.of(at).load
    }

    /// The load of `destination` once `workload` is there too.
    pub(crate) fn load_with(&self, workload: &Workload, source: usize, destination: usize) -> Load {
        let (now, more) = (self.load(destination), self.share(workload, source, destination));
        Load {
            cpu: now.cpu.map(|cpu| cpu + more.cpu),
            memory: now.memory.map(|memory| memory + more.memory),
            disk: now.disk.map(|disk| disk + more.disk),
        }
    }

    /// What `workload`, measured on `source`, takes of `node`.
    pub(crate) fn share(&self, workload: &Workload, source: usize, node: usize) -> Share {
        Share::of(workload, self.node(source), self.node(node))
    }

    /// The least that `workload` takes of any node.
    pub(crate) fn least_share(&self, workload: &Workload, source: usize) -> Share {
        let (cpus, memory) = self.largest;
        Share {
            cpu: sane(workload.cpus * self.node(source).cpu_score / cpus),
            memory: sane(workload.memory_bytes as f64 / memory.max(1.0)),
            disk: 0.0,
        }
    }

    /// Where a workload that is migrating goes.
    pub(crate) fn flying_to(&self, workload: &Workload) -> Option<&'a str> {
        self.flying.get(workload.name.as_str()).copied()
    }

    pub(crate) fn moves(&self, at: usize) -> u32 {
        self.states.of(at).moves
    }

    pub(crate) fn moves_total(&self) -> u32 {
        self.moves_total
    }

    /// When a workload last left the node; in the future if one is about to.
    pub(crate) fn last_left(&self, at: usize) -> Option<Timestamp> {
        self.states.of(at).last_left
    }

    /// Whether `workload` left `at` last, within `cooldown.longest_s`: it may have to return, but rather goes elsewhere.
    pub(crate) fn came_from(&self, workload: &Workload, at: usize, policy: &Policy) -> bool {
        let lately = |then: Timestamp| self.now.duration_since(then) < seconds(policy.cooldown.longest_s);
        workload.moved_at.is_some_and(lately) && workload.last_from.as_ref() == Some(&self.node(at).name)
    }

    pub(crate) fn rtt_ms(&self, a: usize, b: usize) -> Option<f64> {
        self.either_way(a, b, |link| link.rtt_ms).or_else(|| {
            let place = |at: usize| self.known.nodes[at].node.coordinate.filter(Coordinate::is_known);
            Some(place(a)?.rtt_ms(&place(b)?)).filter(|rtt_ms| rtt_ms.is_finite())
        })
    }

    /// Whether delays may be known that no link tells.
    pub(crate) fn has_coordinates(&self) -> bool {
        self.known.nodes.iter().any(|seen| seen.node.coordinate.is_some())
    }

    pub(crate) fn bandwidth_mbps(&self, from: usize, to: usize) -> Option<f64> {
        self.either_way(from, to, |link| link.bandwidth_mbps).filter(|mbps| *mbps > 0.0)
    }

    fn either_way(&self, a: usize, b: usize, read: impl Fn(&Link) -> Option<f64>) -> Option<f64> {
        let there = self.known.links.get(&(a, b)).and_then(|link| read(link));
        there.or_else(|| self.known.links.get(&(b, a)).and_then(|link| read(link))).filter(|value| value.is_finite())
    }

    /// Plans a move.
    pub(crate) fn plan(&mut self, policy: &Policy, workload: &'a Workload, source: usize, destination: usize) {
        let destination_name = self.node(destination).name.as_str();
        Arc::make_mut(&mut self.flying).insert(workload.name.as_str(), destination_name);
        self.count(Some(source), Some(destination));
        self.shift(workload, Some(source), Some(destination));
        let concern = |constraint: &Constraint| constraint.concerns(workload);
        if !policy.constraints.iter().any(concern) {
            return;
        }
        let constraints = policy.constraints.iter().zip(Arc::make_mut(&mut self.peers));
        for (_, peers) in constraints.filter(|(constraint, _)| concern(constraint)) {
            peers.iter_mut().for_each(|peers| peers.shift(source, destination));
        }
    }

    /// Keeps a part of a node for a workload that is there.
    pub(crate) fn reserve(&mut self, at: usize, share: Share) {
        let load = &mut self.states.change(at).load;
        load.cpu = load.cpu.map(|cpu| cpu + share.cpu);
        load.memory = load.memory.map(|memory| memory + share.memory);
    }

    fn count(&mut self, from: Option<usize>, to: Option<usize>) {
        for at in [from, to].into_iter().flatten() {
            self.states.change(at).moves += 1;
        }
        self.moves_total += 1;
        if let Some(from) = from {
            self.states.change(from).last_left = Some(Timestamp::MAX);
        }
    }

    fn shift(&mut self, workload: &Workload, from: Option<usize>, to: Option<usize>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let (less, more) = (self.share(workload, from, from), self.share(workload, from, to));
        let load = &mut self.states.change(from).load;
        load.cpu = load.cpu.map(|cpu| (cpu - less.cpu).max(0.0));
        load.memory = load.memory.map(|memory| (memory - less.memory).max(0.0));
        let load = &mut self.states.change(to).load;
        load.cpu = load.cpu.map(|cpu| cpu + more.cpu);
        load.memory = load.memory.map(|memory| memory + more.memory);
        load.disk = load.disk.map(|disk| disk + more.disk);
    }
}

/// What a workload takes of a node, as fractions of the node's capacity, finite and 0 or more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
    pub(crate) disk: f64,
}

impl Share {
    /// What `workload`, measured on `source`, takes on `node`. Slower cores need more of them for the same work.
    fn of(workload: &Workload, source: &Node, node: &Node) -> Self {
        let cpu = workload.cpus * (source.cpu_score / node.cpu_score) / node.cpus;
        let memory = workload.memory_bytes as f64 / node.memory_bytes.max(1) as f64;
        let disk = node.disk_bytes.map_or(0.0, |size| workload.disk_bytes as f64 / size.max(1) as f64);
        Self { cpu: sane(cpu), memory: sane(memory), disk }
    }
}

fn sane(share: f64) -> f64 {
    if share.is_finite() { share.max(0.0) } else { 0.0 }
}

/// The workloads of every node, and those on their way to it.
pub(crate) fn hosts<'a>(snapshot: &'a Snapshot, projection: &Projection<'a>) -> Vec<Vec<&'a Workload>> {
    let mut hosts = vec![Vec::new(); projection.len()];
    for workload in &snapshot.workloads {
        let node = projection.flying_to(workload).unwrap_or(workload.node.as_str());
        if let Some(at) = projection.find(node) {
            hosts[at].push(workload);
        }
    }
    hosts
}
