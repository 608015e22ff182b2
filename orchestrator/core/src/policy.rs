//! The policy: when to act, where to, how fast, and who decides. Written by a person, in TOML.
//!
//! Every field may be left out of the file and has the default shown in `config/policy.toml`, except inside a threshold
//! (`start` and `done` belong together). Unknown fields are refused, with the nearest correct name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::MigrateMode;
use crate::problem::Problem;
use crate::score::FactorName;
use crate::strategy::Strategy;

mod check;
mod constraint;
mod parse;

pub use constraint::{Constraint, Day, Effect, Scope, Window};

/// The whole policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Who decides that a planned migration is carried out.
    pub autonomy: Autonomy,
    /// How state travels unless a request says otherwise.
    pub strategy: Strategy,
    /// The longest expected downtime of a planned migration, in ms, above 0. A workload may have its own.
    pub max_downtime_ms: u64,
    /// The least gain of a planned migration, 0 to 1: how much less busy, as a fraction, its new node must be than its old one.
    pub min_gain: f64,
    /// What the planner is after.
    pub mode: Mode,
    /// When a node counts as out of balance, with `mode = "balance"`.
    pub balance: Balance,
    /// When idle nodes are emptied, with `mode = "pack"`.
    pub pack: Pack,
    /// When a workload follows its clients, with `mode = "follow"`.
    pub follow: Follow,
    /// How a burst is told from steady load.
    pub burst: Burst,
    /// What a migration costs, and for how long it pays.
    pub cost: Cost,
    /// When a container's own limits are changed.
    pub resize: ResizePolicy,
    /// When a node counts as overloaded.
    pub overload: Overload,
    /// How samples become sustained utilization.
    pub sampling: Sampling,
    /// What the destination keeps free.
    pub headroom: Headroom,
    /// What matters how much when a destination is chosen.
    pub weights: Weights,
    /// How delay is judged.
    pub delay: Delay,
    /// How long a workload is left alone.
    pub cooldown: Cooldown,
    /// How many migrations at once.
    pub concurrency: Concurrency,
    /// When a silent node is suspect and offline.
    pub heartbeat: Heartbeat,
    /// Which files of the host move with a workload.
    pub files: Files,
    /// Rules and wishes about where workloads run. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// When nodes rest or are emptied. Default: never.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

/// Who decides that a planned migration is carried out. Ordered from cautious to free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Autonomy {
    /// The planner recommends; a person migrates.
    Manual,
    /// The planner proposes; a person approves.
    Confirm,
    /// The planner acts.
    #[default]
    Automatic,
}

impl Autonomy {
    /// What holds for one workload: the more cautious of the policy's word and the workload's.
    pub fn for_workload(self, mode: MigrateMode) -> Self {
        match mode {
            MigrateMode::Auto => self,
            MigrateMode::Confirm => self.min(Self::Confirm),
            MigrateMode::Manual | MigrateMode::Never => Self::Manual,
        }
    }
}

/// A value at which overload starts, and a lower one at which it is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// At or above this the node is overloaded.
    pub start: f64,
    /// Once overloaded, it is relieved until it is below this.
    pub done: f64,
}

/// When a node counts as overloaded: any one of these is enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// Sustained CPU utilization, 0 to 1.
    pub cpu: Threshold,
    /// Memory in use, 0 to 1.
    pub memory: Threshold,
    /// Share of time in which tasks waited for memory or for input and output, 0 to 1.
    pub pressure: Threshold,
    /// Temperature in °C, above 0 to 200.
    pub temperature_c: Threshold,
}

/// How samples become sustained utilization.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Seconds between two samples of an agent, above 0 to 3600.
    pub interval_s: f64,
    /// Samples whose median counts, 1 to 1000.
    pub window: u32,
}

/// What the destination keeps free after the move, as fractions of its capacity, 0 to below 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headroom {
    /// Of its cores.
    pub cpu: f64,
    /// Of its memory.
    pub memory: f64,
    /// Of the disk that holds Docker's data.
    pub disk: f64,
}

/// How much each factor counts, 0 or more each, not all 0. Only their proportions matter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Idle CPU after the move.
    pub cpu: f64,
    /// Short round trips from the source.
    pub delay: f64,
    /// Short way over ground from the source.
    pub distance: f64,
    /// Free memory after the move.
    pub memory: f64,
    /// Few tasks waiting for a core.
    pub run_queue: f64,
    /// Little time lost to waiting for any resource.
    pub pressure: f64,
    /// A cool machine.
    pub temperature: f64,
    /// Fast cores.
    pub capability: f64,
}

impl Weights {
    /// The weight of one factor.
    pub fn of(&self, factor: FactorName) -> f64 {
        match factor {
            FactorName::Cpu => self.cpu,
            FactorName::Delay => self.delay,
            FactorName::Distance => self.distance,
            FactorName::Memory => self.memory,
            FactorName::RunQueue => self.run_queue,
            FactorName::Pressure => self.pressure,
            FactorName::Temperature => self.temperature,
            FactorName::Capability => self.capability,
        }
    }
}

/// How delay is judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delay {
    /// A round trip that is as good as none, in ms, above 0.
    pub best_ms: f64,
    /// A round trip that is worth nothing, in ms, above `best_ms`.
    pub worst_ms: f64,
    /// What a round trip counts as that nobody has measured, in ms, 0 or more.
    pub unknown_ms: f64,
}

/// What the planner is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing moves unless a node is overloaded or being emptied.
    #[default]
    Relieve,
    /// Nodes that are much busier than the rest give something away as well.
    Balance,
    /// Idle nodes are emptied, so that they can be switched off; those on battery first.
    Pack,
    /// Workloads also move to where the delay to their clients is lowest.
    Follow,
}

/// How load that passes by itself is told from load that stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Burst {
    /// A container that uses more than so many times its usual cores is in a burst, 1 to 100.
    pub factor: f64,
    /// CPU overload by less than this above `overload.cpu.start` is slight, 0 to 1.
    pub slight: f64,
    /// A burst is waited out only on a node that would be below this CPU utilization without it, above 0 to 1.
    pub under: f64,
    /// A node that was overloaded in this share of the last hour or more is not waited for, above 0 to 1.
    pub often: f64,
    /// How long a node that only bursts overload, or that is slightly overloaded, is left alone, in seconds, 0 to 86,400; 0:
    /// not at all.
    pub wait_s: f64,
}

/// When a node is emptied, and how full the others may get by it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pack {
    /// CPU utilization below which a node is emptied, above 0 to `fill`.
    pub below: f64,
    /// CPU utilization up to which the others are filled, above 0 to 1.
    pub fill: f64,
    /// So many nodes keep workloads whatever happens, 1 to 100,000.
    pub keep: u32,
}

/// When a workload follows its clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Follow {
    /// The delay to its clients must fall by so many ms at least, 0 to 60,000.
    pub gain_ms: f64,
    /// And to this share of what it is, above 0 to 1.
    pub ratio: f64,
}

/// When a node counts as out of balance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// How much busier than the cluster on average, as a fraction of its cores, above 0 to 1.
    pub spread: f64,
}

/// What a migration costs, and for how long it pays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cost {
    /// How long a gain is likely to last, in seconds, above 0 to 86,400.
    pub horizon_s: f64,
    /// What a second of shipping costs the workload, in seconds, 0 to 1.
    pub transfer_weight: f64,
    /// The bandwidth that is assumed where nobody has measured one, in Mbit/s, above 0 to 1,000,000.
    pub unknown_mbps: f64,
}

/// When a container's own limits are changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResizePolicy {
    /// Whether limits are changed at all.
    pub enabled: bool,
    /// Share of its limit at which a container runs into it, above `idle` to 1.
    pub at: f64,
    /// The factor by which a limit grows at once, 1.1 to 10.
    pub step: f64,
    /// The most that a limit may grow to, as a factor of the one it was created with, 1 to 100.
    pub most: f64,
    /// Share of the limit it was created with below which an enlarged container is idle, 0 to 1.
    pub idle: f64,
}

/// How long a workload is left alone, in seconds, 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cooldown {
    /// After it has moved, before it moves anywhere.
    pub moved_s: f64,
    /// After it has moved, before it may return; never less than the move took, doubled for every further move within 24
    /// hours.
    pub return_s: f64,
    /// After a migration that failed; doubled for every further failure.
    pub failed_s: f64,
    /// After a workload left a node that suffers from pressure or heat, before another leaves: these fall slowly.
    pub settle_s: f64,
    /// After a person dismissed what the planner proposed for it.
    pub dismissed_s: f64,
    /// No doubling goes beyond this.
    pub longest_s: f64,
}

/// How many migrations at once, 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    /// From and to one node together.
    pub per_node: u32,
    /// In the whole cluster.
    pub cluster: u32,
}

/// When a silent node is suspect and offline, in seconds, above 0 to 86,400.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Heartbeat {
    /// Between two heartbeats of an agent.
    pub interval_s: f64,
    /// Silence that makes a node suspect, above `interval_s`.
    pub suspect_s: f64,
    /// Silence that makes it offline, above `suspect_s`.
    pub offline_s: f64,
}

/// Which files of the host move with a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Folders of the host whose bind mounts move with their container, each with everything below it. Absolute, without
    /// `.`, `..` or a slash at the end, and not `/`. Whatever is bind mounted from elsewhere keeps a container where it is.
    pub bind_mounts: Vec<String>,
}

impl Files {
    /// Whether a bind mount of this folder moves.
    pub fn moves(&self, path: &str) -> bool {
        let below = |allowed: &String| {
            path.strip_prefix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_plain(path) && self.bind_mounts.iter().any(below)
    }

    /// Why a container with a bind mount of this folder stays where it is; `None`: it does not, for that.
    pub fn obstacle(&self, path: &str) -> Option<String> {
        (!self.moves(path)).then(|| {
            format!("{path} of the host is mounted in it, and the policy's files.bind_mounts does not allow that path.")
        })
    }
}

/// Whether a path leads nowhere but where it says.
fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")))
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            autonomy: Autonomy::Automatic,
            strategy: Strategy::Auto,
            max_downtime_ms: 10_000,
            min_gain: 0.05,
            mode: Mode::Relieve,
            balance: Balance::default(),
            pack: Pack::default(),
            follow: Follow::default(),
            burst: Burst::default(),
            cost: Cost::default(),
            resize: ResizePolicy::default(),
            overload: Overload::default(),
            sampling: Sampling::default(),
            headroom: Headroom::default(),
            weights: Weights::default(),
            delay: Delay::default(),
            cooldown: Cooldown::default(),
            concurrency: Concurrency::default(),
            heartbeat: Heartbeat::default(),
            files: Files::default(),
            constraints: Vec::new(),
            windows: Vec::new(),
        }
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            cpu: Threshold { start: 0.80, done: 0.75 },
            memory: Threshold { start: 0.90, done: 0.80 },
            pressure: Threshold { start: 0.60, done: 0.40 },
            temperature_c: Threshold { start: 85.0, done: 75.0 },
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { interval_s: 2.0, window: 3 }
    }
}

impl Default for Headroom {
    fn default() -> Self {
        Self { cpu: 0.30, memory: 0.20, disk: 0.10 }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            cpu: 0.40,
            delay: 0.25,
            distance: 0.05,
            memory: 0.10,
            run_queue: 0.05,
            pressure: 0.05,
            temperature: 0.05,
            capability: 0.05,
        }
    }
}

impl Default for Delay {
    fn default() -> Self {
        Self { best_ms: 0.2, worst_ms: 300.0, unknown_ms: 100.0 }
    }
}

impl Default for ResizePolicy {
    fn default() -> Self {
        Self { enabled: true, at: 0.95, step: 1.5, most: 4.0, idle: 0.5 }
    }
}

impl Default for Balance {
    fn default() -> Self {
        Self { spread: 0.25 }
    }
}

impl Default for Pack {
    fn default() -> Self {
        Self { below: 0.30, fill: 0.60, keep: 1 }
    }
}

impl Default for Follow {
    fn default() -> Self {
        Self { gain_ms: 5.0, ratio: 0.7 }
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self { factor: 1.3, slight: 0.02, under: 0.6, often: 0.08, wait_s: 360.0 }
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self { horizon_s: 600.0, transfer_weight: 0.1, unknown_mbps: 100.0 }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        Self {
            moved_s: 300.0,
            return_s: 900.0,
            failed_s: 60.0,
            settle_s: 60.0,
            dismissed_s: 3600.0,
            longest_s: 21_600.0,
        }
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { per_node: 2, cluster: 4 }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval_s: 2.0, suspect_s: 6.0, offline_s: 15.0 }
    }
}

/// Everything wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The file as the caller named it; empty if the policy didn't come from one.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for PolicyError {}

impl std::fmt::Display for PolicyError {
    /// One line for each problem, as compilers do: `FILE:LINE:COLUMN: FIELD: reason; remedy`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if !self.file.is_empty() {
                write!(f, "{}:", self.file)?;
                if let Some(place) = problem.place {
                    write!(f, "{}:{}:", place.line, place.column)?;
                }
                f.write_str(" ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Policy {
    /// Reads a policy from TOML and checks it. `file_name` is only for messages.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        parse::parse(text, file_name)
    }

    /// Refuses thresholds that contradict each other and numbers out of range, all at once.
    pub fn check(&self) -> Result<(), PolicyError> {
        let problems = check::problems(self);
        if problems.is_empty() { Ok(()) } else { Err(PolicyError { file: String::new(), problems }) }
    }
}
