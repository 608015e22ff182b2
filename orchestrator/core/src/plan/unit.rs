//! What moves as one: a workload, or the members of its group that are on its node.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::rank::Ranking;
use super::relieve::stays;
use super::{Action, Choice, Plan, Trigger};
use crate::explain::join;
use crate::feasibility::{Context, Reason, ReasonCode};
use crate::model::Workload;
use crate::overload::{Metric, Overload};
use crate::policy::Policy;
use crate::projection::{Projection, Share};
use crate::score::total;
use crate::strategy::Strategy;

/// Destinations that are tried for a group, the best for its first member first.
const TRIED: usize = 32;

/// By name; at least one.
#[derive(Clone)]
pub(super) struct Unit<'a> {
    pub(super) members: Vec<&'a Workload>,
}

/// What is the same for every move of a node's relief.
#[derive(Clone, Copy)]
pub(super) struct Task<'p> {
    pub(super) policy: &'p Policy,
    pub(super) now: Timestamp,
    pub(super) source: usize,
    pub(super) strategy: Strategy,
    pub(super) ranking: &'p Ranking,
    pub(super) trigger: Trigger,
}

/// Which destination a unit goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The one with the highest score.
    Best,
    /// The fullest that has room, which leaves room elsewhere.
    Tight,
}

impl<'a> Unit<'a> {
    pub(super) fn first(&self) -> &'a Workload {
        self.members[0]
    }

    /// The group that moves as one, if it is more than one workload.
    fn group(&self) -> Option<&'a str> {
        self.first().group.as_deref().filter(|_| self.members.len() > 1)
    }

    pub(super) fn share(&self, projection: &Projection<'_>, source: usize) -> Share {
        let shares = self.members.iter().map(|workload| projection.share(workload, source, source));
        shares.fold(Share { cpu: 0.0, memory: 0.0, disk: 0.0 }, |sum, share| Share {
            cpu: sum.cpu + share.cpu,
            memory: sum.memory + share.memory,
            disk: sum.disk + share.disk,
        })
    }

    /// The node that all of it goes to.
    pub(super) fn destination(
        &self,
        context: &Context<'_, '_>,
        task: &Task<'_>,
        pressing: &[Metric],
        place: Place,
    ) -> Option<usize> {
        let Context { projection, policy, .. } = *context;
        let first = self.first();
        if let ([one], Place::Best) = (&self.members[..], place) {
            return task.ranking.best(context, one, task.source, pressing);
        }
        let rank = |at: usize| {
            let after = projection.load_with(first, task.source, at);
            match place {
                Place::Best => total(projection, first, task.source, at, after, policy),
                Place::Tight => after.cpu.unwrap_or(0.0),
            }
        };
        let feasible = |at: &usize| *at != task.source && context.is_feasible(first, task.source, *at, pressing);
        let mut nodes: Vec<(f64, usize)> = task.ranking.nodes().filter(feasible).map(|at| (rank(at), at)).collect();
        nodes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        nodes.into_iter().take(TRIED).map(|(_, at)| at).find(|at| self.fits(context, task.source, *at, pressing))
    }

    /// Whether all of it has room there, one after the other.
    pub(super) fn fits(&self, context: &Context<'_, '_>, source: usize, at: usize, pressing: &[Metric]) -> bool {
        if !context.is_feasible(self.first(), source, at, pressing) {
            return false;
        }
        if self.members.len() == 1 {
            return true;
        }
        let mut trial = context.projection.clone();
        self.members.iter().enumerate().all(|(index, workload)| {
            // What the first one wins, the group wins; the source is the less busy the more have left.
            let pressing = if index == 0 { pressing } else { &[] };
            let fits = Context { projection: &trial, ..*context }.is_feasible(workload, source, at, pressing);
            trial.plan(context.policy, workload, source, at);
            fits
        })
    }

    /// Plans that all of it moves to `to`.
    pub(super) fn go(
        &self,
        task: &Task<'_>,
        to: usize,
        hot: Option<&Overload>,
        why: &str,
        projection: &mut Projection<'a>,
        plan: &mut Plan,
    ) {
        let Task { policy, now, source, strategy, ranking, trigger } = *task;
        let why = match self.group() {
            Some(group) => format!("{why} The group {group} moves as one."),
            None => why.to_owned(),
        };
        let pressing: Vec<Metric> = match trigger {
            Trigger::Balance => vec![Metric::Cpu],
            _ => hot.map(|hot| hot.metric).into_iter().collect(),
        };
        for (index, workload) in self.members.iter().enumerate() {
            let context = Context { projection, policy, now };
            let choice = Choice { context: &context, workload, source, trigger };
            let pressing = if index == 0 { &pressing[..] } else { &[] };
            let (assessed, chosen) = choice.assess_some(pressing, ranking, Some(to), plan.actions.len());
            let migrate = chosen.and_then(|at| choice.migrate(&assessed, at, strategy, hot, &why));
            if let Some(mut migrate) = migrate {
                migrate.group = self.group().map(str::to_owned);
                plan.actions.push(Action::Migrate(migrate));
            }
            projection.plan(policy, workload, source, to);
        }
    }
}

/// Puts workloads of one node into units, by name. What can't leave is handed to `stay`, with the rest of its group.
pub(super) fn units<'a>(
    mut workloads: Vec<&'a Workload>,
    against: impl Fn(&'a Workload) -> Vec<Reason>,
    mut stay: impl FnMut(&'a Workload, Vec<Reason>),
) -> Vec<Unit<'a>> {
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    let mut found: Vec<Unit<'a>> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<(&'a Workload, Vec<Reason>)>> = BTreeMap::new();
    for workload in workloads {
        let reasons = against(workload);
        match &workload.group {
            Some(group) => groups.entry(group).or_default().push((workload, reasons)),
            None if reasons.is_empty() => found.push(Unit { members: vec![workload] }),
            None => stay(workload, reasons),
        }
    }
    for (group, members) in groups {
        let held = members.iter().find(|(_, reasons)| !reasons.is_empty());
        let Some(why) = held.map(|(_, reasons)| join(reasons)) else {
            found.push(Unit { members: members.into_iter().map(|(workload, _)| workload).collect() });
            continue;
        };
        for (workload, reasons) in members {
            let detail = format!("{} belongs to the group {group}, which moves as one, and {why}", workload.name);
            let rest = || vec![Reason::new(ReasonCode::Grouped, detail)];
            stay(workload, if reasons.is_empty() { rest() } else { reasons });
        }
    }
    found.sort_by(|a, b| a.first().name.cmp(&b.first().name));
    found
}

/// Hands what stays to the plan.
pub(super) fn told(plan: &mut Plan) -> impl FnMut(&Workload, Vec<Reason>) {
    |workload, reasons| plan.not_moved.push(stays(workload, reasons))
}
