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
    /// Every node that was looked at, best first.
    pub candidates: Vec<Candidate>,
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
    /// One sentence for people.
    pub reason: String,
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
