//! What is known now, in the words of fog-core (to decide) and of fog-api (to show).

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use fog_api::node::{Availability, Node, Utilization};
use fog_api::workload::Workload;
use fog_core::model;
use fog_core::policy::Policy;
use jiff::{SignedDuration, Timestamp};

use crate::app::{App, Service};
use crate::aside;
use crate::fleet::{Fleet, NodeView, WorkloadView};

/// So many nodes or workloads are copied before whoever else needs the fleet gets it: heartbeats do not wait for a snapshot.
const SLICE: usize = 64;
/// Long enough for somebody who waits to get his turn.
const BREATH: Duration = Duration::from_micros(50);

/// The snapshot that decisions are made of: the only place where it is built. In a large cluster it takes its time and is not
/// of one moment; what is decided is checked again before it is done. Blocks the thread.
pub fn take(app: &Service, policy: &Policy, now: Timestamp) -> model::Snapshot {
    let mut building = Building::new(&app.fleet(), policy, now);
    while building.more_nodes(&app.fleet()) {
        std::thread::sleep(BREATH);
    }
    while building.more_workloads(&app.fleet()) {
        std::thread::sleep(BREATH);
    }
    building.finish(&app.fleet())
}

/// [`take`], on a thread that may block.
pub async fn taken(app: &App, now: Timestamp) -> model::Snapshot {
    let app = app.clone();
    let taking = aside::run(move || take(&app, &app.policy.get().policy, now));
    taking.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// A snapshot, a slice at a time.
struct Building<'a> {
    policy: &'a Policy,
    now: Timestamp,
    estimate: bool,
    last_node: Option<Arc<str>>,
    last_workload: Option<Arc<str>>,
    known: HashSet<Arc<str>>,
    snapshot: model::Snapshot,
}

impl<'a> Building<'a> {
    fn new(fleet: &Fleet, policy: &'a Policy, now: Timestamp) -> Self {
        let snapshot = model::Snapshot {
            at: now,
            nodes: Vec::with_capacity(fleet.nodes.len()),
            links: Vec::new(),
            workloads: Vec::with_capacity(fleet.workloads.len()),
            in_flight: Vec::new(),
        };
        let estimate = !crate::peers::is_small(fleet);
        Self { policy, now, estimate, last_node: None, last_workload: None, known: HashSet::new(), snapshot }
    }

    /// Copies some more nodes, with their links; `false`: these were the last.
    fn more_nodes(&mut self, fleet: &Fleet) -> bool {
        let mut count = 0;
        for view in fleet.nodes.range::<str, _>(behind(self.last_node.as_deref())).map(|(_, view)| view).take(SLICE) {
            count += 1;
            self.last_node = Some(Arc::clone(&view.name));
            let Some(node) = core_node(view, self.policy, self.estimate, self.now) else { continue };
            for link in view.latest.iter().flat_map(|sample| &sample.links) {
                let Some(to) = fleet.nodes.get(&link.to) else { continue };
                let Ok(to) = model::NodeName::new(Arc::clone(&to.name)) else { continue };
                self.snapshot.links.push(model::Link {
                    from: node.name.clone(),
                    to,
                    rtt_ms: link.rtt_ms,
                    bandwidth_mbps: link.bandwidth_mbps,
                    loss: link.loss,
                    technology: None,
                });
            }
            self.known.insert(Arc::clone(&view.name));
            self.snapshot.nodes.push(node);
        }
        count == SLICE
    }

    /// Copies some more workloads; `false`: these were the last.
    fn more_workloads(&mut self, fleet: &Fleet) -> bool {
        let mut count = 0;
        let known = &self.known;
        let known = |name: &str| known.contains(name);
        for (name, view) in fleet.workloads.range::<str, _>(behind(self.last_workload.as_deref())).take(SLICE) {
            count += 1;
            self.last_workload = Some(Arc::clone(name));
            if known(&view.node) {
                self.snapshot.workloads.extend(core_workload(fleet, name, view, &known, self.policy, self.now));
            }
        }
        count == SLICE
    }

    fn finish(mut self, fleet: &Fleet) -> model::Snapshot {
        let known = |name: &str| self.known.contains(name);
        // A node may have come while the others were copied.
        self.snapshot.links.retain(|link| known(link.to.as_str()));
        let moving = fleet.moving.iter().filter(|(name, moving)| {
            fleet.workloads.contains_key(name.as_str()) && known(&moving.source) && known(&moving.destination)
        });
        let in_flight = moving.filter_map(|(name, moving)| {
            Some(model::InFlight {
                workload: model::WorkloadName::new(name.as_str()).ok()?,
                from: model::NodeName::new(moving.source.as_str()).ok()?,
                to: model::NodeName::new(moving.destination.as_str()).ok()?,
            })
        });
        self.snapshot.in_flight = in_flight.collect();
        self.snapshot
    }
}

fn behind(last: Option<&str>) -> (Bound<&str>, Bound<&str>) {
    (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn core_node(view: &NodeView, policy: &Policy, estimate: bool, now: Timestamp) -> Option<model::Node> {
    let stored = &view.stored;
    let facts = &stored.facts;
    let latest = view.latest.as_ref();
    let label = |name: &str| facts.labels.get(name).cloned();
    let degrees = |name: &str| facts.labels.get(name).and_then(|text| text.parse::<f64>().ok());
    Some(model::Node {
        name: model::NodeName::new(Arc::clone(&view.name)).ok()?,
        availability: fog_core::availability::availability(stored.heartbeat_at, now, &policy.heartbeat),
        cordoned: stored.order.cordoned,
        draining: stored.order.draining,
        tier: label("tier"),
        site: label("site"),
        labels: view.labels.clone(),
        arch: facts.arch.clone(),
        criu: facts.criu.clone(),
        cgroup: Some(facts.cgroup.clone()).filter(|layout| !layout.is_empty()),
        cpu_features: facts.cpu_features.clone(),
        cpus: facts.cpus,
        cpu_score: facts.cpu_score,
        memory_bytes: facts.memory_bytes,
        disk_bytes: facts.disk_bytes.filter(|bytes| *bytes > 0),
        disk: latest.map(|sample| sample.disk),
        cpu: latest.map(|sample| sample.cpu),
        cpu_window: view.cpu_window.iter().copied().collect(),
        cpu_hot: Some(view.hot.share()),
        memory: latest.map(|sample| sample.memory),
        run_queue: latest.map(|sample| sample.run_queue),
        pressure: latest.and_then(|sample| sample.pressure).map(|pressure| model::Pressure {
            cpu: pressure.cpu,
            memory: pressure.memory,
            io: pressure.io,
        }),
        temperature_c: latest.and_then(|sample| sample.temperature_c),
        // Where everybody measures everybody, what is not measured is not there.
        coordinate: Some(view.coordinate).filter(|_| estimate),
        position: degrees("lat").zip(degrees("lon")).map(|(lat, lon)| model::Position { lat, lon }),
        obstacles: facts.cannot_migrate.clone(),
    })
}

fn core_workload(
    fleet: &Fleet,
    name: &Arc<str>,
    view: &WorkloadView,
    known: &dyn Fn(&str) -> bool,
    policy: &Policy,
    now: Timestamp,
) -> Option<model::Workload> {
    use fog_api::workload::WorkloadState;
    let sample = &view.sample;
    let row = fleet.ownership.get(name);
    let history = fleet.history.get(&**name);
    let day_ago = now - SignedDuration::from_hours(24);
    let label = |key: &str| sample.labels.get(&format!("fogshift.{key}")).map(String::as_str);
    let migrate = match label("migrate") {
        None | Some("auto") => model::MigrateMode::Auto,
        Some("confirm") => model::MigrateMode::Confirm,
        Some("manual") => model::MigrateMode::Manual,
        // A word that nobody knows must not let a container be moved.
        Some(_) => model::MigrateMode::Never,
    };
    let window: Vec<f64> = view.cpus_window.iter().copied().collect();
    let samples = usize::try_from(policy.sampling.window).unwrap_or(usize::MAX);
    let limits = model::Limits { cpus: sample.cpus_limit, memory_bytes: sample.memory_limit_bytes };
    Some(model::Workload {
        name: model::WorkloadName::new(Arc::clone(name)).ok()?,
        node: model::NodeName::new(Arc::clone(&view.node)).ok()?,
        state: match sample.state {
            WorkloadState::Running => model::WorkloadState::Running,
            WorkloadState::Paused => model::WorkloadState::Paused,
            WorkloadState::Stopped => model::WorkloadState::Stopped,
        },
        obstacles: sample.obstacles(policy),
        cpus: fog_core::telemetry::sustained(&window, samples).unwrap_or(sample.cpus),
        cpus_usual: view.usual.cpus(),
        memory_bytes: sample.memory_bytes,
        disk_bytes: sample.disk_bytes.unwrap_or(0),
        processes: sample.processes,
        dirty_bytes_per_s: sample.dirty_bytes_per_s,
        limits,
        created_with: created_with(fleet, name, limits),
        migrate,
        max_downtime_ms: label("max-downtime-ms").and_then(|text| text.parse().ok()),
        priority: label("priority").and_then(|text| text.parse().ok()).unwrap_or(0),
        labels: sample.labels.clone(),
        group: label("group").map(str::to_owned),
        clients: label("clients").map(|text| clients(text, known)).unwrap_or_default(),
        moved_at: row.and_then(|row| row.moved_at),
        moves_24h: history
            .map_or(0, |h| h.moves.iter().filter(|at| **at > day_ago).count().try_into().unwrap_or(u32::MAX)),
        last_from: row.and_then(|row| row.moved_from.clone()).and_then(|from| model::NodeName::new(from).ok()),
        earlier: history.map(|h| h.earlier.clone()).unwrap_or_default(),
        last_took_s: history.and_then(|h| h.took_s),
        failed_at: history.and_then(|h| h.failed_at),
        failures: history.map_or(0, |h| h.failures),
        dismissed_at: fleet.dismissed.get(&**name).copied(),
    })
}

/// `C:0.7,B:0.3` or `C`: what can't be read, or no node is called, says nothing.
fn clients(text: &str, known: &dyn Fn(&str) -> bool) -> Vec<model::Clients> {
    let some = |part: &str| {
        let (node, share) = part.split_once(':').unwrap_or((part, "1"));
        let share = share.trim().parse().ok().filter(|share: &f64| share.is_finite() && *share > 0.0)?;
        let node = model::NodeName::new(node.trim()).ok().filter(|node| known(node.as_str()))?;
        Some(model::Clients { node, share })
    };
    let mut found: Vec<model::Clients> = text.split(',').filter_map(some).collect();
    found.sort_by(|a, b| a.node.cmp(&b.node));
    found.dedup_by(|a, b| a.node == b.node);
    found
}

/// The limits that a workload was created with: what is remembered, unless somebody else has changed them since.
fn created_with(fleet: &Fleet, name: &str, now: model::Limits) -> model::Limits {
    let Some(known) = fleet.limits.get(name) else { return now };
    // Docker rounds: cores to its scheduler's grain, memory to pages.
    let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 0.011 * a.max(b),
        (a, b) => a == b,
    };
    let same = |limits: &fog_api::decision::Limits| {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        near(limits.cpus, now.cpus) && near(bytes(limits.memory_bytes), bytes(now.memory_bytes))
    };
    let ours = same(&known.given) || same(&known.created);
    if ours { model::Limits { cpus: known.created.cpus, memory_bytes: known.created.memory_bytes } } else { now }
}

/// Availability as people see it.
pub fn availability(availability: model::Availability) -> Availability {
    match availability {
        model::Availability::Active => Availability::Active,
        model::Availability::Suspect => Availability::Suspect,
        model::Availability::Offline => Availability::Offline,
    }
}

/// A node as people see it.
pub fn node(fleet: &Fleet, name: &str, policy: &Policy, connected: bool, now: Timestamp) -> Option<Node> {
    let view = fleet.nodes.get(name)?;
    let stored = &view.stored;
    let window: Vec<f64> = view.cpu_window.iter().copied().collect();
    let samples = usize::try_from(policy.sampling.window).unwrap_or(usize::MAX);
    Some(Node {
        name: stored.name.clone(),
        availability: availability(fog_core::availability(stored.heartbeat_at, now, &policy.heartbeat)),
        connected,
        cordoned: stored.order.cordoned,
        draining: stored.order.draining,
        agent_version: stored.agent_version.clone(),
        transfer_address: stored.transfer_address.clone(),
        facts: stored.facts.clone(),
        utilization: view.latest.as_ref().map(|sample| Utilization {
            at: sample.at,
            cpu: sample.cpu,
            cpu_sustained: fog_core::telemetry::sustained(&window, samples).unwrap_or(sample.cpu),
            memory: sample.memory,
            run_queue: sample.run_queue,
            pressure: sample.pressure,
            disk: sample.disk,
            temperature_c: sample.temperature_c,
        }),
        links: view.latest.as_ref().map(|sample| sample.links.clone()).unwrap_or_default(),
        workloads: view.owned.iter().filter(|name| fleet.workloads.contains_key(*name)).count(),
        heartbeat_at: stored.heartbeat_at,
    })
}

/// Every workload as people see it, or those of one node, by name.
pub fn workloads(fleet: &Fleet, node: Option<&str>, policy: &Policy) -> Vec<Workload> {
    match node {
        Some(node) => {
            let owned = fleet.nodes.get(node).map(|view| &view.owned).into_iter().flatten();
            owned.filter_map(|name| workload(fleet, name, policy)).collect()
        }
        None => fleet.workloads.keys().filter_map(|name| workload(fleet, name, policy)).collect(),
    }
}

/// A workload as people see it.
pub fn workload(fleet: &Fleet, name: &str, policy: &Policy) -> Option<Workload> {
    let view = fleet.workloads.get(name)?;
    let sample = &view.sample;
    let row = fleet.ownership.get(name);
    Some(Workload {
        name: name.to_owned(),
        node: view.node.to_string(),
        epoch: row.map_or(0, |row| row.epoch),
        state: sample.state,
        container: sample.container.to_string(),
        image: sample.image.to_string(),
        cpus: sample.cpus,
        memory_bytes: sample.memory_bytes,
        cpus_limit: sample.cpus_limit,
        memory_limit_bytes: sample.memory_limit_bytes,
        labels: (*sample.labels).clone(),
        obstacles: sample.obstacles(policy),
        migration: fleet.moving.get(name).map(|moving| moving.migration),
        moved_at: row.and_then(|row| row.moved_at),
        seen_at: view.seen_at,
    })
}

#[cfg(test)]
mod tests {
    use super::clients;

    #[test]
    fn clients_are_read_out_of_a_label() {
        let known = |name: &str| matches!(name, "B" | "C");
        let read = |text: &str| {
            let found = clients(text, &known);
            found.into_iter().map(|some| (some.node.to_string(), some.share)).collect::<Vec<_>>()
        };
        assert_eq!(read("C"), [("C".to_owned(), 1.0)]);
        assert_eq!(read(" C:0.7, B:0.3,Z:1"), [("B".to_owned(), 0.3), ("C".to_owned(), 0.7)]);
        assert_eq!(read("C:-1,B:x,,"), []);
    }
}
