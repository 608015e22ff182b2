//! Groups that a failed migration has split.
//!
//! The members of a group are begun together, but each migration ends by itself: one may have committed when another is rolled
//! back. Then those that stayed follow to where the others are, once the pause after their failure is over. Where that has
//! failed too often, or there is no room, those that left come back, whatever their cooldown; where neither can be, it is said.
//! A group that a person has spread is left as it is: nothing of it has failed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::rank::Ranking;
use super::relieve::stays;
use super::unit::{Task, Unit};
use super::{Action, Plan, Trigger};
use crate::availability::seconds;
use crate::explain::join;
use crate::feasibility::{Context, Reason, ReasonCode};
use crate::model::{Snapshot, Workload};
use crate::policy::Policy;
use crate::projection::Projection;
use crate::strategy::Strategy;

/// After so many failures of one that should follow, the others rather come back.
const TRIES: u32 = 3;

/// A group on two nodes.
struct Split<'a> {
    group: &'a str,
    /// Where some stayed, and who.
    here: usize,
    stayed: Vec<&'a Workload>,
    /// Where some went, and who.
    there: usize,
    left: Vec<&'a Workload>,
}

/// Whether nothing speaks against a node but that the workload came from there.
pub(super) fn feasible(reasons: &[Reason]) -> bool {
    reasons.iter().all(|reason| reason.code == ReasonCode::Return)
}

/// Whether some of the workload's group is at `to`, or on its way there: to be asked before it is reunited.
pub(super) fn is_still_split(snapshot: &Snapshot, workload: &Workload, to: &str) -> bool {
    let on_its_way = |other: &Workload| snapshot.in_flight.iter().any(|f| f.workload == other.name && f.to == *to);
    snapshot.workloads.iter().any(|other| {
        other.group.is_some()
            && other.group == workload.group
            && other.name != workload.name
            && (other.node == *to || on_its_way(other))
    })
}

/// Brings together what can be.
pub(super) fn run<'a>(
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    now: Timestamp,
    strategy: Strategy,
    projection: &mut Projection<'a>,
    plan: &mut Plan,
) {
    for split in splits(snapshot, policy, now, projection) {
        let ranking = Ranking::new(&Context { projection, policy, now });
        let task = |source| Task { policy, now, source, strategy, ranking: &ranking, trigger: Trigger::Reunite };
        let (here, there) = (&projection.node(split.here).name, &projection.node(split.there).name);
        let names =
            |members: &[&Workload]| members.iter().map(|one| one.name.to_string()).collect::<Vec<_>>().join(" and ");
        let (stayed, left) = (names(&split.stayed), names(&split.left));
        let why = format!(
            "The group {} is split: {left} moved to {there}, and {stayed} stayed on {here} because a migration failed.",
            split.group
        );
        let context = Context { projection, policy, now };
        let against_following = against(&context, &split.stayed, split.here, split.there);
        let against_return = against(&context, &split.left, split.there, split.here);
        let tired = split.stayed.iter().any(|workload| workload.failures >= TRIES);
        let waits = |reasons: &[Reason]| {
            reasons.iter().all(|reason| matches!(reason.code, ReasonCode::FailedLately | ReasonCode::Concurrency))
        };
        if against_following.is_empty() && (!tired || !against_return.is_empty()) {
            Unit { members: split.stayed }.go(&task(split.here), split.there, None, &why, projection, plan);
        } else if against_return.is_empty() && (tired || !waits(&against_following)) {
            Unit { members: split.left }.go(&task(split.there), split.here, None, &why, projection, plan);
        } else {
            let (follow, back) = (join(&against_following), join(&against_return));
            let detail = match against_return.is_empty() {
                true => format!("{why} {stayed} can't follow yet: {follow}"),
                false => format!("{why} {stayed} can't follow: {follow}. {left} can't come back: {back}"),
            };
            let said = |workload: &&Workload| stays(workload, vec![Reason::new(ReasonCode::Grouped, detail.clone())]);
            plan.not_moved.extend(split.stayed.iter().map(said));
        }
    }
}

/// After everything is planned: what moves does not stay, and what stays is told why once, first why its group is split.
pub(super) fn say_once(plan: &mut Plan) {
    let moves: BTreeSet<_> = plan.actions.iter().map(Action::workload).collect();
    plan.not_moved.retain(|stays| !moves.contains(&stays.workload));
    plan.not_moved.dedup_by(|later, first| later.workload == first.workload);
}

fn splits<'a>(snapshot: &'a Snapshot, policy: &Policy, now: Timestamp, projection: &Projection<'a>) -> Vec<Split<'a>> {
    let lately = |then: Option<Timestamp>| {
        then.is_some_and(|then| now.duration_since(then) < seconds(policy.cooldown.longest_s))
    };
    let failed = |workload: &Workload| workload.failures > 0 && lately(workload.failed_at);
    let mut groups: BTreeMap<&str, Vec<&Workload>> = snapshot
        .workloads
        .iter()
        .filter(|workload| failed(workload))
        .filter_map(|workload| Some((workload.group.as_deref()?, Vec::new())))
        .collect();
    if groups.is_empty() {
        return Vec::new();
    }
    for workload in &snapshot.workloads {
        if let Some(members) = workload.group.as_deref().and_then(|group| groups.get_mut(group)) {
            members.push(workload);
        }
    }
    let split = |(group, mut members): (&'a str, Vec<&'a Workload>)| {
        members.sort_by(|a, b| a.name.cmp(&b.name));
        // Whatever is under way may end well.
        if members.iter().any(|workload| projection.flying_to(workload).is_some()) {
            return None;
        }
        let who_failed = members.iter().copied().filter(|workload| failed(workload));
        who_failed.into_iter().find_map(|failed| {
            let left = |workload: &&Workload| {
                workload.node != failed.node
                    && workload.last_from.as_ref() == Some(&failed.node)
                    && lately(workload.moved_at)
            };
            let last = members.iter().copied().filter(left).max_by_key(|workload| workload.moved_at)?;
            let at = |node: &str| members.iter().copied().filter(|workload| workload.node == *node).collect::<Vec<_>>();
            Some(Split {
                group,
                here: projection.find(failed.node.as_str())?,
                stayed: at(failed.node.as_str()),
                there: projection.find(last.node.as_str())?,
                left: members.iter().copied().filter(left).filter(|workload| workload.node == last.node).collect(),
            })
        })
    };
    groups.into_iter().filter_map(split).collect()
}

/// Everything against moving these together, one after the other, whatever their cooldown and wherever they came from.
fn against(context: &Context<'_, '_>, members: &[&Workload], from: usize, to: usize) -> Vec<Reason> {
    let mut trial = context.projection.clone();
    let mut found: Vec<Reason> = Vec::new();
    for workload in members {
        let trying = Context { projection: &trial, ..*context };
        let mut reasons = trying.against_leaving(workload, from);
        reasons.extend(trying.against_destination(workload, from, to, &[]));
        reasons.retain(|reason| {
            !matches!(reason.code, ReasonCode::Cooldown | ReasonCode::Return) && !found.contains(reason)
        });
        found.extend(reasons);
        trial.plan(context.policy, workload, from, to);
    }
    found
}
