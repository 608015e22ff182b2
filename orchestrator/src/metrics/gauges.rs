//! What is read off the service at the moment somebody asks.

use std::collections::BTreeMap;

use fog_api::migration::Phase;
use fog_api::workload::WorkloadState;
use fog_core::availability::{Availability, availability};
use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts};

use super::Builder;
use crate::app::Service;
use crate::clock;
use crate::store::StoreSize;

/// More versions of the agent than this at once are counted as `other`: their number is the agents' word.
const MOST_VERSIONS: usize = 10;
const RANKS: [(&str, f64); 4] = [("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

pub(super) struct Gauges {
    nodes: IntGaugeVec,
    ordered: IntGaugeVec,
    connected: IntGauge,
    agents: IntGaugeVec,
    utilization: GaugeVec,
    workloads: IntGaugeVec,
    running: IntGaugeVec,
    store: IntGaugeVec,
    queues: IntGaugeVec,
    late: Gauge,
    policy: IntGauge,
    memory: IntGauge,
    cpu: prometheus::Counter,
}

impl Gauges {
    pub(super) fn new(new: &Builder) -> prometheus::Result<Self> {
        let gauges =
            |name: &str, help: &str, labels: &[&str]| new.keep(IntGaugeVec::new(Opts::new(name, help), labels)?);
        let gauge = |name: &str, help: &str| new.keep(IntGauge::new(name, help)?);
        let build = gauges("fog_build_info", "Always 1; which orchestrator runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let started =
            new.keep(Gauge::new("fog_start_time_seconds", "When the orchestrator started, since 1970 UTC.")?)?;
        started.set(clock::now().as_millisecond() as f64 / 1000.0);
        Ok(Self {
            nodes: gauges("fog_nodes", "Nodes by availability.", &["availability"])?,
            ordered: gauges("fog_nodes_ordered", "Nodes that a person cordoned or drains.", &["order"])?,
            connected: gauge("fog_agents_connected", "Agents whose channel is open.")?,
            agents: gauges("fog_agents", "Known agents by version.", &["version"])?,
            utilization: new.keep(GaugeVec::new(
                Opts::new(
                    "fog_node_utilization_ratio",
                    "How busy the active nodes are: median, percentiles and maximum over the nodes.",
                ),
                &["resource", "rank"],
            )?)?,
            workloads: gauges("fog_workloads", "Workloads by what their container does.", &["state"])?,
            running: gauges("fog_migrations_running", "Migrations under way by phase.", &["phase"])?,
            store: gauges("fog_store_size_bytes", "Size of the database's files.", &["file"])?,
            queues: gauges("fog_queue_depth", "Work that waits.", &["queue"])?,
            late: new.keep(Gauge::new("fog_late_seconds", "How late the orchestrator is with its own work.")?)?,
            policy: gauge("fog_policy_version", "Version of the policy in force.")?,
            memory: gauge("fog_process_resident_memory_bytes", "Memory that the orchestrator occupies.")?,
            cpu: new.keep(prometheus::Counter::new(
                "fog_process_cpu_seconds_total",
                "CPU time that the orchestrator has used.",
            )?)?,
        })
    }

    pub(super) fn read(&mut self, app: &Service, store: StoreSize) {
        self.read_fleet(app);
        self.connected.set(count(app.agents.connected().len()));
        self.store.with_label_values(&["database"]).set(store.database_bytes.cast_signed());
        self.store.with_label_values(&["log"]).set(store.log_bytes.cast_signed());
        self.queues.with_label_values(&["commands"]).set(count(app.agents.waiting()));
        let (heartbeats, batches) = app.store.waiting();
        self.queues.with_label_values(&["heartbeats"]).set(count(heartbeats));
        self.queues.with_label_values(&["batches"]).set(count(batches));
        self.late.set(app.pulse.late().as_secs_f64());
        self.policy.set(app.policy.get().version.cast_signed());
        for phase in Phase::RUNNING {
            self.running.with_label_values(&[&phase.to_string()]).set(0);
        }
        for phase in app.drivers.phases() {
            self.running.with_label_values(&[&phase.to_string()]).inc();
        }
        if let Some(process) = Process::read() {
            self.memory.set(process.memory_bytes.cast_signed());
            self.cpu.inc_by((process.cpu_s - self.cpu.get()).max(0.0));
        }
    }

    fn read_fleet(&self, app: &Service) {
        let policy = app.policy.get();
        let now = clock::now();
        let mut by_availability =
            BTreeMap::from([(Availability::Active, 0), (Availability::Suspect, 0), (Availability::Offline, 0)]);
        let (mut cordoned, mut draining) = (0, 0);
        let mut versions: BTreeMap<String, i64> = BTreeMap::new();
        let mut resources: [(&str, Vec<f64>); 3] = [("cpu", vec![]), ("memory", vec![]), ("disk", vec![])];
        let mut states = BTreeMap::from([("running", 0), ("paused", 0), ("stopped", 0)]);
        {
            let fleet = app.fleet();
            for view in fleet.nodes.values() {
                let availability = availability(view.stored.heartbeat_at, now, &policy.policy.heartbeat);
                *by_availability.entry(availability).or_insert(0) += 1;
                cordoned += i64::from(view.stored.order.cordoned);
                draining += i64::from(view.stored.order.draining);
                let version = &view.stored.agent_version;
                let known = versions.contains_key(version) || versions.len() < MOST_VERSIONS;
                let version = if known { version.as_str() } else { "other" };
                *versions.entry(version.to_owned()).or_insert(0) += 1;
                if let (Availability::Active, Some(sample)) = (availability, &view.latest) {
                    let values = [sample.cpu, sample.memory, sample.disk];
                    resources.iter_mut().zip(values).for_each(|((_, all), value)| all.push(value));
                }
            }
            for view in fleet.workloads.values() {
                let state = match view.sample.state {
                    WorkloadState::Running => "running",
                    WorkloadState::Paused => "paused",
                    WorkloadState::Stopped => "stopped",
                };
                *states.entry(state).or_insert(0) += 1;
            }
        }
        for (availability, count) in by_availability {
            self.nodes.with_label_values(&[&availability.to_string()]).set(count);
        }
        self.ordered.with_label_values(&["cordoned"]).set(cordoned);
        self.ordered.with_label_values(&["draining"]).set(draining);
        self.agents.reset();
        for (version, count) in versions {
            self.agents.with_label_values(&[&version]).set(count);
        }
        self.utilization.reset();
        for (resource, mut values) in resources {
            values.sort_unstable_by(f64::total_cmp);
            for (rank, share) in RANKS {
                if let Some(value) = nearest_rank(&values, share) {
                    self.utilization.with_label_values(&[resource, rank]).set(value);
                }
            }
        }
        for (state, count) in states {
            self.workloads.with_label_values(&[state]).set(count);
        }
    }
}

/// The smallest of the sorted values that at least this share of them does not exceed.
fn nearest_rank(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What the kernel says of this process; `None` where there is no `/proc`.
struct Process {
    memory_bytes: u64,
    cpu_s: f64,
}

impl Process {
    fn read() -> Option<Self> {
        let process = procfs::process::Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = (stat.utime + stat.stime) as f64;
        Some(Self { memory_bytes: stat.rss * procfs::page_size(), cpu_s: ticks / procfs::ticks_per_second() as f64 })
    }
}
