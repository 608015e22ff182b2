//! Who did what, and when.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::identity::Role;

/// One write that somebody asked for: `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its id; sorts by time.
    pub id: Uuid,
    /// When it was answered.
    pub at: Timestamp,
    /// Whose token it was.
    pub who: String,
    /// What that token may do.
    pub role: Role,
    /// The method and the route, for example `POST /v1/nodes/{name}/drain`.
    pub action: String,
    /// The path as it was asked for.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The problem's `type`, if it was refused.
    pub problem: Option<String>,
    /// Nothing was to be changed.
    pub dry_run: bool,
    /// The request's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Where the request came from.
    pub remote: Option<String>,
    /// What was asked, secrets left out; `None` when there was no body or a very long one.
    pub request: Option<serde_json::Value>,
}
