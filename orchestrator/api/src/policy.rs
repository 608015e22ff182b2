//! The policy: in force, proposed, and in the past.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::FieldError;

/// Where a policy came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicySource {
    /// Nobody wrote one: the built-in default.
    #[default]
    Default,
    /// The policy file, at the start or after a SIGHUP.
    File,
    /// `PUT /v1/policy`.
    Api,
    /// `POST /v1/policy/rollback`.
    Rollback,
}

/// `GET /v1/policy`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Rises with every change; also the `ETag`.
    pub version: u64,
    /// The policy file; `None`: there is none.
    pub file: Option<String>,
    /// The whole policy, defaults filled in. Its schema is `/v1/policy/schema`.
    #[schema(schema_with = policy_reference)]
    pub policy: serde_json::Value,
    /// The policy as it was written, in TOML.
    #[serde(default)]
    pub text: String,
    /// Since when it is in force.
    #[serde(default)]
    pub at: Timestamp,
    /// Who wrote it.
    #[serde(default)]
    pub by: String,
    /// Where it came from.
    #[serde(default)]
    pub source: PolicySource,
    /// Why, in its author's words.
    #[serde(default)]
    pub note: Option<String>,
    /// What is wrong with the file as it is now, which is therefore not in force; `None`: nothing.
    #[serde(default)]
    pub refused: Option<String>,
}

fn policy_reference() -> utoipa::openapi::Ref {
    utoipa::openapi::Ref::from_schema_name("Policy")
}

/// `PUT /v1/policy`, `POST /v1/policy/check`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// The policy in TOML; what it leaves out has its default.
    pub text: String,
    /// Why, for the history; at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub note: Option<String>,
}

/// `POST /v1/policy/rollback`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version that is to be in force again; it gets a new number.
    #[schema(minimum = 1)]
    pub version: u64,
    /// Why, for the history; at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub note: Option<String>,
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyChange {
    /// The setting, for example `overload.cpu.start`.
    pub field: String,
    /// Its value before; null where there was none.
    pub from: serde_json::Value,
    /// Its value after; null where there is none.
    pub to: serde_json::Value,
}

/// What a policy would be: the answer to `POST /v1/policy/check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyCheck {
    /// Whether it could be put into force.
    pub valid: bool,
    /// Everything wrong with it, with line, column and field.
    pub errors: Vec<FieldError>,
    /// What it would change, if it is valid.
    pub changes: Vec<PolicyChange>,
}

/// `POST /v1/policy/replay`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The policy in TOML; what it leaves out has its default.
    pub text: String,
    /// How far back it begins, in hours.
    #[serde(default = "day")]
    #[schema(minimum = 1, maximum = 24, default = 24)]
    pub hours: u32,
}

fn day() -> u32 {
    24
}

/// What a policy would have done with the last hours: the answer to `POST /v1/policy/replay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyReplay {
    /// The first step.
    pub from: Timestamp,
    /// The end of the last step; earlier than the request if the time that a replay may take was over before.
    pub until: Timestamp,
    /// Whether all that was asked for was replayed.
    pub complete: bool,
    /// Seconds from step to step; longer in larger clusters.
    pub step_s: u32,
    /// Nodes whose past was read.
    pub nodes: u64,
    /// Nodes that were left out, because the time for reading was over.
    pub omitted_nodes: u64,
    /// Minutes in which a node was at or above the policy's `overload.cpu.start`, over all nodes, as measured.
    pub overload_minutes: f64,
    /// The same, as projected.
    pub projected_overload_minutes: f64,
    /// Migrations that really ended in that time.
    pub moved: u64,
    /// Migrations that the policy would have begun, if everything had been approved.
    pub would_move: u64,
    /// The first 500 of these, oldest first.
    pub moves: Vec<ReplayedMove>,
    /// Every step.
    pub steps: Vec<ReplayedStep>,
}

/// A migration that a policy would have begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayedMove {
    /// When.
    pub at: Timestamp,
    /// What.
    pub workload: String,
    /// The source.
    pub from: String,
    /// The destination.
    pub to: String,
    /// Why, in sentences.
    pub reason: String,
}

/// One step of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayedStep {
    /// Its beginning.
    pub at: Timestamp,
    /// Overloaded nodes as measured.
    pub overloaded: u32,
    /// Overloaded nodes as projected.
    pub would_be: u32,
}

/// `GET /v1/policy/history`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVersion {
    /// Its number.
    pub version: u64,
    /// Since when it was in force.
    pub at: Timestamp,
    /// Who wrote it.
    pub by: String,
    /// Where it came from.
    pub source: PolicySource,
    /// Why, in its author's words.
    pub note: Option<String>,
}

/// `GET /v1/policy/history/{version}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDifference {
    /// The version.
    pub version: PolicyVersion,
    /// As it was written, in TOML.
    pub text: String,
    /// The version that it is compared with; `None`: with the built-in default.
    pub against: Option<u64>,
    /// Every setting that differs.
    pub changes: Vec<PolicyChange>,
    /// The two texts as a unified diff; empty when they are the same.
    pub diff: String,
}
