//! What is known now: nodes, workloads, who owns what, what is moving. Kept in memory, fed by `ingest` and `driver`.
//!
//! Ownership decides where a workload is; a node's report only says what the owner's container does. A report from
//! anybody else is the frozen or held copy of a migration, or a second container of the same name, and moves nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use fog_api::agent::{LinkSample, Peer, Sample, WorkloadSample};
use fog_api::migration::{Migration, Phase};
use fog_api::workload::WorkloadState;
use fog_core::coordinate::Coordinate;
use fog_core::model::Labels;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::delays::{Delays, Step};
use crate::record;
use crate::seen::{Common, Seen};
use crate::store::{GivenLimits, Ownership, StoredNode};
use crate::usual::{Hot, Usual};

/// Reports in a row without a container before its owner is believed to have lost it: one list may have been read
/// just before the container arrived.
const MISSING_REPORTS: u32 = 2;

/// A node and its newest samples.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its name, shared by all that name it.
    pub name: Arc<str>,
    /// What its agent said at its last hello.
    pub stored: StoredNode,
    /// Its labels, as the planner shares them.
    pub labels: Labels,
    /// The newest sample.
    pub latest: Option<Sample>,
    /// CPU of the newest samples, oldest first.
    pub cpu_window: VecDeque<f64>,
    /// How often it was hot lately.
    pub hot: Hot,
    /// The workloads that it owns.
    pub owned: BTreeSet<Arc<str>>,
    /// When listeners were last told of it.
    pub told_at: Option<Timestamp>,
    /// Where it is in the network.
    pub coordinate: Coordinate,
    /// Nodes that something is about to be moved to from here, to be measured first, since when.
    pub wanted: BTreeMap<String, Timestamp>,
    /// Its round trips to others, for the history.
    delays: Delays,
    /// Of the peers that its agent was last told of.
    told_peers: u64,
}

impl NodeView {
    fn new(stored: StoredNode) -> Self {
        Self {
            name: stored.name.as_str().into(),
            labels: stored.facts.labels.clone().into(),
            stored,
            latest: None,
            cpu_window: VecDeque::new(),
            hot: Hot::default(),
            owned: BTreeSet::new(),
            told_at: None,
            coordinate: Coordinate::default(),
            wanted: BTreeMap::new(),
            delays: Delays::default(),
            told_peers: 0,
        }
    }

    /// The node as agents need to know it.
    pub fn peer(&self) -> Peer {
        Peer {
            node: self.stored.name.clone(),
            transfer_address: self.stored.transfer_address.clone(),
            runc: self.stored.facts.runc.clone(),
        }
    }
}

/// A workload as its owner reports it.
#[derive(Debug, Clone)]
pub struct WorkloadView {
    /// The owner.
    pub node: Arc<str>,
    /// The owner's newest report.
    pub sample: Seen,
    /// When that report arrived.
    pub seen_at: Timestamp,
    /// Cores used in the owner's newest reports, oldest first.
    pub cpus_window: VecDeque<f64>,
    /// What it uses on average.
    pub usual: Usual,
    missing: u32,
}

/// What is kept and told apart of a node's samples.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// How many CPU values are kept.
    pub window: usize,
    /// CPU utilization at which a node is hot.
    pub hot: f64,
}

/// A migration under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// The migration.
    pub migration: Uuid,
    /// From.
    pub source: String,
    /// To.
    pub destination: String,
}

/// How a workload's migrations ended lately.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// When each of the moves of the last day began, oldest first.
    pub moves: Vec<Timestamp>,
    /// When the last migration was rolled back or failed, unless one went well since.
    pub failed_at: Option<Timestamp>,
    /// How many did so since one went well.
    pub failures: u32,
    /// How long the last one that went well took, in seconds.
    pub took_s: Option<f64>,
    /// What the last ones that went well took, oldest first.
    pub earlier: Vec<fog_core::model::Earlier>,
}

/// So many of them are kept: what is old says little of how a workload is now.
const EARLIER: usize = 8;

/// A change of ownership that a report brought about, to be stored.
#[derive(Debug, Clone)]
pub enum Change {
    /// The node shows a container that nobody owns.
    Claimed(Ownership, Box<WorkloadSample>),
    /// The owner no longer has it.
    Released(Ownership, Option<Box<WorkloadView>>),
}

impl Change {
    /// The row as it is to be stored.
    pub fn row(&self) -> Ownership {
        match self {
            Self::Claimed(row, _) => row.clone(),
            Self::Released(row, _) => Ownership { owner: None, ..row.clone() },
        }
    }
}

/// Who owns a workload: [`Ownership`] without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its node; `None`: the container is gone, the row keeps its epoch.
    pub owner: Option<Arc<str>>,
    /// Rises with every change of owner.
    pub epoch: u64,
    /// When the last migration committed.
    pub moved_at: Option<Timestamp>,
    /// Where it came from then.
    pub moved_from: Option<Arc<str>>,
}

impl Owner {
    fn row(&self, workload: &str) -> Ownership {
        Ownership {
            workload: workload.to_owned(),
            owner: self.owner.as_deref().map(str::to_owned),
            epoch: self.epoch,
            moved_at: self.moved_at,
            moved_from: self.moved_from.as_deref().map(str::to_owned),
        }
    }
}

/// The whole picture.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Every node that ever said hello.
    pub nodes: BTreeMap<String, NodeView>,
    /// Every workload that its owner reports.
    pub workloads: BTreeMap<Arc<str>, Box<WorkloadView>>,
    /// Who owns what.
    pub ownership: BTreeMap<Arc<str>, Owner>,
    /// Workloads whose fate in a migration is not decided.
    pub moving: BTreeMap<String, Moving>,
    /// How migrations ended lately.
    pub history: BTreeMap<String, History>,
    /// The limits of workloads that the planner has changed.
    pub limits: BTreeMap<String, GivenLimits>,
    /// When a person last dismissed what was proposed for a workload.
    pub dismissed: BTreeMap<String, Timestamp>,
    /// The nodes' names, sorted.
    pub names: Vec<String>,
    /// Steps of the delays' history that are over and not stored.
    pub delays_over: Vec<Step>,
    common: Common,
    namesakes: BTreeSet<(String, String)>,
}

impl Fleet {
    /// The picture after a start: what the store knows, without any report yet.
    pub fn new(nodes: Vec<StoredNode>, ownership: Vec<Ownership>, ended: &[Migration]) -> Self {
        let mut fleet = Self {
            nodes: nodes.into_iter().map(|stored| (stored.name.clone(), NodeView::new(stored))).collect(),
            ..Self::default()
        };
        fleet.names = fleet.nodes.keys().cloned().collect();
        ownership.iter().for_each(|row| fleet.own(row));
        for migration in ended.iter().rev() {
            fleet.ended(migration);
        }
        fleet
    }

    /// After a start: whoever was there when the last heartbeat of all arrived gets the same time to come back that any
    /// silence is given. It was the orchestrator that was away.
    pub fn restarted(&mut self, now: Timestamp, offline: SignedDuration) {
        let ended_at = self.nodes.values().filter_map(|view| view.stored.heartbeat_at).max();
        for view in self.nodes.values_mut() {
            let was_there =
                ended_at.zip(view.stored.heartbeat_at).is_some_and(|(end, at)| end.duration_since(at) < offline);
            if was_there {
                view.stored.heartbeat_at = Some(now);
            }
        }
    }

    /// An agent introduced its node.
    pub fn hello(&mut self, node: StoredNode) {
        match self.nodes.get_mut(&node.name) {
            Some(view) => {
                let StoredNode { heartbeat_at, order, .. } = view.stored;
                view.labels = node.facts.labels.clone().into();
                view.stored = StoredNode { heartbeat_at, order, ..node };
            }
            None => {
                let at = self.names.binary_search(&node.name).unwrap_or_else(|at| at);
                self.names.insert(at, node.name.clone());
                self.nodes.insert(node.name.clone(), NodeView::new(node));
            }
        }
    }

    /// Samples of a node arrived, oldest first. What nobody owned so far is shown only after [`Fleet::stored`]: a migration of
    /// it would not find its owner in the store.
    pub fn heartbeat(&mut self, node: &str, mut samples: Vec<Sample>, watch: Watch, now: Timestamp) -> Vec<Change> {
        let Watch { window, hot } = watch;
        let small = crate::peers::is_small(self);
        let Some(view) = self.nodes.get_mut(node) else { return Vec::new() };
        view.stored.heartbeat_at = Some(now);
        view.cpu_window.extend(samples.iter().map(|sample| sample.cpu));
        samples.iter().for_each(|sample| view.hot.learn(sample.cpu >= hot, sample.at));
        for sample in &samples {
            let at_ms = sample.at.min(now).as_millisecond();
            view.delays.learn(&view.name, at_ms, &sample.links, small, &mut self.delays_over);
        }
        let surplus = view.cpu_window.len().saturating_sub(window);
        view.cpu_window.drain(..surplus);
        let Some(mut newest) = samples.pop() else { return Vec::new() };
        let workloads = newest.workloads.take();
        self.locate(node, &newest.links);
        if let Some(view) = self.nodes.get_mut(node) {
            view.latest = Some(newest);
        }
        match workloads {
            Some(workloads) => self.report(node, workloads, window, now),
            None => Vec::new(),
        }
    }

    /// Moves the node in the network's space by what it measured.
    fn locate(&mut self, node: &str, links: &[LinkSample]) {
        let Some(mut coordinate) = self.nodes.get(node).map(|view| view.coordinate) else { return };
        for link in links {
            if let (Some(peer), Some(rtt_ms)) = (self.nodes.get(&link.to), link.rtt_ms) {
                // Any direction will do, if only different nodes get different ones.
                let mut hasher = std::hash::DefaultHasher::new();
                (node, &link.to).hash(&mut hasher);
                let seed = hasher.finish();
                let direction = std::array::from_fn(|at| ((seed >> (16 * at)) & 0xffff) as f64 - 32_767.5);
                coordinate = coordinate.measured(&peer.coordinate, rtt_ms, direction);
            }
        }
        if let Some(view) = self.nodes.get_mut(node) {
            view.coordinate = coordinate;
        }
    }

    /// Whether the newest sample of `from` holds a round trip to `to`.
    pub fn measured(&self, from: &str, to: &str) -> bool {
        let newest = self.nodes.get(from).and_then(|view| view.latest.as_ref());
        newest.is_some_and(|sample| sample.links.iter().any(|link| link.to == to && link.rtt_ms.is_some()))
    }

    /// The node's peers, if they are not those that its agent was told of.
    pub fn new_peers(&mut self, node: &str, now: Timestamp) -> Option<Vec<Peer>> {
        let peers = crate::peers::of(self, node, now);
        let mut hasher = std::hash::DefaultHasher::new();
        peers.hash(&mut hasher);
        let told = hasher.finish();
        let view = self.nodes.get_mut(node).filter(|view| view.told_peers != told)?;
        view.told_peers = told;
        Some(peers)
    }

    fn report(&mut self, node: &str, reported: Vec<WorkloadSample>, window: usize, now: Timestamp) -> Vec<Change> {
        let mut changes = self.missing(node, &reported);
        for sample in reported {
            let row = self.ownership.get(sample.name.as_str());
            let owner = row.and_then(|row| row.owner.as_deref());
            if owner.is_none() && !self.moving.contains_key(&sample.name) {
                let row = Ownership {
                    workload: sample.name.clone(),
                    owner: Some(node.to_owned()),
                    epoch: row.map_or(1, |row| row.epoch + 1),
                    moved_at: None,
                    moved_from: None,
                };
                self.own(&row);
                changes.push(Change::Claimed(row, Box::new(sample)));
            } else if owner != Some(node) {
                self.namesake(node, &sample.name);
            } else if let Some(view) = self.workloads.get_mut(sample.name.as_str())
                && *view.node == *node
            {
                if sample.state == WorkloadState::Running {
                    view.usual.learn(sample.cpus, now.duration_since(view.seen_at).as_secs_f64());
                }
                view.cpus_window.push_back(sample.cpus);
                view.cpus_window.drain(..view.cpus_window.len().saturating_sub(window));
                view.sample.update(sample, &mut self.common);
                view.seen_at = now;
                view.missing = 0;
            } else {
                self.show(node, sample, now);
            }
        }
        changes
    }

    fn show(&mut self, node: &str, sample: WorkloadSample, now: Timestamp) {
        let name = self.name_of(&sample.name);
        let node = self.node_name(node);
        let cpus_window = VecDeque::from([sample.cpus]);
        let sample = Seen::new(sample, &mut self.common);
        let view = WorkloadView { node, sample, seen_at: now, cpus_window, usual: Usual::default(), missing: 0 };
        self.workloads.insert(name, Box::new(view));
    }

    /// Takes a row over, in every place that says who owns what.
    fn own(&mut self, row: &Ownership) {
        let name = self.name_of(&row.workload);
        let owner = Owner {
            owner: row.owner.as_deref().map(|owner| self.node_name(owner)),
            epoch: row.epoch,
            moved_at: row.moved_at,
            moved_from: row.moved_from.as_deref().map(|from| self.node_name(from)),
        };
        let before = self.ownership.insert(Arc::clone(&name), owner).and_then(|before| before.owner);
        if let Some(view) = before.and_then(|owner| self.nodes.get_mut(&*owner)) {
            view.owned.remove(&*row.workload);
        }
        if let Some(view) = row.owner.as_ref().and_then(|owner| self.nodes.get_mut(owner)) {
            view.owned.insert(name);
        }
    }

    /// The row of a workload, as it is stored.
    fn row(&self, workload: &str) -> Option<Ownership> {
        self.ownership.get(workload).map(|owner| owner.row(workload))
    }

    /// The workload's name as everything here shares it.
    fn name_of(&self, workload: &str) -> Arc<str> {
        self.ownership.get_key_value(workload).map_or_else(|| workload.into(), |(name, _)| Arc::clone(name))
    }

    /// The node's name as everything here shares it.
    fn node_name(&self, node: &str) -> Arc<str> {
        self.nodes.get(node).map_or_else(|| node.into(), |view| Arc::clone(&view.name))
    }

    fn missing(&mut self, node: &str, reported: &[WorkloadSample]) -> Vec<Change> {
        let there: BTreeSet<&str> = reported.iter().map(|sample| sample.name.as_str()).collect();
        let owned = self.nodes.get(node).map(|view| &view.owned);
        let gone = owned.into_iter().flatten().filter(|name| !there.contains(&***name));
        let gone: Vec<Arc<str>> = gone.filter(|name| !self.moving.contains_key(&***name)).cloned().collect();
        let mut released = Vec::new();
        for name in gone {
            let missing = self.workloads.get_mut(&name).map_or(MISSING_REPORTS, |view| {
                view.missing += 1;
                view.missing
            });
            if missing >= MISSING_REPORTS
                && let Some(row) = self.row(&name)
            {
                self.own(&Ownership { owner: None, ..row.clone() });
                let view = self.workloads.remove(&name);
                released.push(Change::Released(row, view));
            }
        }
        released
    }

    /// What a report brought about is stored: it is shown.
    pub fn stored(&mut self, node: &str, changes: &[Change], now: Timestamp) {
        for change in changes {
            match change {
                Change::Claimed(row, sample) if self.row(&row.workload).as_ref() == Some(row) => {
                    self.show(node, (**sample).clone(), now);
                }
                Change::Claimed(..) => {}
                Change::Released(row, _) => drop(self.limits.remove(&row.workload)),
            }
        }
    }

    /// What a report brought about could not be stored: it has not happened, and the next report brings it about again.
    pub fn not_stored(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Claimed(row, _) if self.row(&row.workload).as_ref() == Some(&row) => {
                    self.own(&Ownership { owner: None, epoch: row.epoch - 1, ..row });
                }
                Change::Released(row, view)
                    if self.ownership.get(&*row.workload).is_some_and(|now| now.owner.is_none()) =>
                {
                    self.own(&row);
                    let name = self.name_of(&row.workload);
                    self.workloads.extend(view.map(|view| (name, view)));
                }
                _ => {}
            }
        }
    }

    fn namesake(&mut self, node: &str, workload: &str) {
        let part_of_it = self.moving.get(workload).is_some_and(|m| m.source == node || m.destination == node);
        if !part_of_it && self.namesakes.insert((workload.to_owned(), node.to_owned())) {
            let owner = self.ownership.get(workload).and_then(|row| row.owner.clone());
            tracing::warn!(
                workload,
                node,
                owner = owner.as_deref(),
                "a second container has this name; Fogshift knows workloads by their names and leaves it alone: rename it"
            );
        }
    }

    /// A migration was written down.
    pub fn begun(&mut self, migration: &Migration) {
        let moving = Moving {
            migration: migration.id,
            source: migration.source.clone(),
            destination: migration.destination.clone(),
        };
        self.moving.insert(migration.workload.clone(), moving);
    }

    /// The ownership is durable: the commit's, to the destination, or that of a person's word.
    pub fn committed(&mut self, migration: &Migration, owner: &str, epoch: u64, now: Timestamp) {
        let workload = &migration.workload;
        self.own(&Ownership {
            workload: workload.clone(),
            owner: Some(owner.to_owned()),
            epoch,
            moved_at: Some(now),
            moved_from: Some(migration.source.clone()),
        });
        let owner = self.node_name(owner);
        if let Some(view) = self.workloads.get_mut(workload.as_str()) {
            view.node = owner;
            view.missing = 0;
        }
        self.seen_running(workload);
    }

    /// The last report was of the frozen container; it has been seen running since.
    fn seen_running(&mut self, workload: &str) {
        if let Some(view) = self.workloads.get_mut(workload) {
            view.sample.state = WorkloadState::Running;
        }
    }

    /// The workload's fate in a migration is decided.
    pub fn ended(&mut self, migration: &Migration) {
        if self.moving.get(&migration.workload).is_some_and(|moving| moving.migration == migration.id) {
            self.moving.remove(&migration.workload);
        }
        if migration.phase == Phase::RolledBack {
            self.seen_running(&migration.workload);
        }
        let history = self.history.entry(migration.workload.clone()).or_default();
        match migration.phase {
            Phase::Done => {
                let day_ago = migration.created_at - SignedDuration::from_hours(24);
                history.moves.retain(|at| *at > day_ago);
                history.moves.push(migration.created_at);
                history.failed_at = None;
                history.failures = 0;
                if let Some(earlier) = record::earlier(migration) {
                    history.earlier.drain(..(history.earlier.len() + 1).saturating_sub(EARLIER));
                    history.earlier.push(earlier);
                }
                history.took_s =
                    migration.finished_at.map(|end| end.duration_since(migration.created_at).as_secs_f64().max(0.0));
            }
            Phase::RolledBack | Phase::Failed => {
                history.failed_at = migration.finished_at.or(Some(migration.created_at));
                history.failures += 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fog_api::agent::NodeFacts;

    use super::*;
    use crate::store::NodeOrder;

    fn workload(name: &str) -> WorkloadSample {
        WorkloadSample {
            name: name.into(),
            container: "c0ffee".into(),
            image: "fog/busybox:1".into(),
            state: WorkloadState::Running,
            cpus: 0.01,
            memory_bytes: 1 << 20,
            disk_bytes: None,
            processes: Some(1),
            dirty_bytes_per_s: None,
            cpus_limit: None,
            memory_limit_bytes: None,
            labels: BTreeMap::new(),
            obstacles: Vec::new(),
            bind_mounts: Vec::new(),
        }
    }

    fn sample(workloads: Option<&[&str]>) -> Sample {
        Sample {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            cpu: 0.5,
            run_queue: 1.0,
            load1: 0.5,
            memory: 0.5,
            pressure: None,
            disk: 0.5,
            network_received_bytes_per_s: 0.0,
            network_sent_bytes_per_s: 0.0,
            temperature_c: None,
            workloads: workloads.map(|names| names.iter().map(|name| workload(name)).collect()),
            links: Vec::new(),
        }
    }

    fn fleet() -> Fleet {
        let node = |name: &str| StoredNode {
            name: name.into(),
            agent_version: "0".into(),
            transfer_address: "127.0.0.1:1".into(),
            facts: NodeFacts::default(),
            heartbeat_at: None,
            order: NodeOrder::default(),
        };
        Fleet::new(vec![node("A"), node("B")], Vec::new(), &[])
    }

    const WATCH: Watch = Watch { window: 3, hot: 0.8 };

    fn heartbeat(fleet: &mut Fleet, node: &str, workloads: Option<&[&str]>) -> usize {
        let changes = fleet.heartbeat(node, vec![sample(workloads)], WATCH, Timestamp::UNIX_EPOCH);
        fleet.stored(node, &changes, Timestamp::UNIX_EPOCH);
        changes.len()
    }

    fn owner(fleet: &Fleet) -> Option<&str> {
        fleet.ownership.get("web").and_then(|row| row.owner.as_deref())
    }

    fn migration() -> Migration {
        serde_json::from_value(serde_json::json!({
            "id": Uuid::nil(), "workload": "web", "source": "A", "destination": "B", "strategy": "stop-and-copy",
            "asked_by": "user", "decision": Uuid::nil(), "phase": "done", "cause": null, "progress": null,
            "created_at": "2026-01-01T00:00:00Z", "finished_at": null, "phases": [], "answered": {}, "stages_ms": {},
            "checkpoint_bytes": null, "sent_bytes": null, "downtime_ms": null
        }))
        .unwrap()
    }

    #[test]
    fn the_first_node_that_shows_a_container_owns_it_and_a_namesake_changes_nothing() {
        let mut fleet = fleet();
        assert_eq!(heartbeat(&mut fleet, "A", Some(&["web"])), 1);
        assert_eq!(heartbeat(&mut fleet, "B", Some(&["web"])), 0);
        assert_eq!(owner(&fleet), Some("A"));
    }

    #[test]
    fn a_restart_makes_nobody_offline_who_was_there() {
        let mut fleet = fleet();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        fleet.nodes.get_mut("A").unwrap().stored.heartbeat_at = at(1000);
        fleet.nodes.get_mut("B").unwrap().stored.heartbeat_at = at(900);
        fleet.restarted(at(5000).unwrap(), SignedDuration::from_secs(15));
        assert_eq!(fleet.nodes["A"].stored.heartbeat_at, at(5000));
        assert_eq!(fleet.nodes["B"].stored.heartbeat_at, at(900), "it was away before");
    }

    #[test]
    fn what_is_not_stored_is_not_shown_and_comes_again() {
        let mut fleet = fleet();
        let report = |fleet: &mut Fleet, workloads| {
            fleet.heartbeat("A", vec![sample(Some(workloads))], WATCH, Timestamp::UNIX_EPOCH)
        };
        let claimed = report(&mut fleet, &["web"]);
        assert!(fleet.workloads.is_empty());
        fleet.not_stored(claimed);
        assert_eq!(owner(&fleet), None);
        let claimed = report(&mut fleet, &["web"]);
        assert_eq!(claimed[0].row().epoch, 1);
        fleet.stored("A", &claimed, Timestamp::UNIX_EPOCH);
        assert!(fleet.workloads.contains_key("web"));
        assert!(report(&mut fleet, &[]).is_empty());
        let released = report(&mut fleet, &[]);
        assert_eq!((released[0].row().owner, fleet.nodes["A"].owned.len()), (None, 0));
        fleet.not_stored(released);
        assert_eq!((owner(&fleet), &*fleet.workloads["web"].node), (Some("A"), "A"));
        assert_eq!(report(&mut fleet, &[]).len(), 1);
    }

    #[test]
    fn one_report_without_the_container_is_not_believed_and_two_are() {
        let mut fleet = fleet();
        heartbeat(&mut fleet, "A", Some(&["web"]));
        assert_eq!(heartbeat(&mut fleet, "A", Some(&[])), 0);
        assert_eq!(heartbeat(&mut fleet, "A", None), 0, "a silent Docker says nothing");
        assert_eq!(heartbeat(&mut fleet, "A", Some(&[])), 1);
        assert_eq!(owner(&fleet), None);
        assert_eq!(heartbeat(&mut fleet, "B", Some(&["web"])), 1);
        assert_eq!(fleet.ownership["web"].epoch, 2, "the epoch never falls");
    }

    #[test]
    fn while_it_moves_reports_change_no_owner() {
        let mut fleet = fleet();
        heartbeat(&mut fleet, "A", Some(&["web"]));
        fleet.begun(&migration());
        for _ in 0..3 {
            assert_eq!(heartbeat(&mut fleet, "A", Some(&[])), 0);
            assert_eq!(heartbeat(&mut fleet, "B", Some(&["web"])), 0);
        }
        assert_eq!(owner(&fleet), Some("A"));
        fleet.committed(&migration(), "B", 2, Timestamp::UNIX_EPOCH);
        fleet.ended(&migration());
        assert_eq!(heartbeat(&mut fleet, "B", Some(&["web"])), 0);
        assert_eq!(owner(&fleet), Some("B"));
    }

    #[test]
    fn rolled_back_it_can_be_moved_again_at_once() {
        let mut fleet = fleet();
        heartbeat(&mut fleet, "A", Some(&["web"]));
        fleet.begun(&migration());
        fleet.workloads.get_mut("web").unwrap().sample.state = WorkloadState::Paused;
        fleet.ended(&Migration { phase: Phase::RolledBack, ..migration() });
        assert_eq!(fleet.workloads["web"].sample.state, WorkloadState::Running);
        assert!(fleet.moving.is_empty());
    }

    #[test]
    fn the_window_keeps_the_newest_values() {
        let mut fleet = fleet();
        for _ in 0..9 {
            heartbeat(&mut fleet, "A", None);
        }
        assert_eq!(fleet.nodes["A"].cpu_window.len(), 3);
    }
}
