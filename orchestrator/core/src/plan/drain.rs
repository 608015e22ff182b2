//! Nodes that are being emptied, because a person said so or a maintenance window is open.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::rank::Ranking;
use super::relieve::{EXPLAINED, because, nowhere, stays};
use super::{Action, Choice, Plan, Trigger};
use crate::feasibility::{Context, Reason, ReasonCode};
use crate::model::Workload;
use crate::policy::Policy;
use crate::projection::{Draining, Projection};
use crate::strategy::Strategy;

/// One node that is being emptied.
pub(super) struct Drain<'p> {
    pub(super) policy: &'p Policy,
    pub(super) now: Timestamp,
    pub(super) source: usize,
    pub(super) strategy: (Strategy, &'static str),
    pub(super) ranking: &'p Ranking,
}

impl Drain<'_> {
    /// Everything leaves that can, the most important first; what stays is told why.
    pub(super) fn run<'a>(&self, mut workloads: Vec<&'a Workload>, projection: &mut Projection<'a>, plan: &mut Plan) {
        let Self { policy, now, source, .. } = *self;
        workloads.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
        let why = match projection.draining(source) {
            Some(Draining::Window(window)) => {
                format!("{} is being drained in the maintenance window {window:?}.", projection.node(source).name)
            }
            _ => format!("{} is being drained.", projection.node(source).name),
        };
        for workload in workloads {
            let context = Context { projection, policy, now };
            let mut reasons = context.against_leaving(workload, source);
            reasons.retain(|reason| reason.code != ReasonCode::Cooldown);
            if !reasons.is_empty() {
                plan.not_moved.push(stays(workload, reasons));
                continue;
            }
            let choice = Choice { context: &context, workload, source, trigger: Trigger::Drain };
            let destination = self.ranking.best(&context, workload, source, &[]);
            let explain = || choice.assess_some(&[], self.ranking, destination);
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
            let (assessed, chosen) = explain();
            let migrate = chosen.and_then(|at| choice.migrate(&assessed, at, self.strategy, None, &why));
            plan.actions.extend(migrate.map(Action::Migrate));
            projection.plan(policy, workload, source, destination);
        }
    }
}
