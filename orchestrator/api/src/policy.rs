//! The policy in force.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/policy`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Rises with every change since the orchestrator's start.
    pub version: u64,
    /// The file it came from; `None`: the built-in default.
    pub file: Option<String>,
    /// The whole policy, defaults filled in. Its schema is `config/policy.schema.json`.
    pub policy: serde_json::Value,
}
