//! `/v1/drains`: nodes that are being emptied, and what keeps the rest.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use fog_api::drain::{Drain, DrainRequest, Remaining};
use fog_api::list::List;
use fog_api::node::Node;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::RouteError;
use super::auth::By;
use super::input::{self, Name, Parameters};
use super::listing::{Listed, Paging, SortKey};
use super::nodes;
use super::writes::Dry;
use crate::app::App;
use crate::store::NodeOrder;
use crate::{aside, clock, snapshot};

/// Every drain, by node.
async fn drains(app: &App) -> Result<Vec<Drain>, RouteError> {
    let ordered = app.store.drains().await?;
    let (policy, now) = (app.policy.get(), clock::now());
    let planner = app.clone();
    // Planning a large cluster takes its time, and other requests wait for this thread.
    let plan = aside::run(move || {
        let snapshot = snapshot::take(&planner, &policy.policy, now);
        fog_core::plan::plan(&snapshot, &policy.policy, now)
    });
    let plan = plan.await.map_err(|_| RouteError::Defect)?;
    let stays: BTreeMap<&str, &str> =
        plan.not_moved.iter().map(|stays| (stays.workload.as_str(), stays.reason.as_str())).collect();
    let in_force = app.policy.get();
    let fleet = app.fleet();
    let draining = fleet.nodes.values().filter(|view| view.stored.order.draining);
    Ok(draining
        .map(|view| {
            let node = view.stored.name.clone();
            let remaining: Vec<Remaining> = snapshot::workloads(&fleet, Some(&node), &in_force.policy)
                .into_iter()
                .map(|workload| Remaining {
                    reason: stays.get(workload.name.as_str()).map(|reason| (*reason).to_owned()),
                    workload: workload.name,
                    migration: workload.migration,
                })
                .collect();
            let order = ordered.get(&node);
            Drain {
                since: order.map(|order| order.since),
                by: order.map(|order| order.by.clone()),
                done: remaining.is_empty(),
                remaining,
                node,
            }
        })
        .collect())
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    Node,
    Since,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] = &[("node", SortBy::Node), ("since", SortBy::Since)];
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those that are done, or are not.
    done: Option<bool>,
}

/// Drains, with what has not left yet and why.
#[utoipa::path(get, path = "/v1/drains", tag = "drains", params(Filter, Paging<SortBy>),
    responses((status = 200, description = "A page of the drains.", body = List<Drain>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, SortBy>,
) -> Result<Json<List<Drain>>, RouteError> {
    let mut drains = drains(&app).await?;
    drains.retain(|drain| filter.done.is_none_or(|done| drain.done == done));
    let key = |drain: &Drain, by| match by {
        SortBy::Node => Value::Null,
        SortBy::Since => drain.since.map(jiff::Timestamp::as_millisecond).into(),
    };
    asked.page(drains, |drain| drain.node.clone(), key).map(Json)
}

/// One drain.
#[utoipa::path(get, path = "/v1/drains/{node}", tag = "drains", params(("node" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The drain.", body = Drain)))]
pub(super) async fn one(State(app): State<App>, Name(node): Name) -> Result<Json<Drain>, RouteError> {
    let found = drains(&app).await?.into_iter().find(|drain| drain.node == node);
    found.map(Json).ok_or(RouteError::Unknown { what: "drain", name: node })
}

/// Empties a node; the moves go on after the answer.
#[utoipa::path(post, path = "/v1/drains", tag = "drains", request_body = DrainRequest, responses(
    (status = 200, description = "It could be drained.", body = Node),
    (status = 202, description = "The node is being emptied.", body = Node,
        headers(("Location" = String, description = "Where to follow it.")))))]
pub(super) async fn create(
    State(app): State<App>,
    By(by): By,
    Parameters(dry): Parameters<Dry>,
    input::Json(request): input::Json<DrainRequest>,
) -> Result<Response, RouteError> {
    if !app.fleet().nodes.contains_key(&request.node) {
        return Err(RouteError::invalid("/node", format!("node {:?} is not known", request.node)));
    }
    begin(&app, request.node, &by.name, dry.dry_run).await
}

/// Orders a drain, for here and for `/v1/nodes/{name}/drain`.
pub(super) async fn begin(app: &App, node: String, by: &str, dry_run: bool) -> Result<Response, RouteError> {
    let location = format!("/v1/drains/{node}");
    let change = |_| NodeOrder { cordoned: true, draining: true };
    let node = nodes::order(app, node, by, dry_run, change).await?;
    if dry_run {
        return Ok(Json(node).into_response());
    }
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(node)).into_response())
}

/// Stops emptying a node; it stays cordoned.
#[utoipa::path(delete, path = "/v1/drains/{node}", tag = "drains", params(("node" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn stop(
    State(app): State<App>,
    By(by): By,
    Name(node): Name,
    Parameters(dry): Parameters<Dry>,
) -> Result<Json<Node>, RouteError> {
    let draining = app.fleet().nodes.get(&node).is_some_and(|view| view.stored.order.draining);
    if !draining {
        return Err(RouteError::Unknown { what: "drain", name: node });
    }
    nodes::order(&app, node, &by.name, dry.dry_run, |order| NodeOrder { draining: false, ..order }).await.map(Json)
}
