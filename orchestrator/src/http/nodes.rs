//! `/v1/nodes`

use axum::Json;
use axum::extract::{Path, State};
use fog_api::list::List;
use fog_api::node::Node;

use super::RouteError;
use crate::app::{App, Service};
use crate::ingest;
use crate::store::NodeOrder;
use crate::{clock, snapshot};

fn view(app: &Service, name: &str) -> Option<Node> {
    let connected = app.agents.boot(name).is_some();
    snapshot::node(&app.fleet(), name, &app.policy.get().policy, connected, clock::now())
}

/// Every node.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", responses((status = 200, description = "The nodes, by name.", body = List<Node>)))]
pub(super) async fn list(State(app): State<App>) -> Json<List<Node>> {
    let names: Vec<String> = app.fleet().nodes.keys().cloned().collect();
    Json(List { items: names.iter().filter_map(|name| view(&app, name)).collect() })
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node.", body = Node)))]
pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Node>, RouteError> {
    view(&app, &name).map(Json).ok_or(RouteError::Unknown { what: "node", name })
}

/// Nothing new comes to the node.
#[utoipa::path(post, path = "/v1/nodes/{name}/cordon", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn cordon(app: State<App>, name: Path<String>) -> Result<Json<Node>, RouteError> {
    order(app, name, |order| NodeOrder { cordoned: true, ..order }).await
}

/// The node is used again, and no longer drained.
#[utoipa::path(post, path = "/v1/nodes/{name}/uncordon", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn uncordon(app: State<App>, name: Path<String>) -> Result<Json<Node>, RouteError> {
    order(app, name, |_| NodeOrder::default()).await
}

/// Everything that can move leaves the node, and nothing new comes.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn drain(app: State<App>, name: Path<String>) -> Result<Json<Node>, RouteError> {
    order(app, name, |_| NodeOrder { cordoned: true, draining: true }).await
}

async fn order(
    State(app): State<App>,
    Path(name): Path<String>,
    change: impl FnOnce(NodeOrder) -> NodeOrder,
) -> Result<Json<Node>, RouteError> {
    let old = app.fleet().nodes.get(&name).map(|view| view.stored.order);
    let Some(old) = old else { return Err(RouteError::Unknown { what: "node", name }) };
    let new = change(old);
    app.store.order_node(&name, new).await?;
    if let Some(view) = app.fleet().nodes.get_mut(&name) {
        view.stored.order = new;
    }
    tracing::info!(node = name, cordoned = new.cordoned, draining = new.draining, "a user ordered");
    ingest::tell_node(&app, &name);
    one(State(app), Path(name)).await
}
