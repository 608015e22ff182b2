//! Idle nodes are emptied, so that they can be switched off: the policy's `mode = "pack"`.
//!
//! A node is emptied whole or not at all: its workloads leave only if every one of them has a place on a node that keeps
//! running, and over several rounds if not all may move at once. What was moved rests for `cooldown.longest_s`.

use super::Plan;
use super::rank::Ranking;
use super::unit::{Task, Unit, units};
use crate::availability::Availability;
use crate::explain::percent;
use crate::feasibility::{Context, Reason, ReasonCode};
use crate::model::{Snapshot, Workload};
use crate::policy::{Concurrency, Mode, Policy};
use crate::projection::{Projection, hosts};
use crate::strategy::Strategy;

use super::Trigger;
use jiff::Timestamp;

/// Nodes that are tried in one round: most rounds have no moves left after the first.
const TRIED: usize = 16;

/// Empties as many idle nodes as may be.
pub(super) fn run<'a>(
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    now: Timestamp,
    strategy: Strategy,
    projection: &mut Projection<'a>,
    plan: &mut Plan,
) {
    if policy.mode != Mode::Pack {
        return;
    }
    let hosts = hosts(snapshot, projection);
    let mut kept: Vec<bool> = hosts.iter().map(|workloads| !workloads.is_empty()).collect();
    let mut running = kept.iter().filter(|kept| **kept).count();
    let mut received = vec![false; hosts.len()];
    let mut donors: Vec<usize> = (0..hosts.len()).filter(|at| kept[*at] && is_idle(projection, policy, *at)).collect();
    donors.sort_by(|a, b| {
        let load = |at: usize| projection.load(at).cpu.unwrap_or(0.0);
        (battery(projection, *b).cmp(&battery(projection, *a))).then(load(*a).total_cmp(&load(*b))).then(a.cmp(b))
    });
    // Whether everything fits is asked without regard to how much may move at once.
    let concurrency = Concurrency { per_node: u32::MAX, cluster: u32::MAX };
    let patient = Policy { concurrency, ..policy.clone() };
    for source in donors.into_iter().take(TRIED) {
        if running <= usize::try_from(policy.pack.keep).unwrap_or(usize::MAX) {
            return;
        }
        if received[source] || projection.moves_total() >= policy.concurrency.cluster {
            continue;
        }
        let ranking = Ranking::new(&Context { projection, policy, now });
        let task = Task { policy, now, source, strategy, ranking: &ranking, trigger: Trigger::Pack };
        let Some(places) = everything(&hosts[source], &kept, &task, &patient, projection) else { continue };
        kept[source] = false;
        running -= 1;
        let name = &projection.node(source).name;
        let idle = percent(projection.load(source).cpu.unwrap_or(0.0));
        let power = if battery(projection, source) { " on battery and" } else { "" };
        let limit = percent(policy.pack.below);
        let why =
            format!("{name} is{power} only {idle} busy (limit {limit}); once it is empty it can be switched off.");
        for (unit, to) in places {
            received[to] = true;
            let context = Context { projection, policy, now };
            if unit.fits(&context, source, to, &[]) && context.against_more_moves(source).is_none() {
                unit.go(&task, to, None, &why, projection, plan);
            }
        }
    }
}

/// Whether a node may be emptied.
fn is_idle(projection: &Projection<'_>, policy: &Policy, at: usize) -> bool {
    let node = projection.node(at);
    node.availability == Availability::Active
        && projection.draining(at).is_none()
        && projection.frozen(at).is_none()
        && projection.overloads(at).is_empty()
        && projection.load(at).cpu.is_some_and(|cpu| cpu < policy.pack.below)
}

fn battery(projection: &Projection<'_>, at: usize) -> bool {
    projection.node(at).labels.get("power").is_some_and(|power| power == "battery")
}

/// A place for everything that is on the source, if there is one for everything.
fn everything<'a>(
    workloads: &[&'a Workload],
    kept: &[bool],
    task: &Task<'_>,
    patient: &Policy,
    projection: &Projection<'a>,
) -> Option<Vec<(Unit<'a>, usize)>> {
    let Task { now, source, .. } = *task;
    let mut trial = projection.clone();
    let mut held = false;
    let context = Context { projection, policy: patient, now };
    let against = |workload: &'a Workload| {
        let mut reasons = context.against_leaving(workload, source);
        reasons.extend(context.against_moving_again(workload));
        // Its place is counted already; it just has to arrive.
        reasons.retain(|reason: &Reason| reason.code != ReasonCode::InFlight);
        reasons
    };
    let mut units = units(workloads.to_vec(), against, |_, _| held = true);
    if held {
        return None;
    }
    let size = |unit: &Unit<'_>| unit.share(projection, source).cpu;
    units.sort_by(|a, b| size(b).total_cmp(&size(a)).then_with(|| a.first().name.cmp(&b.first().name)));
    let mut places = Vec::new();
    for unit in units {
        let context = Context { projection: &trial, policy: patient, now };
        let after = |at: usize| {
            let more: f64 = unit.members.iter().map(|workload| trial.share(workload, source, at).cpu).sum();
            trial.load(at).cpu.map_or(f64::INFINITY, |cpu| cpu + more)
        };
        let fill = patient.pack.fill;
        let takes = |at: &usize| {
            *at != source
                && kept[*at]
                && (battery(&trial, source) || !battery(&trial, *at))
                && after(*at) <= fill
                && unit.fits(&context, source, *at, &[])
        };
        // The fullest that has room; of equals the first by name.
        let to = (0..trial.len()).filter(takes).max_by(|a, b| after(*a).total_cmp(&after(*b)).then(b.cmp(a)))?;
        unit.members.iter().for_each(|workload| trial.plan(patient, workload, source, to));
        places.push((unit, to));
    }
    Some(places)
}
