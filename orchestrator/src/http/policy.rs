//! `/v1/policy`

use axum::Json;
use axum::extract::State;
use fog_api::policy::PolicyView;

use super::RouteError;
use crate::app::App;

/// The policy in force.
#[utoipa::path(get, path = "/v1/policy", tag = "policy",
    responses((status = 200, description = "The policy.", body = PolicyView)))]
pub(super) async fn show(State(app): State<App>) -> Result<Json<PolicyView>, RouteError> {
    let in_force = app.policy.get();
    Ok(Json(PolicyView {
        version: in_force.version,
        file: in_force.file.as_ref().map(|file| file.display().to_string()),
        policy: serde_json::to_value(&in_force.policy).map_err(|_| RouteError::Defect)?,
        refused: app.policy.refused().map(|why| why.to_string()),
    }))
}
