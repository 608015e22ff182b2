//! `/v1/workloads`

use axum::Json;
use axum::extract::{Path, State};
use fog_api::list::List;
use fog_api::workload::Workload;
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::Parameters;
use crate::app::App;
use crate::snapshot;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those on this node.
    node: Option<String>,
}

/// Every workload.
#[utoipa::path(get, path = "/v1/workloads", tag = "workloads", params(Filter),
    responses((status = 200, description = "The workloads, by name.", body = List<Workload>)))]
pub(super) async fn list(State(app): State<App>, Parameters(filter): Parameters<Filter>) -> Json<List<Workload>> {
    Json(List { items: snapshot::workloads(&app.fleet(), filter.node.as_deref()) })
}

/// One workload.
#[utoipa::path(get, path = "/v1/workloads/{name}", tag = "workloads", params(("name" = String, Path, description = "The workload's name.")),
    responses((status = 200, description = "The workload.", body = Workload)))]
pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Workload>, RouteError> {
    let found = snapshot::workloads(&app.fleet(), None).into_iter().find(|workload| workload.name == name);
    found.map(Json).ok_or(RouteError::Unknown { what: "workload", name })
}
