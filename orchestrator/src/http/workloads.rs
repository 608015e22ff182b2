//! `/v1/workloads`

use axum::Json;
use axum::extract::{Path, State};
use fog_api::list::List;
use fog_api::workload::Workload;
use serde::Deserialize;

use super::RouteError;
use super::input::Parameters;
use crate::app::App;
use crate::snapshot;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    node: Option<String>,
}

pub(super) async fn list(State(app): State<App>, Parameters(filter): Parameters<Filter>) -> Json<List<Workload>> {
    Json(List { items: snapshot::workloads(&app.fleet(), filter.node.as_deref()) })
}

pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Workload>, RouteError> {
    let found = snapshot::workloads(&app.fleet(), None).into_iter().find(|workload| workload.name == name);
    found.map(Json).ok_or(RouteError::Unknown { what: "workload", name })
}
