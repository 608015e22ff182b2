//! `/v1/decisions`

use axum::Json;
use axum::extract::State;
use fog_api::decision::Decision;
use fog_api::list::List;
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::{Id, Limit, Parameters};
use crate::app::App;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// At most so many.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// Decisions, newest first.
#[utoipa::path(get, path = "/v1/decisions", tag = "decisions", params(Filter),
    responses((status = 200, description = "The decisions, newest first.", body = List<Decision>)))]
pub(super) async fn list(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<Decision>>, RouteError> {
    Ok(Json(List { items: app.store.decisions(filter.limit.0).await? }))
}

/// One decision, with every candidate and factor.
#[utoipa::path(get, path = "/v1/decisions/{id}", tag = "decisions", params(("id" = uuid::Uuid, Path, description = "The decision's id.")),
    responses((status = 200, description = "The decision.", body = Decision)))]
pub(super) async fn one(State(app): State<App>, Id(id): Id) -> Result<Json<Decision>, RouteError> {
    let found = app.store.decision(id).await?;
    found.map(Json).ok_or_else(|| RouteError::Unknown { what: "decision", name: id.to_string() })
}
