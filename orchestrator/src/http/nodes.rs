//! `/v1/nodes`

use axum::Json;
use axum::extract::{Path, State};
use fog_api::list::List;
use fog_api::node::Node;

use super::RouteError;
use crate::app::{App, Service};
use crate::{clock, snapshot};

fn view(app: &Service, name: &str) -> Option<Node> {
    let connected = app.agents.boot(name).is_some();
    snapshot::node(&app.fleet(), name, &app.policy.get().policy, connected, clock::now())
}

pub(super) async fn list(State(app): State<App>) -> Json<List<Node>> {
    let names: Vec<String> = app.fleet().nodes.keys().cloned().collect();
    Json(List { items: names.iter().filter_map(|name| view(&app, name)).collect() })
}

pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Node>, RouteError> {
    view(&app, &name).map(Json).ok_or(RouteError::Unknown { what: "node", name })
}
