//! Drains: nodes that are being emptied.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /v1/drains`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The node to empty.
    pub node: String,
}

/// `GET /v1/drains`, `GET /v1/drains/{node}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// The node.
    pub node: String,
    /// When it was ordered.
    pub since: Option<Timestamp>,
    /// Who ordered it.
    pub by: Option<String>,
    /// Whether nothing is left.
    pub done: bool,
    /// What is left.
    pub remaining: Vec<Remaining>,
}

/// A workload that has not left yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Remaining {
    /// Its name.
    pub workload: String,
    /// The migration that is moving it.
    pub migration: Option<Uuid>,
    /// Why it has not begun to move.
    pub reason: Option<String>,
}
