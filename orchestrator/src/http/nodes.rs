//! `/v1/nodes`

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use fog_api::list::List;
use fog_api::node::{Availability, Node};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::RouteError;
use super::auth::By;
use super::drains;
use super::input::{Name, Parameters};
use super::listing::{Listed, Paging, SortKey};
use super::writes::Dry;
use crate::app::{App, Service};
use crate::ingest;
use crate::store::NodeOrder;
use crate::{clock, snapshot};

fn view(app: &Service, name: &str) -> Option<Node> {
    let connected = app.agents.boot(name).is_some();
    snapshot::node(&app.fleet(), name, &app.policy.get().policy, connected, clock::now())
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    Name,
    Cpu,
    Memory,
    Workloads,
    HeartbeatAt,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("name", SortBy::Name),
        ("cpu", SortBy::Cpu),
        ("memory", SortBy::Memory),
        ("workloads", SortBy::Workloads),
        ("heartbeat_at", SortBy::HeartbeatAt),
    ];
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those of this availability.
    availability: Option<Availability>,
    /// Only those whose agent is connected, or is not.
    connected: Option<bool>,
    /// Only those that are cordoned, or are not.
    cordoned: Option<bool>,
    /// Only those that are being drained, or are not.
    draining: Option<bool>,
    /// Only those with this label `site`.
    site: Option<String>,
    /// Only those with this label `tier`.
    tier: Option<String>,
    /// Only those whose name contains this.
    name: Option<String>,
}

impl Filter {
    fn takes(&self, node: &Node) -> bool {
        let label = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| node.facts.labels.get(name) == Some(wanted))
        };
        self.availability.is_none_or(|wanted| node.availability == wanted)
            && self.connected.is_none_or(|wanted| node.connected == wanted)
            && self.cordoned.is_none_or(|wanted| node.cordoned == wanted)
            && self.draining.is_none_or(|wanted| node.draining == wanted)
            && self.name.as_ref().is_none_or(|part| node.name.contains(part.as_str()))
            && label("site", &self.site)
            && label("tier", &self.tier)
    }
}

fn key(node: &Node, by: SortBy) -> Value {
    let used = node.utilization.as_ref();
    match by {
        SortBy::Name => Value::Null,
        SortBy::Cpu => used.map(|used| used.cpu_sustained).into(),
        SortBy::Memory => used.map(|used| used.memory).into(),
        SortBy::Workloads => node.workloads.into(),
        SortBy::HeartbeatAt => node.heartbeat_at.map(jiff::Timestamp::as_millisecond).into(),
    }
}

/// Nodes, with their newest utilization.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", params(Filter, Paging<SortBy>),
    responses((status = 200, description = "A page of the nodes.", body = List<Node>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, SortBy>,
) -> Result<Json<List<Node>>, RouteError> {
    let (policy, now) = (app.policy.get(), clock::now());
    let fleet = app.fleet();
    let view = |name: &str| {
        let connected = app.agents.boot(name).is_some();
        snapshot::node(&fleet, name, &policy.policy, connected, now).filter(|node| filter.takes(node))
    };
    let page = asked.page_by_name(fleet.names.iter().map(String::as_str), view, SortBy::Name, key);
    drop(fleet);
    page.map(Json)
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node.", body = Node)))]
pub(super) async fn one(State(app): State<App>, Name(name): Name) -> Result<Json<Node>, RouteError> {
    view(&app, &name).map(Json).ok_or(RouteError::Unknown { what: "node", name })
}

/// Nothing new comes to the node.
#[utoipa::path(post, path = "/v1/nodes/{name}/cordon", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn cordon(
    State(app): State<App>,
    By(by): By,
    Name(name): Name,
    Parameters(dry): Parameters<Dry>,
) -> Result<Json<Node>, RouteError> {
    order(&app, name, &by.name, dry.dry_run, |order| NodeOrder { cordoned: true, ..order }).await.map(Json)
}

/// The node is used again, and no longer drained.
#[utoipa::path(post, path = "/v1/nodes/{name}/uncordon", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn uncordon(
    State(app): State<App>,
    By(by): By,
    Name(name): Name,
    Parameters(dry): Parameters<Dry>,
) -> Result<Json<Node>, RouteError> {
    order(&app, name, &by.name, dry.dry_run, |_| NodeOrder::default()).await.map(Json)
}

/// Everything that can move leaves the node, and nothing new comes; the same as `POST /v1/drains`.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "It could be drained.", body = Node), (status = 202, description = "The node is being emptied.", body = Node,
        headers(("Location" = String, description = "Where to follow it.")))))]
pub(super) async fn drain(
    State(app): State<App>,
    By(by): By,
    Name(name): Name,
    Parameters(dry): Parameters<Dry>,
) -> Result<Response, RouteError> {
    drains::begin(&app, name, &by.name, dry.dry_run).await
}

/// Orders something of a node, and gives the node as it is then; with `dry_run`, as it would be.
pub(super) async fn order(
    app: &Service,
    name: String,
    by: &str,
    dry_run: bool,
    change: impl FnOnce(NodeOrder) -> NodeOrder,
) -> Result<Node, RouteError> {
    let old = app.fleet().nodes.get(&name).map(|view| view.stored.order);
    let Some(old) = old else { return Err(RouteError::Unknown { what: "node", name }) };
    let new = change(old);
    if !dry_run && new != old {
        app.store.order_node(&name, new, by, clock::now()).await?;
        if let Some(view) = app.fleet().nodes.get_mut(&name) {
            view.stored.order = new;
        }
        tracing::info!(node = name, cordoned = new.cordoned, draining = new.draining, by, "a user ordered");
        ingest::tell_node(app, &name);
    }
    let mut node = view(app, &name).ok_or(RouteError::Unknown { what: "node", name })?;
    (node.cordoned, node.draining) = (new.cordoned, new.draining);
    Ok(node)
}
