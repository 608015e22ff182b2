//! Nodes that are being emptied, because a person said so or a maintenance window is open.

use std::cmp::Reverse;

use super::Plan;
use super::relieve::no_destination;
use super::unit::{Place, Task, told, units};
use crate::feasibility::{Context, ReasonCode};
use crate::model::Workload;
use crate::projection::{Draining, Projection};

/// Everything leaves that can, the most important first; what stays is told why.
pub(super) fn run<'a>(task: &Task<'_>, workloads: Vec<&'a Workload>, projection: &mut Projection<'a>, plan: &mut Plan) {
    let Task { policy, now, source, .. } = *task;
    let why = match projection.draining(source) {
        Some(Draining::Window(window)) => {
            format!("{} is being drained in the maintenance window {window:?}.", projection.node(source).name)
        }
        _ => format!("{} is being drained.", projection.node(source).name),
    };
    let context = Context { projection, policy, now };
    let against = |workload: &'a Workload| {
        let mut reasons = context.against_leaving(workload, source);
        // How many may move is asked again before each one.
        reasons.retain(|reason| !matches!(reason.code, ReasonCode::Cooldown | ReasonCode::Concurrency));
        reasons
    };
    let mut units = units(workloads, against, told(plan));
    let priority = |members: &[&Workload]| members.iter().map(|workload| workload.priority).max();
    units.sort_by_key(|unit| Reverse(priority(&unit.members)));
    for unit in units {
        let context = Context { projection, policy, now };
        if let Some(enough) = context.against_more_moves(source) {
            unit.members.iter().for_each(|workload| told(plan)(workload, vec![enough.clone()]));
            continue;
        }
        match unit.destination(&context, task, &[], Place::Best) {
            Some(to) => unit.go(task, to, None, &why, projection, plan),
            None => no_destination(&unit, &context, task, &[], plan),
        }
    }
}
