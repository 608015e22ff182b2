//! The service itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Index {
    /// The orchestrator's version.
    pub version: String,
    /// The paths of everything that can be read.
    pub resources: Vec<String>,
    /// Where the API is described in OpenAPI.
    pub specification: String,
}
