//! `/v1/preflight`: every reason against a migration, before anything is touched.

use axum::Json;
use axum::extract::State;
use fog_api::preflight::Preflight;
use fog_api::problem::Problem;
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::Parameters;
use crate::app::App;
use crate::preflight;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// The workload's name.
    workload: String,
    /// The node it would go to.
    to: String,
}

/// Whether a workload could move to a node: both nodes look, and every reason against it is named at once.
#[utoipa::path(get, path = "/v1/preflight", tag = "migrations", params(Question),
    responses((status = 200, description = "What was found.", body = Preflight),
        (status = 409, description = "The workload is there already.", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "There is no such workload or node.", content_type = "application/problem+json", body = Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    Parameters(question): Parameters<Question>,
) -> Result<Json<Preflight>, RouteError> {
    Ok(Json(preflight::preflight(&app, &question.workload, &question.to).await?))
}
