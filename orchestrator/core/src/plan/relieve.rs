//! Overloaded nodes, relieved one workload at a time.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::{Action, Candidate, Choice, Migrate, NotMoved, Plan, Trigger};
use crate::availability::{Availability, seconds};
use crate::explain::{first_few, join, percent};
use crate::feasibility::{Context, Reason, ReasonCode, source_unknown};
use crate::model::{Node, Snapshot, Workload};
use crate::overload::{Metric, Overload, overloads};
use crate::policy::Policy;
use crate::projection::{Projection, Share};
use crate::strategy::Strategy;

/// Plans what to do about overload. The same arguments give the same plan, whatever the order of the snapshot's lists.
///
/// The snapshot and the policy should have passed their `check`; if they haven't, the plan is useless but nothing panics.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Plan {
    let mut plan = Plan { at: now, actions: Vec::new(), not_moved: Vec::new() };
    let mut projection = Projection::new(snapshot, policy, now);
    // A policy may name a strategy that this version hasn't got; balancing must not stop because of it.
    let strategy =
        policy.strategy.resolve().unwrap_or((Strategy::StopAndCopy, "the policy's strategy is not available yet"));
    let mut hot: Vec<(&Node, Vec<Overload>)> = projection
        .nodes()
        .filter(|node| node.availability == Availability::Active)
        .map(|node| (node, overloads(node, policy)))
        .filter(|(_, overloads)| !overloads.is_empty())
        .collect();
    hot.sort_by(|a, b| {
        let severity = |overloads: &[Overload]| overloads.first().map_or(0.0, Overload::severity);
        severity(&b.1).total_cmp(&severity(&a.1)).then(a.0.name.cmp(&b.0.name))
    });
    for (source, overloads) in hot {
        let workloads = snapshot.workloads.iter().filter(|workload| workload.node == source.name).collect();
        Relief { policy, now, source, overloads, strategy }.run(workloads, &mut projection, &mut plan);
    }
    plan.not_moved.sort_by(|a, b| (&a.node, &a.workload).cmp(&(&b.node, &b.workload)));
    plan
}

/// Whether an action still holds, to be asked with a fresh snapshot inside the transaction that starts it: the workload is
/// still there, the destination still feasible, the source still in need. Every reason against it, at once.
pub fn recheck(action: &Action, snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Result<(), Vec<Reason>> {
    let Action::Migrate(migrate) = action;
    let Migrate { workload: name, from, to, trigger, .. } = migrate;
    let Some(workload) = snapshot.workload(name.as_str()) else {
        return Err(vec![Reason::new(ReasonCode::WorkloadMoved, format!("{name} no longer exists"))]);
    };
    if workload.node != *from {
        let detail = format!("{name} is no longer on {from}, it is on {}", workload.node);
        return Err(vec![Reason::new(ReasonCode::WorkloadMoved, detail)]);
    }
    let Some(source) = snapshot.node(from.as_str()) else {
        return Err(vec![source_unknown(workload)]);
    };
    let Some(destination) = snapshot.node(to.as_str()) else {
        return Err(vec![Reason::new(ReasonCode::NodeUnknown, format!("{to} no longer exists"))]);
    };
    let projection = Projection::new(snapshot, policy, now);
    let context = Context { projection: &projection, policy, now };
    let mut reasons = context.against_leaving(workload, source);
    let mut pressing = Vec::new();
    if *trigger == Trigger::Overload {
        // Below `start` is not enough to give up: that is what hysteresis is for.
        pressing.extend(Metric::ALL.into_iter().filter(|metric| {
            metric.measure(source, policy).is_some_and(|value| value >= metric.threshold(policy).done)
        }));
        if pressing.is_empty() {
            reasons.push(Reason::new(ReasonCode::Relieved, format!("{from} is no longer overloaded")));
        }
    }
    reasons.extend(context.against_destination(workload, source, destination, &pressing));
    if *trigger == Trigger::Manual {
        reasons.retain(|reason| reason.code.is_hard());
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// One overloaded node.
struct Relief<'p, 'a> {
    policy: &'p Policy,
    now: Timestamp,
    source: &'a Node,
    overloads: Vec<Overload>,
    strategy: (Strategy, &'static str),
}

impl<'a> Relief<'_, 'a> {
    fn run(&self, mut workloads: Vec<&'a Workload>, projection: &mut Projection<'a>, plan: &mut Plan) {
        let Self { policy, now, source, .. } = *self;
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        workloads.retain(|workload| {
            let mut reasons = Context { projection, policy, now }.against_leaving(workload, source);
            // How many may move is asked again before each one.
            reasons.retain(|reason| reason.code != ReasonCode::Concurrency);
            let free = reasons.is_empty();
            if !free {
                plan.not_moved.push(stays(workload, reasons, Vec::new()));
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
                let rest = workloads
                    .into_iter()
                    .map(|workload| stays(workload, enough.clone().into_iter().collect(), Vec::new()));
                plan.not_moved.extend(rest);
                return;
            };
            let Some(workload) = self.next(&mut workloads, hot, projection) else { return };
            let choice = Choice { context: &context, workload, source, trigger: Trigger::Overload };
            let assessed = choice.assess(&[hot.metric]);
            let destination = assessed.first().filter(|best| best.feasible).map(|best| best.node);
            let why = hot.sentence(source, policy);
            let migrate =
                choice.migrate(&assessed, 0, self.strategy, Some(hot), &why).filter(|_| destination.is_some());
            if let (Some(migrate), Some(destination)) = (migrate, destination) {
                plan.actions.push(Action::Migrate(migrate));
                projection.plan(workload, source, destination);
            } else {
                let candidates = choice.candidates(&assessed, None);
                let reason = Reason::new(ReasonCode::NoDestination, nowhere(workload, &candidates));
                plan.not_moved.push(stays(workload, vec![reason], candidates));
            }
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

    /// Takes out the workload that relieves best: one that needs nobody's approval before one that does; the smallest that
    /// is enough by itself, else the largest; the one with less memory to ship; the first by name.
    fn next(
        &self,
        workloads: &mut Vec<&'a Workload>,
        hot: &Overload,
        projection: &Projection<'_>,
    ) -> Option<&'a Workload> {
        let need = self.need(hot, projection);
        let rank = |workload: &Workload| {
            let share = Share::of(workload, self.source, self.source);
            let share = match hot.metric {
                Metric::Cpu | Metric::TemperatureC => share.cpu,
                Metric::Memory | Metric::Pressure => share.memory,
            };
            let enough = share >= need;
            // Shares are finite and not negative, so their bits sort as they do.
            let size = if enough { share.to_bits() } else { u64::MAX - share.to_bits() };
            (Reverse(self.policy.autonomy.for_workload(workload.migrate)), Reverse(enough), size, workload.memory_bytes)
        };
        let best = (0..workloads.len()).min_by_key(|index| rank(workloads[*index]))?;
        Some(workloads.remove(best))
    }

    fn relieved(&self, projection: &Projection<'_>) -> Reason {
        let name = &self.source.name;
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

fn stays(workload: &Workload, reasons: Vec<Reason>, candidates: Vec<Candidate>) -> NotMoved {
    let (workload_name, node) = (workload.name.clone(), workload.node.clone());
    let reason = format!("{} stays on {}: {}.", workload_name, node, join(&reasons));
    NotMoved { workload: workload_name, node, reason, reasons, candidates }
}

fn nowhere(workload: &Workload, candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return "there is no other node".to_owned();
    }
    format!("no node can take {}: {}", workload.name, first_few(candidates))
}
