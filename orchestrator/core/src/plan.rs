//! What is done about overload, imbalance and nodes that are being emptied, and why.
//!
//! [`plan()`] takes the overloaded nodes, the worst first. Of each it takes the workload that relieves it best without
//! overshooting, gives it to the feasible destination with the highest score, projects the loads, and repeats until the
//! node is projected to be below `done` or nothing is left that can move.
//!
//! Choosing is done with numbers alone (`rank`); words are made only for what was chosen, and for what stays. They are
//! kept, because a decision that can't be explained won't be trusted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::feasibility::Reason;
use crate::model::{Limits, NodeName, WorkloadName};
use crate::policy::Autonomy;
use crate::score::{Factor, FactorName, Penalty};
use crate::strategy::Strategy;

mod balance;
mod choose;
mod drain;
mod follow;
mod pack;
mod rank;
mod relieve;
mod resize;
mod reunite;
mod unit;

pub(crate) use choose::{Assessed, Choice, post_copy_allowed};
pub(crate) use relieve::HARDLY;
pub use relieve::{plan, recheck};

/// What to do, in order, and what is left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// When it was made (the `now` of the planner).
    pub at: Timestamp,
    /// To be carried out in this order.
    pub actions: Vec<Action>,
    /// Every workload of an overloaded or draining node that stays.
    pub not_moved: Vec<NotMoved>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Action {
    /// Move a workload to another node.
    Migrate(Migrate),
    /// Give a workload other limits where it is.
    Resize(Resize),
}

impl Action {
    /// The workload that it is about.
    pub fn workload(&self) -> &WorkloadName {
        match self {
            Self::Migrate(migrate) => &migrate.workload,
            Self::Resize(resize) => &resize.workload,
        }
    }

    /// Why, in sentences.
    pub fn reason(&self) -> &str {
        match self {
            Self::Migrate(migrate) => &migrate.reason,
            Self::Resize(resize) => &resize.reason,
        }
    }
}

/// Give a workload other limits where it is (`docker update`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resize {
    /// What is resized.
    pub workload: WorkloadName,
    /// Where it is.
    pub node: NodeName,
    /// Its limits now.
    pub from: Limits,
    /// The limits to give it.
    pub to: Limits,
    /// Who has to agree, as in [`Migrate`].
    pub autonomy: Autonomy,
    /// One or two sentences a person can agree with.
    pub reason: String,
}

/// Move a workload to another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Migrate {
    /// What moves.
    pub workload: WorkloadName,
    /// The source.
    pub from: NodeName,
    /// The destination.
    pub to: NodeName,
    /// How; never `auto`.
    pub strategy: Strategy,
    /// Why that strategy.
    pub strategy_reason: String,
    /// It was asked for by name; what `auto` chose is refused where the freeze would be longer than the workload bears.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strategy_asked: bool,
    /// Who wants it.
    pub trigger: Trigger,
    /// The group that moves as one; its members' actions follow one another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who has to agree: `automatic` nobody, `confirm` a person, `manual` it is only a recommendation.
    pub autonomy: Autonomy,
    /// What it is expected to cost.
    pub expected: Expected,
    /// How much less busy the workload's new node is, with it, than its old one was: a fraction of memory if that is what
    /// the source lacks, else of CPU. Negative if a person insists on a busier node, or idle nodes are emptied.
    pub gain: f64,
    /// Seconds of its time that the workload wins within the policy's `cost.horizon_s`: `gain × horizon`.
    pub benefit_s: f64,
    /// Seconds of its time that the move takes from it: the downtime and a little for the transfer; null if the bandwidth
    /// is not known. Always below `benefit_s`, unless a person asked for the move, or a drain,
    /// heat or pressure did.
    pub cost_s: Option<f64>,
    /// One to three sentences a person can agree with.
    pub reason: String,
    /// Every other node, best first, then the infeasible ones by name; in a cluster of more than 64 the 64 most
    /// promising.
    pub candidates: Vec<Candidate>,
    /// Other nodes that `candidates` leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Who wants a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The planner, because the source is overloaded.
    Overload,
    /// The planner, because the source is being emptied.
    Drain,
    /// The planner, because the source is much busier than the rest.
    Balance,
    /// The planner, because the source is idle and can be emptied.
    Pack,
    /// The planner, because the workload's clients are nearer to the destination.
    Follow,
    /// The planner, because a migration that failed has split the workload's group.
    Reunite,
    /// A person.
    Manual,
}

/// What a migration is expected to cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Time in which the workload doesn't run; null if the bandwidth is not known.
    pub downtime_ms: Option<u64>,
    /// Time to ship its state; null if the bandwidth is not known.
    pub transfer_s: Option<f64>,
    /// State to ship.
    pub bytes: u64,
}

/// What became of a node that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The workload goes there.
    Chosen,
    /// It could, but another is better.
    Rejected,
    /// It can't.
    Infeasible,
}

/// A node that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The node.
    pub node: NodeName,
    /// What became of it.
    pub verdict: Verdict,
    /// Its score, 0 to 1; null if infeasible.
    pub score: Option<f64>,
    /// What the score is made of; also given for an infeasible node, as far as it is known.
    pub factors: BTreeMap<FactorName, Factor>,
    /// The policy's wishes that it breaks: taken off the sum of the contributions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<Penalty>,
    /// The verdict in a sentence.
    pub reason: String,
    /// Everything that makes it infeasible; for a migration asked for by a person also what speaks against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

/// A workload of an overloaded or draining node that stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotMoved {
    /// What stays.
    pub workload: WorkloadName,
    /// Where.
    pub node: NodeName,
    /// Why, in a sentence.
    pub reason: String,
    /// Why, for programs; at least one.
    pub reasons: Vec<Reason>,
    /// The nodes that were looked at, if any, as in [`Migrate`]; kept for the first 16 workloads of a plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Other nodes that `candidates` leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}
