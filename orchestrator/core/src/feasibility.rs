//! Where a workload can run at all: every reason against, at once.
//!
//! Hard reasons are facts that nobody can wish away (another architecture, no memory, an obstacle for CRIU). The others are
//! matters of judgement that the planner respects and a person may overrule (load, cooldown, downtime).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::availability::{Availability, seconds};
use crate::constraint;
use crate::explain::{milliseconds, percent};
use crate::model::{MigrateMode, Node, Snapshot, Workload, WorkloadState};
use crate::overload::Metric;
use crate::policy::Policy;
use crate::projection::{self, Load, Projection};

/// Why something can't or shouldn't be: a code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// What kind of reason.
    pub code: ReasonCode,
    /// The reason in words, with the numbers it rests on.
    pub detail: String,
}

impl Reason {
    pub(crate) fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The numbers at the beginning of a version: `4.1.1+ds` is 4, 1, 1.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map_while(|part| part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
}

/// An agent's whole sentence as a part of ours.
fn sentence(obstacle: &str) -> &str {
    obstacle.trim_end_matches('.')
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
    /// The workload no longer exists, or no longer is where the plan thought.
    WorkloadMoved,
    /// The workload is paused, restarting or stopped.
    NotRunning,
    /// CRIU can't move the workload.
    Obstacle,
    /// The workload is pinned (`migrate = never`).
    Pinned,
    /// The workload is migrating already.
    InFlight,
    /// The source is not active.
    SourceUnavailable,
    /// The source can't migrate.
    SourceCannotMigrate,
    /// The workload moved a short while ago.
    Cooldown,
    /// The workload's last migration failed a short while ago.
    FailedLately,
    /// A person dismissed what the planner proposed for the workload a short while ago.
    Dismissed,
    /// Another one of its group can't move, or the group doesn't fit anywhere as a whole.
    Grouped,
    /// The node is overloaded by a burst, or slightly, which is given time to pass.
    Burst,
    /// The destination doesn't exist (any more).
    NodeUnknown,
    /// The workload is there already.
    SameNode,
    /// The destination is not active.
    Unavailable,
    /// The destination is cordoned.
    Cordoned,
    /// The destination is being emptied.
    Draining,
    /// The destination can't migrate.
    CannotMigrate,
    /// The destination has another architecture.
    Architecture,
    /// The destination's CPU lacks a feature of the source's.
    CpuFeatures,
    /// The destination breaks a rule of the policy.
    Constraint,
    /// A maintenance window is open in which nothing moves.
    Window,
    /// The destination has another cgroup layout.
    CgroupLayout,
    /// The destination's CRIU is older than the source's.
    OlderCriu,
    /// The destination's utilization is not known.
    NotMeasured,
    /// The destination hasn't got the memory.
    MemoryFull,
    /// The destination would have to use its memory reserve.
    MemoryReserve,
    /// The destination's disk hasn't got the room for its files.
    DiskFull,
    /// The destination would have to use its disk's reserve.
    DiskReserve,
    /// The destination would be too busy.
    CpuReserve,
    /// The destination is overloaded itself, or suffers from pressure or heat.
    Overloaded,
    /// It came from there a short while ago.
    Return,
    /// The downtime would be longer than the workload bears.
    Downtime,
    /// The new node would hardly be less busy than the old one.
    LittleGain,
    /// The move would take the workload more time than it wins.
    Cost,
    /// Enough migrations run already.
    Concurrency,
    /// Nothing needs to be done: the node is relieved without it.
    Relieved,
    /// A workload left the node a short while ago, and its pressure or temperature needs time to fall.
    Settling,
    /// No node can take it.
    NoDestination,
}

impl ReasonCode {
    /// Whether it also stands against a migration that a person asks for. The rest are matters of judgement: load,
    /// cooldown, downtime.
    pub fn is_hard(self) -> bool {
        use ReasonCode::*;
        match self {
            WorkloadMoved | NotRunning | Obstacle | Pinned | InFlight | SourceUnavailable | SourceCannotMigrate => true,
            NodeUnknown | SameNode | Unavailable | Cordoned | Draining | CannotMigrate | Architecture | CpuFeatures
            | Constraint | CgroupLayout | OlderCriu => true,
            NotMeasured | MemoryFull | DiskFull | Concurrency | NoDestination => true,
            Cooldown | FailedLately | Dismissed | Grouped | Burst | Window | MemoryReserve | DiskReserve
            | CpuReserve | Overloaded | Return => false,
            Downtime | LittleGain | Cost | Relieved | Settling => false,
        }
    }
}

/// Every reason against moving `workload` to `destination`, hard and soft; empty if it is feasible.
pub fn feasibility(
    snapshot: &Snapshot,
    policy: &Policy,
    workload: &Workload,
    destination: &Node,
    now: Timestamp,
) -> Vec<Reason> {
    let projection = Projection::new(snapshot, policy, now);
    let context = Context { projection: &projection, policy, now };
    let Some(source) = projection.find(workload.node.as_str()) else {
        return vec![source_unknown(workload)];
    };
    let mut reasons = context.against_leaving(workload, source);
    match projection.find(destination.name.as_str()) {
        Some(destination) => reasons.extend(context.against_destination(workload, source, destination, &[])),
        None => reasons.push(Reason::new(ReasonCode::NodeUnknown, format!("{} is not known", destination.name))),
    }
    reasons
}

pub(crate) fn source_unknown(workload: &Workload) -> Reason {
    Reason::new(ReasonCode::SourceUnavailable, format!("{}, the node it is on, is not known", workload.node))
}

/// What becomes of a reason: kept with its words, or only counted, which costs nothing.
pub(crate) trait Reasons {
    fn add(&mut self, code: ReasonCode, detail: impl FnOnce() -> String);
}

impl Reasons for Vec<Reason> {
    fn add(&mut self, code: ReasonCode, detail: impl FnOnce() -> String) {
        self.push(Reason { code, detail: detail() });
    }
}

/// How many reasons there are.
pub(crate) struct Count(pub(crate) usize);

impl Reasons for Count {
    fn add(&mut self, _: ReasonCode, _: impl FnOnce() -> String) {
        self.0 += 1;
    }
}

/// What every judgement rests on.
#[derive(Clone, Copy)]
pub(crate) struct Context<'p, 'a> {
    pub(crate) projection: &'p Projection<'a>,
    pub(crate) policy: &'p Policy,
    pub(crate) now: Timestamp,
}

impl Context<'_, '_> {
    /// Why the workload can't or shouldn't leave its node, whatever the destination.
    pub(crate) fn against_leaving(&self, workload: &Workload, at: usize) -> Vec<Reason> {
        use ReasonCode::*;
        let source = self.projection.node(at);
        let name = &workload.name;
        let mut reasons = Vec::new();
        let mut add = |code, detail: String| reasons.push(Reason::new(code, detail));
        if let Some(to) = self.projection.flying_to(workload) {
            add(InFlight, format!("{name} is on its way to {to} already"));
        }
        if workload.migrate == MigrateMode::Never {
            add(Pinned, format!("{name} is pinned to {} (migrate = never)", source.name));
        }
        if workload.state != WorkloadState::Running {
            add(NotRunning, format!("{name} is {}, and only a running workload migrates", workload.state.as_str()));
        }
        for obstacle in &workload.obstacles {
            add(Obstacle, format!("{name} can't be checkpointed: {}", sentence(obstacle)));
        }
        if source.availability != Availability::Active {
            add(SourceUnavailable, format!("{}, the node it is on, is {}", source.name, source.availability));
        }
        if let Some(window) = self.projection.frozen(at) {
            add(Window, format!("nothing moves from {} in the window {window:?}", source.name));
        }
        for obstacle in &source.obstacles {
            add(
                SourceCannotMigrate,
                format!("{}, the node it is on, can't migrate: {}", source.name, sentence(obstacle)),
            );
        }
        let cooldown = &self.policy.cooldown;
        if let Some(ago) = self.within(workload.moved_at, cooldown.moved_s) {
            add(Cooldown, format!("{name} moved {ago:.0} s ago and is left alone for {:.0} s", cooldown.moved_s));
        }
        let failed_s = doubled(cooldown.failed_s, workload.failures, cooldown.longest_s);
        if let Some(ago) = self.within(workload.failed_at, failed_s) {
            let detail =
                format!("the last migration of {name} failed {ago:.0} s ago, the next try is after {failed_s:.0} s");
            add(FailedLately, detail);
        }
        if let Some(ago) = self.within(workload.dismissed_at, cooldown.dismissed_s) {
            let span = cooldown.dismissed_s;
            add(
                Dismissed,
                format!("a person said no for {name} {ago:.0} s ago, the next proposal is after {span:.0} s"),
            );
        }
        reasons.extend(self.against_more_moves(at));
        reasons
    }

    /// Evening out and emptying nodes is never worth moving a workload twice in a short while.
    pub(crate) fn against_moving_again(&self, workload: &Workload) -> Option<Reason> {
        let longest_s = self.policy.cooldown.longest_s;
        let ago = self.within(workload.moved_at, longest_s)?;
        let name = &workload.name;
        let detail = format!("{name} moved {ago:.0} s ago; unless a node is in need it rests for {longest_s:.0} s");
        Some(Reason::new(ReasonCode::Cooldown, detail))
    }

    /// Whether enough migrations run already, in the cluster or at this node.
    pub(crate) fn against_more_moves(&self, at: usize) -> Option<Reason> {
        let mut reasons = Vec::new();
        self.concurrency(at, &mut reasons);
        reasons.pop()
    }

    fn concurrency(&self, at: usize, reasons: &mut impl Reasons) {
        let limits = &self.policy.concurrency;
        let (total, here) = (self.projection.moves_total(), self.projection.moves(at));
        if total >= limits.cluster {
            reasons.add(ReasonCode::Concurrency, || {
                format!("as many migrations as may run in the cluster already ({total})")
            });
        } else if here >= limits.per_node {
            let name = &self.projection.node(at).name;
            reasons.add(ReasonCode::Concurrency, || {
                format!("{name} takes part in as many migrations as it may already ({here})")
            });
        }
    }

    /// Why the workload can't or shouldn't go there, in words. `pressing` is what the source suffers from, if
    /// that is why it moves: the new node must then be better in at least one of these.
    pub(crate) fn against_destination(
        &self,
        workload: &Workload,
        source: usize,
        at: usize,
        pressing: &[Metric],
    ) -> Vec<Reason> {
        let mut reasons = Vec::new();
        self.weigh(workload, source, at, pressing, &mut reasons);
        reasons
    }

    /// Whether nothing speaks against going there.
    pub(crate) fn is_feasible(&self, workload: &Workload, source: usize, at: usize, pressing: &[Metric]) -> bool {
        let mut reasons = Count(0);
        self.weigh(workload, source, at, pressing, &mut reasons);
        reasons.0 == 0
    }

    fn weigh(&self, workload: &Workload, from: usize, at: usize, pressing: &[Metric], reasons: &mut impl Reasons) {
        use ReasonCode::*;
        let (source, node) = (self.projection.node(from), self.projection.node(at));
        let name = &node.name;
        if from == at {
            reasons.add(SameNode, || format!("{} is on {name} already", workload.name));
        }
        self.weigh_state(workload, source, at, reasons);
        constraint::weigh(self.projection, self.policy, workload, from, at, reasons);
        let after = self.projection.load_with(workload, from, at);
        let free = self.weigh_load(workload, at, after, reasons);
        if workload.last_from.as_ref() == Some(name) {
            let return_s = self.return_s(workload);
            if let Some(ago) = self.within(workload.moved_at, return_s) {
                reasons.add(Return, || {
                    format!("{} came from {name} {ago:.0} s ago and may return after {return_s:.0} s", workload.name)
                });
            }
        }
        let estimate = self.estimate(workload, from, at, self.policy.strategy);
        let (downtime, budget) = (estimate.downtime_ms, self.downtime_budget_ms(workload));
        if downtime > budget {
            reasons.add(Downtime, || {
                let (downtime, budget) = (milliseconds(downtime as f64), milliseconds(budget as f64));
                let assumed =
                    estimate.assumed_mbps.map_or_else(String::new, |mbps| format!(" at {mbps:.0} Mbit/s, assumed"));
                format!("moving to {name} would stop {} for {downtime}{assumed} (limit {budget})", workload.name)
            });
        }
        if let Some((before, after, what)) = self.gain(from, after, pressing).filter(|_| free) {
            let (cost, benefit) = (self.cost_s(&estimate), self.benefit_s(before - after));
            if before - after < self.policy.min_gain {
                reasons.add(LittleGain, || {
                    let (before, after) = (percent(before), percent(after));
                    format!("{name} would be at {after} {what}, {} is at {before}: too little gain", source.name)
                });
            } else if cost > benefit {
                reasons.add(Cost, || {
                    format!(
                        "moving to {name} would cost {} {cost:.0} s and win it {benefit:.0} s ({} {what} instead of {} for {:.0} s)",
                        workload.name,
                        percent(after),
                        percent(before),
                        self.policy.cost.horizon_s,
                    )
                });
            }
        }
        if from != at {
            self.concurrency(at, reasons);
        }
    }

    fn weigh_state(&self, workload: &Workload, source: &Node, at: usize, reasons: &mut impl Reasons) {
        use ReasonCode::*;
        let node = self.projection.node(at);
        let name = &node.name;
        if node.availability != Availability::Active {
            reasons.add(Unavailable, || format!("{name} is {}", node.availability));
        }
        if node.cordoned {
            reasons.add(Cordoned, || format!("{name} is cordoned"));
        }
        match self.projection.draining(at) {
            Some(projection::Draining::Asked) => reasons.add(Draining, || format!("{name} is being drained")),
            Some(projection::Draining::Window(window)) => {
                reasons.add(Draining, || format!("{name} is being drained in the maintenance window {window:?}"));
            }
            None => {}
        }
        if let Some(window) = self.projection.frozen(at) {
            reasons.add(Window, || format!("nothing moves to {name} in the window {window:?}"));
        }
        for obstacle in &node.obstacles {
            reasons.add(CannotMigrate, || format!("{name} can't migrate: {}", sentence(obstacle)));
        }
        if node.arch != source.arch {
            reasons.add(Architecture, || format!("{name} is {}, {} runs on {}", node.arch, workload.name, source.arch));
        }
        let lacks = source.cpu_features.iter().find(|feature| !node.cpu_features.contains(feature));
        if let Some(feature) = lacks.filter(|_| !node.cpu_features.is_empty()) {
            reasons.add(CpuFeatures, || {
                format!("the CPU of {name} lacks {feature}, which {} may use on {}", workload.name, source.name)
            });
        }
        if let (Some(there), Some(here)) = (&node.cgroup, &source.cgroup)
            && there != here
        {
            reasons
                .add(CgroupLayout, || format!("{name} has cgroup {there}, {} runs under cgroup {here}", workload.name));
        }
        if let (Some(there), Some(here)) = (&node.criu, &source.criu)
            && version(there) < version(here)
        {
            reasons.add(OlderCriu, || format!("{name} has CRIU {there}, which cannot restore what CRIU {here} dumped"));
        }
    }

    /// The largest gain among what the source suffers from: the source's load, the destination's with the workload, and
    /// of what. `None` if there is nothing to compare: heat and pressure can't be projected.
    fn gain(&self, source: usize, after: Load, pressing: &[Metric]) -> Option<(f64, f64, &'static str)> {
        let before = self.projection.load(source);
        let mut best: Option<(f64, f64, &'static str)> = None;
        for metric in pressing {
            let (before, after, what) = match metric {
                Metric::Cpu => (before.cpu?, after.cpu?, "CPU"),
                Metric::Memory => (before.memory?, after.memory?, "memory"),
                Metric::Pressure | Metric::TemperatureC => return None,
            };
            if best.is_none_or(|(b, a, _)| before - after > b - a) {
                best = Some((before, after, what));
            }
        }
        best
    }

    /// How long a workload may not return, in seconds: never less than its last migration took, doubled for every
    /// further move of the day.
    fn return_s(&self, workload: &Workload) -> f64 {
        let cooldown = &self.policy.cooldown;
        let base = cooldown.return_s.max(workload.last_took_s.unwrap_or(0.0));
        doubled(base, workload.moves_24h, cooldown.longest_s)
    }

    /// Whether nothing about the load speaks against it.
    fn weigh_load(&self, workload: &Workload, at: usize, after: Load, reasons: &mut impl Reasons) -> bool {
        use ReasonCode::*;
        let node = self.projection.node(at);
        let name = &node.name;
        let (Some(cpu), Some(memory)) = (after.cpu, after.memory) else {
            reasons.add(NotMeasured, || format!("nobody knows how busy {name} is: its CPU or memory is not measured"));
            return false;
        };
        let mut free = true;
        let memory_limit = 1.0 - self.policy.headroom.memory;
        if memory > 1.0 {
            free = false;
            reasons.add(MemoryFull, || {
                format!("{name} has not enough memory: with {} it would need {}", workload.name, percent(memory))
            });
        } else if memory > memory_limit {
            free = false;
            reasons.add(MemoryReserve, || {
                format!("{name} would use {} of its memory (limit {})", percent(memory), percent(memory_limit))
            });
        }
        let disk_limit = 1.0 - self.policy.headroom.disk;
        if let Some(disk) = after.disk.filter(|disk| *disk > disk_limit) {
            free = false;
            let mebibytes = workload.disk_bytes.div_ceil(1 << 20);
            if disk > 1.0 {
                reasons.add(DiskFull, || {
                    format!("{name} has no room on its disk for the {mebibytes} MiB of {}'s files", workload.name)
                });
            } else {
                reasons.add(DiskReserve, || {
                    let (disk, limit) = (percent(disk), percent(disk_limit));
                    format!("the disk of {name} would be {disk} full (limit {limit})")
                });
            }
        }
        let mut hot_cpu = false;
        for overload in self.projection.overloads(at) {
            hot_cpu |= overload.metric == Metric::Cpu;
            free = false;
            reasons.add(Overloaded, || format!("{name} is overloaded itself: {}", overload.describe()));
        }
        for metric in [Metric::Pressure, Metric::TemperatureC] {
            let threshold = metric.threshold(self.policy);
            if let Some(value) = metric.measure(node, self.policy)
                && (threshold.done..threshold.start).contains(&value)
            {
                free = false;
                reasons
                    .add(Overloaded, || format!("{name} is near overload: {}", metric.describe(value, threshold.done)));
            }
        }
        let cpu_limit = 1.0 - self.policy.headroom.cpu;
        if cpu > cpu_limit && !hot_cpu {
            free = false;
            reasons
                .add(CpuReserve, || format!("{name} would be at {} CPU (limit {})", percent(cpu), percent(cpu_limit)));
        }
        free
    }

    /// Whether a node can take anything at all, whoever asks: what keeps most nodes of a large, busy cluster
    /// from being looked at again and again.
    pub(crate) fn is_open(&self, at: usize) -> bool {
        let (node, load) = (self.projection.node(at), self.projection.load(at));
        node.availability == Availability::Active
            && !node.cordoned
            && self.projection.draining(at).is_none()
            && self.projection.frozen(at).is_none()
            && node.obstacles.is_empty()
            && self.projection.overloads(at).is_empty()
            && load.cpu.is_some_and(|cpu| cpu <= 1.0 - self.policy.headroom.cpu)
            && load.memory.is_some_and(|memory| memory <= 1.0 - self.policy.headroom.memory)
            && load.disk.is_none_or(|disk| disk <= 1.0 - self.policy.headroom.disk)
    }

    /// Seconds since `then`, if that is less than `span_s` ago. A time in the future counts as now: clocks differ.
    fn within(&self, then: Option<Timestamp>, span_s: f64) -> Option<f64> {
        let ago = self.now.duration_since(then?).as_secs_f64().max(0.0);
        (ago < seconds(span_s).as_secs_f64()).then_some(ago)
    }
}

/// `base` doubled for every count after the first, up to `longest`.
fn doubled(base: f64, count: u32, longest: f64) -> f64 {
    let exponent = i32::try_from(count.saturating_sub(1).min(64)).unwrap_or(64);
    (base * 2f64.powi(exponent)).min(longest)
}
