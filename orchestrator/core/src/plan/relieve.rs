//! Overloaded nodes, relieved one workload at a time.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::drain::Drain;
use super::rank::Ranking;
use super::{Action, Candidate, Choice, Migrate, NotMoved, Plan, Resize, Trigger, balance, resize};
use crate::availability::{Availability, seconds};
use crate::explain::{first_few, join, percent};
use crate::feasibility::{Context, Reason, ReasonCode, source_unknown};
use crate::model::{Snapshot, Workload};
use crate::overload::{Metric, Overload};
use crate::policy::{Mode, Policy};
use crate::projection::Projection;
use crate::strategy::Strategy;

/// Workloads that stay for which every node is explained: a full cluster has more than anyone reads.
pub(super) const EXPLAINED: usize = 16;

/// Plans what to do. The same arguments give the same plan, whatever the order of the snapshot's lists.
///
/// The snapshot and the policy should have passed their `check`; if they haven't, the plan is useless but nothing panics.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Plan {
    let mut plan = Plan { at: now, actions: Vec::new(), not_moved: Vec::new() };
    let mut projection = Projection::new(snapshot, policy, now);
    // A policy may name a strategy that this version hasn't got; balancing must not stop because of it.
    let strategy =
        policy.strategy.resolve().unwrap_or((Strategy::StopAndCopy, "the policy's strategy is not available yet"));
    resize::run(snapshot, policy, &mut projection, &mut plan);
    let active = |at: &usize| {
        // A node that is being emptied needs no other reason.
        projection.node(*at).availability == Availability::Active && projection.draining(*at).is_none()
    };
    let mut hot: Vec<(usize, Vec<Overload>)> = (0..projection.len())
        .filter(active)
        .map(|at| (at, projection.overloads(at).to_vec()))
        .filter(|(_, overloads)| !overloads.is_empty())
        .collect();
    let draining: Vec<usize> = (0..projection.len()).filter(|at| projection.draining(*at).is_some()).collect();
    if hot.is_empty() && draining.is_empty() {
        balance::run(snapshot, policy, now, strategy, &mut projection, &mut plan);
        return plan;
    }
    hot.sort_by(|a, b| {
        let severity = |overloads: &[Overload]| overloads.first().map_or(0.0, Overload::severity);
        severity(&b.1).total_cmp(&severity(&a.1)).then(a.0.cmp(&b.0))
    });
    let mut workloads =
        workloads_of(snapshot, &projection, hot.iter().map(|(at, _)| *at).chain(draining.iter().copied()));
    let ranking = Ranking::new(&Context { projection: &projection, policy, now });
    for (source, overloads) in hot {
        let here = workloads.get_mut(source).map(std::mem::take).unwrap_or_default();
        let relief = Relief { policy, now, source, overloads, strategy, ranking: &ranking };
        relief.run(here, &mut projection, &mut plan);
    }
    for source in draining {
        let here = workloads.get_mut(source).map(std::mem::take).unwrap_or_default();
        Drain { policy, now, source, strategy, ranking: &ranking }.run(here, &mut projection, &mut plan);
    }
    balance::run(snapshot, policy, now, strategy, &mut projection, &mut plan);
    plan.not_moved.sort_by(|a, b| (&a.node, &a.workload).cmp(&(&b.node, &b.workload)));
    plan
}

/// The workloads of each of these nodes, by the node's place.
fn workloads_of<'a>(
    snapshot: &'a Snapshot,
    projection: &Projection<'_>,
    nodes: impl Iterator<Item = usize>,
) -> Vec<Vec<&'a Workload>> {
    let mut wanted = vec![false; projection.len()];
    for at in nodes {
        wanted[at] = true;
    }
    let mut workloads = vec![Vec::new(); projection.len()];
    for workload in &snapshot.workloads {
        if let Some(at) = projection.find(workload.node.as_str()).filter(|at| wanted[*at]) {
            workloads[at].push(workload);
        }
    }
    workloads
}

/// Whether an action still holds, to be asked with a fresh snapshot inside the transaction that starts it: the workload is
/// still there, the destination still feasible, the source still in need. Every reason against it, at once.
pub fn recheck(action: &Action, snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Result<(), Vec<Reason>> {
    let migrate = match action {
        Action::Migrate(migrate) => migrate,
        Action::Resize(resize) => return recheck_resize(resize, snapshot, policy),
    };
    let Migrate { workload: name, from, to, trigger, .. } = migrate;
    let Some(workload) = snapshot.workload(name.as_str()) else {
        return Err(vec![Reason::new(ReasonCode::WorkloadMoved, format!("{name} no longer exists"))]);
    };
    if workload.node != *from {
        let detail = format!("{name} is no longer on {from}, it is on {}", workload.node);
        return Err(vec![Reason::new(ReasonCode::WorkloadMoved, detail)]);
    }
    let projection = Projection::new(snapshot, policy, now);
    let Some(source) = projection.find(from.as_str()) else {
        return Err(vec![source_unknown(workload)]);
    };
    let Some(destination) = projection.find(to.as_str()) else {
        return Err(vec![Reason::new(ReasonCode::NodeUnknown, format!("{to} no longer exists"))]);
    };
    let context = Context { projection: &projection, policy, now };
    let mut reasons = context.against_leaving(workload, source);
    let mut pressing = Vec::new();
    if *trigger == Trigger::Overload {
        // Below `start` is not enough to give up: that is what hysteresis is for.
        pressing.extend(Metric::ALL.into_iter().filter(|metric| {
            metric.measure(projection.node(source), policy).is_some_and(|value| value >= metric.threshold(policy).done)
        }));
        if pressing.is_empty() {
            reasons.push(Reason::new(ReasonCode::Relieved, format!("{from} is no longer overloaded")));
        }
    }
    if *trigger == Trigger::Balance {
        pressing.push(Metric::Cpu);
        // Half of what makes it begin is not enough to give up.
        let above = balance::above_mean(&projection, source);
        if policy.mode != Mode::Balance || above.is_none_or(|above| above < policy.balance.spread / 2.0) {
            let detail = format!("{from} is no longer much busier than the rest");
            reasons.push(Reason::new(ReasonCode::Relieved, detail));
        }
    }
    if *trigger == Trigger::Drain {
        // Who empties a node doesn't wait for a cooldown.
        reasons.retain(|reason| reason.code != ReasonCode::Cooldown);
        if projection.draining(source).is_none() {
            reasons.push(Reason::new(ReasonCode::Relieved, format!("{from} is no longer being drained")));
        }
    }
    reasons.extend(context.against_destination(workload, source, destination, &pressing));
    if *trigger == Trigger::Manual {
        reasons.retain(|reason| reason.code.is_hard());
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn recheck_resize(resize: &Resize, snapshot: &Snapshot, policy: &Policy) -> Result<(), Vec<Reason>> {
    let name = &resize.workload;
    let why = match snapshot.workload(name.as_str()) {
        None => format!("{name} no longer exists"),
        Some(workload) if workload.node != resize.node => format!("{name} is no longer on {}", resize.node),
        Some(workload) if workload.limits != resize.from => format!("{name} has other limits meanwhile"),
        Some(workload) if !resize::still_wanted(resize, workload, policy) => {
            return Err(vec![Reason::new(ReasonCode::Relieved, format!("{name} no longer needs other limits"))]);
        }
        Some(_) => return Ok(()),
    };
    Err(vec![Reason::new(ReasonCode::WorkloadMoved, why)])
}

/// One overloaded node.
struct Relief<'p> {
    policy: &'p Policy,
    now: Timestamp,
    source: usize,
    overloads: Vec<Overload>,
    strategy: (Strategy, &'static str),
    ranking: &'p Ranking,
}

impl Relief<'_> {
    fn run<'a>(&self, mut workloads: Vec<&'a Workload>, projection: &mut Projection<'a>, plan: &mut Plan) {
        let Self { policy, now, source, .. } = *self;
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        workloads.retain(|workload| {
            let mut reasons = Context { projection, policy, now }.against_leaving(workload, source);
            // How many may move is asked again before each one.
            reasons.retain(|reason| reason.code != ReasonCode::Concurrency);
            let free = reasons.is_empty();
            if !free {
                plan.not_moved.push(stays(workload, reasons));
            }
            free
        });
        loop {
            let context = Context { projection, policy, now };
            let pressing = self.overloads.iter().find(|hot| self.need(hot, projection) > 0.0);
            let enough = match pressing {
                None => Some(self.relieved(projection)),
                Some(_) => context.against_more_moves(source),
            };
            let (Some(hot), None) = (pressing, &enough) else {
                let rest = workloads.into_iter().map(|workload| stays(workload, enough.clone().into_iter().collect()));
                plan.not_moved.extend(rest);
                return;
            };
            let Some(workload) = self.next(&mut workloads, hot, projection) else { return };
            let choice = Choice { context: &context, workload, source, trigger: Trigger::Overload };
            let pressing = [hot.metric];
            let destination = self.ranking.best(&context, workload, source, &pressing);
            let explain = || choice.assess_some(&pressing, self.ranking, destination);
            let Some(destination) = destination else {
                let mut stays = stays(workload, Vec::new());
                let detail = if plan.not_moved.iter().filter(|stays| !stays.candidates.is_empty()).count() < EXPLAINED {
                    stays.candidates = choice.candidates(&explain().0, None);
                    nowhere(workload, &stays.candidates)
                } else {
                    format!("none of the {} other nodes can take {}", projection.len() - 1, workload.name)
                };
                stays.omitted = choice.omitted(&stays.candidates);
                plan.not_moved.push(because(stays, vec![Reason::new(ReasonCode::NoDestination, detail)]));
                continue;
            };
            let why = hot.sentence(projection.node(source), policy);
            let (assessed, chosen) = explain();
            let migrate = chosen.and_then(|at| choice.migrate(&assessed, at, self.strategy, Some(hot), &why));
            plan.actions.extend(migrate.map(Action::Migrate));
            projection.plan(policy, workload, source, destination);
        }
    }

    /// How much must still leave for the node to be done, in shares of its capacity; 0 if nothing must. Pressure and
    /// temperature can't be projected: for them one workload leaves, whatever its size, and then they get time to fall.
    fn need(&self, hot: &Overload, projection: &Projection<'_>) -> f64 {
        let load = projection.load(self.source);
        match hot.metric {
            // Just above 0 when it is exactly at `done`, which is not below it.
            Metric::Cpu => load.cpu.map_or(0.0, |cpu| cpu - hot.threshold.done + f64::EPSILON).max(0.0),
            Metric::Memory => load.memory.map_or(0.0, |memory| memory - hot.threshold.done + f64::EPSILON).max(0.0),
            Metric::Pressure | Metric::TemperatureC => {
                let settle = seconds(self.policy.cooldown.settle_s);
                let settling =
                    projection.last_left(self.source).is_some_and(|left| self.now.duration_since(left) < settle);
                if settling { 0.0 } else { f64::INFINITY }
            }
        }
    }

    /// Takes out the workload that relieves best: one that needs nobody's approval before one that does; the one of
    /// the lowest priority; the smallest that is enough by itself, else the largest; the one with less memory to ship; the
    /// first by name.
    fn next<'a>(
        &self,
        workloads: &mut Vec<&'a Workload>,
        hot: &Overload,
        projection: &Projection<'_>,
    ) -> Option<&'a Workload> {
        let need = self.need(hot, projection);
        let rank = |workload: &Workload| {
            let share = projection.share(workload, self.source, self.source);
            let share = match hot.metric {
                Metric::Cpu | Metric::TemperatureC => share.cpu,
                Metric::Memory | Metric::Pressure => share.memory,
            };
            let enough = share >= need;
            // Shares are finite and not negative, so their bits sort as they do.
            let size = if enough { share.to_bits() } else { u64::MAX - share.to_bits() };
            let approval = Reverse(self.policy.autonomy.for_workload(workload.migrate));
            (approval, workload.priority, Reverse(enough), size, workload.memory_bytes)
        };
        let best = (0..workloads.len()).min_by_key(|index| rank(workloads[*index]))?;
        Some(workloads.remove(best))
    }

    fn relieved(&self, projection: &Projection<'_>) -> Reason {
        let name = &projection.node(self.source).name;
        let load = projection.load(self.source);
        let slow = self.overloads.iter().find(|hot| matches!(hot.metric, Metric::Pressure | Metric::TemperatureC));
        if let Some(hot) = slow {
            let detail =
                format!("{name} is at {}; a workload has just left, and that needs time to show", hot.describe());
            return Reason::new(ReasonCode::Settling, detail);
        }
        let parts: Vec<String> = self
            .overloads
            .iter()
            .filter_map(|hot| match hot.metric {
                Metric::Cpu => Some(format!("{} CPU", percent(load.cpu?))),
                Metric::Memory => Some(format!("{} memory", percent(load.memory?))),
                Metric::Pressure | Metric::TemperatureC => None,
            })
            .collect();
        let detail = format!("{name} will be at {} once the moves planned and under way are done", parts.join(" and "));
        Reason::new(ReasonCode::Relieved, detail)
    }
}

pub(super) fn stays(workload: &Workload, reasons: Vec<Reason>) -> NotMoved {
    let (workload, node) = (workload.name.clone(), workload.node.clone());
    let empty =
        NotMoved { workload, node, reason: String::new(), reasons: Vec::new(), candidates: Vec::new(), omitted: 0 };
    because(empty, reasons)
}

pub(super) fn because(stays: NotMoved, reasons: Vec<Reason>) -> NotMoved {
    let reason = format!("{} stays on {}: {}.", stays.workload, stays.node, join(&reasons));
    NotMoved { reason, reasons, ..stays }
}

pub(super) fn nowhere(workload: &Workload, candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return "there is no other node".to_owned();
    }
    format!("no node can take {}: {}", workload.name, first_few(candidates))
}
