//! `/v1/nodes`

use axum::Json;
use axum::extract::State;
use fog_api::list::List;
use fog_api::node::{Availability, Node};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::RouteError;
use super::input::{Name, Parameters};
use super::listing::{Asked, Limit, Sort, SortKey};
use crate::app::{App, Service};
use crate::ingest;
use crate::store::NodeOrder;
use crate::{clock, snapshot};

fn view(app: &Service, name: &str) -> Option<Node> {
    let connected = app.agents.boot(name).is_some();
    snapshot::node(&app.fleet(), name, &app.policy.get().policy, connected, clock::now())
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum By {
    Name,
    Cpu,
    Memory,
    Workloads,
    HeartbeatAt,
}

impl SortKey for By {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("name", By::Name),
        ("cpu", By::Cpu),
        ("memory", By::Memory),
        ("workloads", By::Workloads),
        ("heartbeat_at", By::HeartbeatAt),
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
    /// At most so many items.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
    /// The order; `-` in front turns it round.
    #[param(schema_with = Sort::<By>::schema)]
    sort: Option<Sort<By>>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
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

fn key(node: &Node, by: By) -> Value {
    let used = node.utilization.as_ref();
    match by {
        By::Name => Value::Null,
        By::Cpu => used.map(|used| used.cpu_sustained).into(),
        By::Memory => used.map(|used| used.memory).into(),
        By::Workloads => node.workloads.into(),
        By::HeartbeatAt => node.heartbeat_at.map(jiff::Timestamp::as_millisecond).into(),
    }
}

/// Nodes, with their newest utilization.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", params(Filter),
    responses((status = 200, description = "A page of the nodes.", body = List<Node>)))]
pub(super) async fn list(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<Node>>, RouteError> {
    let asked = Asked::new(filter.limit, filter.sort, filter.cursor.as_deref())?;
    let (policy, now) = (app.policy.get(), clock::now());
    let fleet = app.fleet();
    let views = fleet
        .nodes
        .keys()
        .filter_map(|name| snapshot::node(&fleet, name, &policy.policy, app.agents.boot(name).is_some(), now));
    let nodes = views.filter(|node| filter.takes(node)).collect();
    drop(fleet);
    asked.page(nodes, |node| node.name.clone(), key).map(Json)
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
pub(super) async fn cordon(app: State<App>, name: Name) -> Result<Json<Node>, RouteError> {
    order(app, name, |order| NodeOrder { cordoned: true, ..order }).await
}

/// The node is used again, and no longer drained.
#[utoipa::path(post, path = "/v1/nodes/{name}/uncordon", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn uncordon(app: State<App>, name: Name) -> Result<Json<Node>, RouteError> {
    order(app, name, |_| NodeOrder::default()).await
}

/// Everything that can move leaves the node, and nothing new comes.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "The node as it is now.", body = Node)))]
pub(super) async fn drain(app: State<App>, name: Name) -> Result<Json<Node>, RouteError> {
    order(app, name, |_| NodeOrder { cordoned: true, draining: true }).await
}

async fn order(
    State(app): State<App>,
    Name(name): Name,
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
    one(State(app), Name(name)).await
}
