//! Workloads go to where the delay to their clients is lowest: the policy's `mode = "follow"`.

use jiff::Timestamp;

use super::rank::Ranking;
use super::unit::{Task, Unit};
use super::{Plan, Trigger};
use crate::explain::milliseconds;
use crate::feasibility::Context;
use crate::model::{Snapshot, Workload};
use crate::policy::{Follow, Mode, Policy};
use crate::projection::Projection;
use crate::score::total;
use crate::strategy::Strategy;

/// The delay to a workload's clients if it is at `at`: the mean over their shares. `None` if some of it is not known.
pub(super) fn delay_ms(projection: &Projection<'_>, workload: &Workload, at: usize) -> Option<f64> {
    let (mut sum, mut shares) = (0.0, 0.0);
    for some in &workload.clients {
        let near = projection.find(some.node.as_str())?;
        let rtt = if near == at { 0.0 } else { projection.rtt_ms(near, at)? };
        (sum, shares) = (sum + some.share * rtt, shares + some.share);
    }
    Some(sum / shares).filter(|delay| delay.is_finite())
}

/// Whether a move from one delay to another is worth it.
pub(super) fn worth(follow: &Follow, now_ms: f64, then_ms: f64) -> bool {
    now_ms - then_ms >= follow.gain_ms && then_ms <= follow.ratio * now_ms && then_ms < now_ms
}

/// Moves those that win most first. A member of a group stays: its group's clients may be elsewhere.
pub(super) fn run<'a>(
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    now: Timestamp,
    strategy: Strategy,
    projection: &mut Projection<'a>,
    plan: &mut Plan,
) {
    if policy.mode != Mode::Follow {
        return;
    }
    let ranking = Ranking::new(&Context { projection, policy, now });
    let nearest = |projection: &Projection<'a>, workload: &'a Workload| {
        let source = projection.find(workload.node.as_str())?;
        let context = Context { projection, policy, now };
        let here = delay_ms(projection, workload, source)?;
        let rests = context.against_leaving(workload, source).is_empty() && projection.draining(source).is_none();
        let candidate = |at: usize| {
            let there = delay_ms(projection, workload, at)?;
            let good = worth(&policy.follow, here, there) && context.is_feasible(workload, source, at, &[]);
            let after = projection.load_with(workload, source, at);
            good.then(|| (there, total(projection, workload, source, at, after, policy), at))
        };
        let best = ranking.nodes().filter(|at| *at != source).filter_map(candidate);
        let best = best.min_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        best.filter(|_| rests).map(|(there, _, to)| (source, to, here, there))
    };
    let follows = |workload: &&Workload| !workload.clients.is_empty() && workload.group.is_none();
    let mut wins: Vec<(f64, &'a Workload)> = snapshot
        .workloads
        .iter()
        .filter(follows)
        .filter_map(|workload| nearest(projection, workload).map(|(_, _, here, there)| (here - there, workload)))
        .collect();
    wins.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    for (_, workload) in wins {
        let Some((source, to, here, there)) = nearest(projection, workload) else { continue };
        let why = format!(
            "The clients of {} are {} away from {}, and {} from {}.",
            workload.name,
            milliseconds(here),
            projection.node(source).name,
            milliseconds(there),
            projection.node(to).name
        );
        let task = Task { policy, now, source, strategy, ranking: &ranking, trigger: Trigger::Follow };
        Unit { members: vec![workload] }.go(&task, to, None, &why, projection, plan);
    }
}
