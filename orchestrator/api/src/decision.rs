//! Decisions: why something moves, or does not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `GET /v1/decisions`, `GET /v1/decisions/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// Its id; sorts by time.
    pub id: Uuid,
    /// When it was made.
    pub at: Timestamp,
    /// `policy` or `user`.
    pub asked_by: String,
    /// The workload it is about.
    pub workload: String,
    /// Where the workload was.
    pub source: String,
    /// Where it goes; `None` when it stays.
    pub destination: Option<String>,
    /// One or two sentences for people.
    pub reason: String,
    /// The policy's version that was in force.
    pub policy_version: u64,
    /// The migration that carries it out.
    pub migration: Option<Uuid>,
    /// What made the planner look: `overload`, `drain`, `balance` or `manual`.
    #[serde(default)]
    pub trigger: Option<String>,
    /// How state is to travel, and why that way.
    #[serde(default)]
    pub strategy_reason: Option<String>,
    /// How much less busy the workload's new node is than its old one, as a fraction.
    #[serde(default)]
    pub gain: Option<f64>,
    /// Seconds that the workload wins.
    #[serde(default)]
    pub benefit_s: Option<f64>,
    /// Seconds that the move takes from it; `None` when the bandwidth is not known.
    #[serde(default)]
    pub cost_s: Option<f64>,
    /// The downtime that was expected.
    #[serde(default)]
    pub expected_downtime_ms: Option<u64>,
    /// The state that was expected to travel.
    #[serde(default)]
    pub expected_bytes: Option<u64>,
    /// Every node that was looked at, best first.
    pub candidates: Vec<Candidate>,
    /// Other nodes that `candidates` leaves out: in a large cluster only the most promising are kept.
    #[serde(default)]
    pub omitted: usize,
    /// What was decided.
    #[serde(default)]
    pub kind: Kind,
    /// What became of it.
    #[serde(default)]
    pub status: Status,
    /// `resize`: the limits before and after.
    #[serde(default)]
    pub limits: Option<LimitsChange>,
    /// When a person approved or dismissed it, or it was withdrawn.
    #[serde(default)]
    pub answered_at: Option<Timestamp>,
}

/// What was decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A workload moves.
    #[default]
    Migrate,
    /// A workload gets other limits where it is.
    Resize,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is carried out; its migration says how that goes.
    #[default]
    Begun,
    /// It waits for a person's approval (autonomy `confirm`).
    Proposed,
    /// It is advice only (autonomy `manual`): a person who agrees migrates or resizes.
    Recommended,
    /// A person approved it, and it is carried out.
    Approved,
    /// A person dismissed it.
    Dismissed,
    /// It no longer held before anybody answered.
    Withdrawn,
    /// A resize was carried out.
    Done,
    /// A resize was refused by the node.
    Failed,
}

impl Status {
    /// Whether a person may still answer.
    pub const fn is_open(self) -> bool {
        matches!(self, Status::Proposed | Status::Recommended)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Begun => "begun",
            Status::Proposed => "proposed",
            Status::Recommended => "recommended",
            Status::Approved => "approved",
            Status::Dismissed => "dismissed",
            Status::Withdrawn => "withdrawn",
            Status::Done => "done",
            Status::Failed => "failed",
        })
    }
}

/// A container's limits; `None`: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Cores.
    pub cpus: Option<f64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
}

/// Limits before and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitsChange {
    /// Before.
    pub from: Limits,
    /// After.
    pub to: Limits,
}

/// A node that was looked at as a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// What came of it.
    pub verdict: Verdict,
    /// 0 to 1, higher is better; `None` when infeasible.
    pub score: Option<f64>,
    /// Each factor by its name.
    pub factors: BTreeMap<String, Factor>,
    /// The policy's wishes that it breaks: taken off the sum of the contributions.
    #[serde(default)]
    pub penalties: Vec<Penalty>,
    /// One sentence for people.
    pub reason: String,
    /// Everything that speaks against it, for programs.
    #[serde(default)]
    pub reasons: Vec<Reason>,
}

/// A wish of the policy that a candidate breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Penalty {
    /// The constraint's name.
    pub constraint: String,
    /// What it costs the score, 0 to 1.
    pub weight: f64,
}

/// Something that speaks against a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// What kind of reason, for example `cooldown`.
    pub code: String,
    /// The reason in words.
    pub detail: String,
}

/// What came of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is the destination.
    Chosen,
    /// It could have been, but another was better.
    Rejected,
    /// It could not have been.
    Infeasible,
}

/// One factor of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Factor {
    /// What was measured; `None` when unknown.
    pub value: Option<f64>,
    /// The unit of `value`, for example `ms` or `fraction`.
    pub unit: String,
    /// `value` on the scale 0 (worst) to 1 (best).
    pub normalised: f64,
    /// The policy's weight.
    pub weight: f64,
    /// Its part of the score.
    pub contribution: f64,
}
