//! What is known about the cluster at one moment: the snapshot that the planner gets.
//!
//! The JSON is public (`fogctl plan --snapshot FILE`). Unknown fields are refused; an optional field may be left out or
//! `null`, and its default is stated here. Fractions are of the node's capacity, 0 to 1. Fields marked *not
//! used yet* are part of the format and checked, but no decision depends on them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::availability::Availability;
use crate::coordinate::Coordinate;
pub use crate::labels::Labels;
pub use crate::name::{NodeName, WorkloadName};
use crate::policy::Policy;
use crate::problem::Problem;
use crate::strategy::Strategy;

mod check;
mod cycle;

/// The cluster at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Timestamp,
    /// Every known node, in any order.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// What is known about the network between two nodes. Default: nothing.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Every known workload, in any order.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// Migrations under way. Default: none.
    #[serde(default)]
    pub in_flight: Vec<InFlight>,
}

/// A machine that runs workloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique name.
    pub name: NodeName,
    /// From its heartbeats. Default: active.
    #[serde(default)]
    pub availability: Availability,
    /// Nothing new may be placed here. Default: false.
    #[serde(default)]
    pub cordoned: bool,
    /// It is being emptied: everything leaves that can, and nothing new may be placed here. Default: false.
    #[serde(default)]
    pub draining: bool,
    /// `cloud`, `fog` or `edge`, or a word of yours; for the policy's constraints. Default: null.
    #[serde(default)]
    pub tier: Option<String>,
    /// Where it stands; for the policy's constraints. Default: null.
    #[serde(default)]
    pub site: Option<String>,
    /// Free labels, for the policy's constraints. Default: none.
    #[serde(default)]
    pub labels: Labels,
    /// Architecture as `uname -m` says it: `x86_64`, `aarch64`.
    pub arch: String,
    /// cgroup layout: `v1`, `v2` or `hybrid`; a container restores only where it is the same. Default: null, not known.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// CRIU's version; an older CRIU cannot restore what a newer one dumped. Default: null, not known.
    #[serde(default)]
    pub criu: Option<String>,
    /// CPU features as `/proc/cpuinfo` says them; a container goes only where there are all that its node has. Default: none,
    /// not known.
    #[serde(default)]
    pub cpu_features: Vec<String>,
    /// Cores it may use, above 0; a quota of half a core is 0.5.
    pub cpus: f64,
    /// Speed of one core relative to the others, above 0. Default: 1.
    #[serde(default = "one")]
    pub cpu_score: f64,
    /// Memory it may use, above 0.
    pub memory_bytes: u64,
    /// Size of the disk that holds Docker's data, above 0. Default: null, not known; then no disk is too full.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// That disk in use, 0 to 1. Default: null, not measured; then it is taken as never too full.
    #[serde(default)]
    pub disk: Option<f64>,
    /// CPU utilization of the last sample, 0 to 1. Default: null, not measured.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// The last samples of it, oldest first, 0 to 1; to outwait bursts, as many as `burst.wait_s` spans. Default: none; then
    /// `cpu` is taken as already sustained.
    #[serde(default)]
    pub cpu_window: Vec<f64>,
    /// Share of the last hour or so in which its CPU was at `overload.cpu.start` or above, 0 to 1: what tells a node that is
    /// hot again and again from one that is hot once. Default: null, not known.
    #[serde(default)]
    pub cpu_hot: Option<f64>,
    /// Memory in use, 0 to 1. Default: null, not measured.
    #[serde(default)]
    pub memory: Option<f64>,
    /// Tasks running or waiting for a core. Default: null, not measured.
    #[serde(default)]
    pub run_queue: Option<f64>,
    /// Pressure stall information. Default: null, not measured.
    #[serde(default)]
    pub pressure: Option<Pressure>,
    /// The hottest sensor, in °C, -100 to 200. Default: null, no sensor.
    #[serde(default)]
    pub temperature_c: Option<f64>,
    /// Where it is on Earth. Default: null, not known.
    #[serde(default)]
    pub position: Option<Position>,
    /// Where it is in the network, from which delays are estimated that nobody has measured. Default: null, not known.
    #[serde(default)]
    pub coordinate: Option<Coordinate>,
    /// Why this node can neither send nor receive a workload (from `fog-agent doctor`). Default: none, it can.
    #[serde(default)]
    pub obstacles: Vec<String>,
}

/// Share of time in which some task waited for a resource, 0 to 1 each. Defaults: 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pressure {
    /// Waiting for a core.
    pub cpu: f64,
    /// Waiting for memory.
    pub memory: f64,
    /// Waiting for input or output.
    pub io: f64,
}

/// A position on Earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Latitude, -90 to 90.
    pub lat: f64,
    /// Longitude, -180 to 180.
    pub lon: f64,
}

/// The network from one node to another. A link given in one direction only also stands for the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One end.
    pub from: NodeName,
    /// The other end.
    pub to: NodeName,
    /// Round-trip time, 0 or more. Default: null, not measured.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Bandwidth learned from real transfers, above 0. Default: null, not measured.
    #[serde(default)]
    pub bandwidth_mbps: Option<f64>,
    /// Share of packets lost, 0 to 1. *Not used yet.* Default: 0.
    #[serde(default)]
    pub loss: f64,
    /// `lan`, `wifi`, `lte`… *Not used yet.* Default: null.
    #[serde(default)]
    pub technology: Option<String>,
}

/// A container that Fogshift knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Unique name.
    pub name: WorkloadName,
    /// The node it is on.
    pub node: NodeName,
    /// Default: running.
    #[serde(default)]
    pub state: WorkloadState,
    /// Why CRIU can't move it, in the agent's words (a TTY, a device, the host's network…). Default: none.
    #[serde(default)]
    pub obstacles: Vec<String>,
    /// Cores in use, 0 or more.
    pub cpus: f64,
    /// Cores that it uses on average (over an hour or so), 0 or more: what tells a burst from steady load. Default: null, not
    /// known.
    #[serde(default)]
    pub cpus_usual: Option<f64>,
    /// Memory in use.
    pub memory_bytes: u64,
    /// What its files take of the disk, which it takes along: its writable layer and its volumes, without its image. Default: 0.
    #[serde(default)]
    pub disk_bytes: u64,
    /// How many processes it has: several may share pages. Default: null, not known.
    #[serde(default)]
    pub processes: Option<u32>,
    /// Memory written per second, for the choice of a strategy. Default: null, not measured.
    #[serde(default)]
    pub dirty_bytes_per_s: Option<u64>,
    /// Docker's limits. Default: none.
    #[serde(default)]
    pub limits: Limits,
    /// The limits that it was created with; what the planner has enlarged goes back to these. Default: not known.
    #[serde(default)]
    pub created_with: Limits,
    /// Who may decide that it moves. Default: auto.
    #[serde(default)]
    pub migrate: MigrateMode,
    /// The longest downtime it bears. Default: null, the policy's.
    #[serde(default)]
    pub max_downtime_ms: Option<u64>,
    /// How important it is: the lowest leaves an overloaded node first, the highest a draining one. Default: 0.
    #[serde(default)]
    pub priority: i32,
    /// Free labels, for the policy's constraints. Default: none.
    #[serde(default)]
    pub labels: Labels,
    /// Workloads of one group move as one: all of them that are on a node, or none, and to the same node. Default: null.
    #[serde(default)]
    pub group: Option<String>,
    /// Where its clients are, as seen from the network: for `mode = "follow"`. Default: none, not known.
    #[serde(default)]
    pub clients: Vec<Clients>,
    /// When it last moved. Default: null, never.
    #[serde(default)]
    pub moved_at: Option<Timestamp>,
    /// How often it moved in the last 24 hours. Default: 0.
    #[serde(default)]
    pub moves_24h: u32,
    /// The node it last came from. Default: null.
    #[serde(default)]
    pub last_from: Option<NodeName>,
    /// How long its last migration took, from the decision to the end, 0 or more. Default: null, not known.
    #[serde(default)]
    pub last_took_s: Option<f64>,
    /// What its last migrations that went well really took, oldest first: the last five of a strategy correct what is predicted
    /// for it. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    /// When its last migration failed or was rolled back. Default: null, the last one went well.
    #[serde(default)]
    pub failed_at: Option<Timestamp>,
    /// Migrations that failed since the last one that went well. Default: 0.
    #[serde(default)]
    pub failures: u32,
    /// When a person last dismissed what the planner proposed for it. Default: null, never.
    #[serde(default)]
    pub dismissed_at: Option<Timestamp>,
}

/// What a migration of a workload really took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The node that it left.
    pub from: NodeName,
    /// The node that it went to.
    pub to: NodeName,
    /// How its memory travelled; never auto.
    pub strategy: Strategy,
    /// The memory that it had.
    pub memory_bytes: u64,
    /// The bytes of memory that travelled, each time that they did.
    pub bytes: u64,
    /// How long it stood still, above 0.
    pub downtime_ms: f64,
}

/// Some of a workload's clients: those that come in through this node, or are near it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// The node that they are at or near.
    pub node: NodeName,
    /// Their share of the requests, above 0; only the proportions matter. Default: 1.
    #[serde(default = "one")]
    pub share: f64,
}

/// Docker's limits of a container. Defaults: null, none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Cores, above 0.
    pub cpus: Option<f64>,
    /// Memory, above 0.
    pub memory_bytes: Option<u64>,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadState {
    /// Running: the only state that migrates.
    #[default]
    Running,
    /// Paused by someone.
    Paused,
    /// Docker is restarting it.
    Restarting,
    /// Created, exited, dead or being removed.
    Stopped,
}

impl WorkloadState {
    /// The word that the API and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// Who may decide that a workload moves (the label `fogshift.migrate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MigrateMode {
    /// The planner, as far as the policy's autonomy goes.
    #[default]
    Auto,
    /// The planner proposes, a person approves.
    Confirm,
    /// The planner only recommends.
    Manual,
    /// Nobody: it is pinned where it is.
    Never,
}

/// A migration under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// The workload that moves.
    pub workload: WorkloadName,
    /// Its source.
    pub from: NodeName,
    /// Its destination.
    pub to: NodeName,
}

/// Everything wrong with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot is not valid:{}", problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
pub struct SnapshotError {
    /// At least one, in the order of the document.
    pub problems: Vec<Problem>,
}

impl Snapshot {
    /// Refuses what no cluster can be: numbers out of range or not a number, names used twice, references to what
    /// doesn't exist. Says everything at once. The planner doesn't need it to be safe, only to be right.
    pub fn check(&self) -> Result<(), SnapshotError> {
        let problems = check::problems(self);
        if problems.is_empty() { Ok(()) } else { Err(SnapshotError { problems }) }
    }

    /// As [`check`](Self::check), and refuses rules of the policy that this cluster's workloads can't keep wherever they run,
    /// because together they want the same workloads together and apart.
    pub fn check_with(&self, policy: &Policy) -> Result<(), SnapshotError> {
        self.check()?;
        let problems = cycle::problems(self, policy);
        if problems.is_empty() { Ok(()) } else { Err(SnapshotError { problems }) }
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The workload of that name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }
}

fn one() -> f64 {
    1.0
}
