//! A migration that a person asks for.

use jiff::Timestamp;

use crate::explain::first_few;
use crate::feasibility::{Context, Reason, source_unknown};
use crate::model::{NodeName, Snapshot, WorkloadName};
use crate::plan::post_copy_allowed;
use crate::plan::{Assessed, Candidate, Choice, Migrate, Trigger};
use crate::policy::Policy;
use crate::problem::nearest;
use crate::projection::Projection;
use crate::strategy::{Strategy, StrategyUnavailable};

/// Why a migration that a person asked for is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows the workload.
    #[error("workload {name:?} is not known{}", hint(.nearest))]
    UnknownWorkload {
        /// What was asked for.
        name: String,
        /// The nearest known name, if one is near.
        nearest: Option<String>,
    },
    /// Nobody knows the node.
    #[error("node {name:?} is not known{}", hint(.nearest))]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// The nearest known name, if one is near.
        nearest: Option<String>,
    },
    /// It is there already.
    #[error("{workload} is on {node} already")]
    AlreadyThere {
        /// The workload.
        workload: WorkloadName,
        /// The node.
        node: NodeName,
    },
    /// The workload can't leave its node, whatever the destination.
    #[error("{workload} can't be moved: {}", crate::explain::join(.reasons))]
    NotMovable {
        /// The workload.
        workload: WorkloadName,
        /// Why, at least one.
        reasons: Vec<Reason>,
    },
    /// The destination asked for can't take it.
    #[error("{node} can't take {workload}: {}", crate::explain::join(.reasons))]
    Infeasible {
        /// The workload.
        workload: WorkloadName,
        /// The destination asked for.
        node: NodeName,
        /// Why, at least one.
        reasons: Vec<Reason>,
        /// Every other node as well.
        candidates: Vec<Candidate>,
    },
    /// No node can take it.
    #[error("no node can take {workload}{}", each(.candidates))]
    NoFeasibleDestination {
        /// The workload.
        workload: WorkloadName,
        /// Every node and why not; empty if there is no other node.
        candidates: Vec<Candidate>,
    },
    /// The strategy can't be used.
    #[error(transparent)]
    Strategy(#[from] StrategyUnavailable),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(": did you mean {name:?}?")).unwrap_or_default()
}

fn each(candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return ": there is no other node".to_owned();
    }
    format!(": {}", first_few(candidates))
}

/// Decides a migration that a person asked for: to `destination`, or to the best node if there is none. It overrules what
/// is a matter of judgement (load, cooldown, autonomy, downtime) but no hard reason; what it overruled is in the chosen
/// candidate's `reasons`. The snapshot and the policy should have passed their `check`.
pub fn place(
    snapshot: &Snapshot,
    policy: &Policy,
    workload: &str,
    destination: Option<&str>,
    strategy: Option<Strategy>,
    now: Timestamp,
) -> Result<Migrate, Refusal> {
    let Some(workload) = snapshot.workload(workload) else {
        let known = snapshot.workloads.iter().map(|known| known.name.as_str());
        return Err(Refusal::UnknownWorkload { name: workload.to_owned(), nearest: near(workload, known) });
    };
    let wanted = match destination {
        None => None,
        Some(name) => {
            let known = snapshot.nodes.iter().map(|known| known.name.as_str());
            let unknown = || Refusal::UnknownNode { name: name.to_owned(), nearest: near(name, known) };
            Some(snapshot.node(name).ok_or_else(unknown)?)
        }
    };
    if let Some(node) = wanted.filter(|node| node.name == workload.node) {
        return Err(Refusal::AlreadyThere { workload: workload.name.clone(), node: node.name.clone() });
    }
    let strategy = strategy.filter(|asked| *asked != Strategy::Auto).unwrap_or(policy.strategy);
    if strategy.is_post_copy() && !post_copy_allowed(workload, policy) {
        return Err(StrategyUnavailable(strategy).into());
    }
    let not_movable = |reasons| Refusal::NotMovable { workload: workload.name.clone(), reasons };
    let projection = Projection::new(snapshot, policy, now);
    let source = projection.find(workload.node.as_str()).ok_or_else(|| not_movable(vec![source_unknown(workload)]))?;
    let context = Context { projection: &projection, policy, now };
    let mut reasons = context.against_leaving(workload, source);
    reasons.retain(|reason| reason.code.is_hard());
    if !reasons.is_empty() {
        return Err(not_movable(reasons));
    }
    let choice = Choice { context: &context, workload, source, trigger: Trigger::Manual };
    let mut assessed = choice.assess(&[]);
    let chosen = match wanted {
        Some(node) => assessed.iter().position(|one| one.feasible && projection.node(one.node).name == node.name),
        None => {
            // Nobody named a node, so one that nothing speaks against comes before a better one that something does.
            assessed.sort_by_key(|one| (!one.feasible, !one.reasons.is_empty()));
            assessed.first().filter(|one| one.feasible).map(|_| 0)
        }
    };
    let why = match wanted {
        Some(node) => format!("A person asked for {}.", node.name),
        None => format!("A person asked to move {} away from {}.", workload.name, workload.node),
    };
    let migrate = chosen.and_then(|index| choice.migrate(&assessed, index, strategy, None, &why));
    migrate.ok_or_else(|| {
        let candidates = choice.candidates(&assessed, None);
        match wanted.and_then(|node| assessed.iter().find(|one| projection.node(one.node).name == node.name)) {
            Some(Assessed { node, reasons, .. }) => {
                let hard = reasons.iter().filter(|reason| reason.code.is_hard()).cloned().collect();
                Refusal::Infeasible {
                    workload: workload.name.clone(),
                    node: projection.node(*node).name.clone(),
                    reasons: hard,
                    candidates,
                }
            }
            None => Refusal::NoFeasibleDestination { workload: workload.name.clone(), candidates },
        }
    })
}

fn near<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(str::to_owned)
}
