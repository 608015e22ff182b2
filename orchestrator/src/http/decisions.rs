//! `/v1/decisions`

use axum::Json;
use axum::extract::State;
use fog_api::decision::Decision;
use fog_api::list::List;
use serde::Deserialize;

use super::RouteError;
use super::input::{Id, Limit, Parameters};
use crate::app::App;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    limit: Limit,
}

pub(super) async fn list(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<Decision>>, RouteError> {
    Ok(Json(List { items: app.store.decisions(filter.limit.0).await? }))
}

pub(super) async fn one(State(app): State<App>, Id(id): Id) -> Result<Json<Decision>, RouteError> {
    let found = app.store.decision(id).await?;
    found.map(Json).ok_or_else(|| RouteError::Unknown { what: "decision", name: id.to_string() })
}
