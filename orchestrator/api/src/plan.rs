//! What the planner would do: `GET /v1/plan`, `POST /v1/plan`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/plan`: what to plan with instead of what is the case. Nothing is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest<S = serde_json::Value> {
    /// A policy in TOML; the one in force when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A snapshot, as `GET /v1/snapshot` gives one; the live cluster when left out.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = snapshot_reference, required = false)]
    pub snapshot: Option<S>,
    /// The moment to plan for; the snapshot's, or now, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

fn none<S>() -> Option<S> {
    None
}

fn snapshot_reference() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{OneOfBuilder, SchemaType, Type};
    use utoipa::openapi::{ObjectBuilder, Ref};
    let null = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null));
    OneOfBuilder::new().item(null).item(Ref::from_schema_name("Snapshot")).into()
}
