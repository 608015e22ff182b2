//! The policy in force.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/policy`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Rises with every change; what a decision's `policy_version` refers to, also across restarts.
    pub version: u64,
    /// The file it came from; `None`: the built-in default.
    pub file: Option<String>,
    /// The whole policy, defaults filled in. Its schema is `config/policy.schema.json`.
    pub policy: serde_json::Value,
    /// What is wrong with the file as it is now, which is therefore not in force; `None`: nothing.
    #[serde(default)]
    pub refused: Option<String>,
}
