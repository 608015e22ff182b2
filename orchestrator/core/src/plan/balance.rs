//! Nodes that are much busier than the rest, though none is overloaded: the policy's `mode = "balance"`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::rank::Ranking;
use super::{Action, Choice, Plan, Trigger};
use crate::availability::Availability;
use crate::explain::percent;
use crate::feasibility::Context;
use crate::model::{Snapshot, Workload};
use crate::overload::Metric;
use crate::policy::{Mode, Policy};
use crate::projection::Projection;
use crate::strategy::Strategy;

/// Evens the cluster out: again and again the busiest node gives its largest workload that doesn't make it less busy than
/// the mean, nor the destination busier than itself.
pub(super) fn run<'a>(
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    now: Timestamp,
    strategy: Strategy,
    projection: &mut Projection<'a>,
    plan: &mut Plan,
) {
    if policy.mode != Mode::Balance {
        return;
    }
    let mut tried = BTreeSet::new();
    while let Some((source, above)) = busiest(projection, policy, &tried) {
        if projection.moves_total() >= policy.concurrency.cluster {
            return;
        }
        let context = Context { projection, policy, now };
        let share = |workload: &Workload| projection.share(workload, source, source).cpu;
        let mut workloads: Vec<&'a Workload> = snapshot
            .workloads
            .iter()
            .filter(|workload| projection.find(workload.node.as_str()) == Some(source))
            .filter(|workload| workload.group.is_none() && share(workload) <= above)
            .filter(|workload| context.against_leaving(workload, source).is_empty())
            .filter(|workload| context.against_moving_again(workload).is_none())
            .collect();
        workloads.sort_by(|a, b| {
            (a.priority.cmp(&b.priority)).then(share(b).total_cmp(&share(a))).then_with(|| a.name.cmp(&b.name))
        });
        // A node that gave something is less busy than its place in an older ranking says.
        let ranking = Ranking::new(&context);
        let evens = |workload: &&'a Workload| {
            let to = ranking.best(&context, workload, source, &[Metric::Cpu])?;
            let after = projection.load_with(workload, source, to).cpu?;
            (after <= projection.load(source).cpu? - share(workload)).then_some((*workload, to))
        };
        let Some((workload, to)) = workloads.iter().find_map(evens) else {
            tried.insert(source);
            continue;
        };
        let choice = Choice { context: &context, workload, source, trigger: Trigger::Balance };
        let (assessed, chosen) = choice.assess_some(&[Metric::Cpu], &ranking, Some(to), plan.actions.len());
        let busy = projection.load(source).cpu.unwrap_or(0.0);
        let why = format!(
            "{} is {} busy, the cluster {} on average (limit {:.0} points above that).",
            projection.node(source).name,
            percent(busy),
            percent(busy - above),
            policy.balance.spread * 100.0,
        );
        let migrate = chosen.and_then(|at| choice.migrate(&assessed, at, strategy, None, &why));
        plan.actions.extend(migrate.map(Action::Migrate));
        projection.plan(policy, workload, source, to);
    }
}

/// How busy the cluster is on average, as a fraction of its capacity; not a number if nobody knows.
pub(super) fn mean(projection: &Projection<'_>) -> f64 {
    let (mut used, mut capacity) = (0.0, 0.0);
    for other in (0..projection.len()).filter(|other| counts(projection, *other)) {
        let node = projection.node(other);
        used += projection.load(other).cpu.unwrap_or(0.0) * node.cpus * node.cpu_score;
        capacity += node.cpus * node.cpu_score;
    }
    used / capacity
}

/// How much busier a node is than the cluster on average, in fractions of its capacity.
pub(super) fn above_mean(projection: &Projection<'_>, at: usize) -> Option<f64> {
    Some(projection.load(at).cpu? - mean(projection)).filter(|above| above.is_finite())
}

/// Whether a node is one that work can be spread over.
fn counts(projection: &Projection<'_>, at: usize) -> bool {
    projection.node(at).availability == Availability::Active
        && projection.draining(at).is_none()
        && projection.load(at).cpu.is_some()
}

/// The busiest node that is out of balance, and by how much it is above the mean.
fn busiest(projection: &Projection<'_>, policy: &Policy, tried: &BTreeSet<usize>) -> Option<(usize, f64)> {
    let busy = |at: &usize| projection.load(*at).cpu.unwrap_or(0.0);
    let at = (0..projection.len())
        .filter(|at| counts(projection, *at) && projection.overloads(*at).is_empty() && !tried.contains(at))
        .max_by(|a, b| busy(a).total_cmp(&busy(b)).then(b.cmp(a)))?;
    let above = above_mean(projection, at)?;
    (above >= policy.balance.spread).then_some((at, above))
}
