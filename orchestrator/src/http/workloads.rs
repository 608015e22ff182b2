//! `/v1/workloads`

use axum::Json;
use axum::extract::State;
use fog_api::list::List;
use fog_api::workload::{Workload, WorkloadState};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::RouteError;
use super::input::Name;
use super::listing::{Listed, Paging, SortKey};
use crate::app::App;
use crate::snapshot;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum By {
    Name,
    Node,
    Cpus,
    Memory,
    MovedAt,
}

impl SortKey for By {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("name", By::Name),
        ("node", By::Node),
        ("cpus", By::Cpus),
        ("memory_bytes", By::Memory),
        ("moved_at", By::MovedAt),
    ];
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those on this node.
    node: Option<String>,
    /// Only those that do this.
    state: Option<WorkloadState>,
    /// Only those that nothing keeps from moving, or something does.
    movable: Option<bool>,
    /// Only those that a migration is moving now, or is not.
    moving: Option<bool>,
    /// Only those of this image.
    image: Option<String>,
    /// Only those whose name contains this.
    name: Option<String>,
}

impl Filter {
    fn takes(&self, workload: &Workload) -> bool {
        self.state.is_none_or(|wanted| workload.state == wanted)
            && self.movable.is_none_or(|wanted| workload.obstacles.is_empty() == wanted)
            && self.moving.is_none_or(|wanted| workload.migration.is_some() == wanted)
            && self.image.as_ref().is_none_or(|image| workload.image == *image)
            && self.name.as_ref().is_none_or(|part| workload.name.contains(part.as_str()))
    }
}

fn key(workload: &Workload, by: By) -> Value {
    match by {
        By::Name => Value::Null,
        By::Node => workload.node.clone().into(),
        By::Cpus => workload.cpus.into(),
        By::Memory => workload.memory_bytes.into(),
        By::MovedAt => workload.moved_at.map(jiff::Timestamp::as_millisecond).into(),
    }
}

/// Workloads, with what they use.
#[utoipa::path(get, path = "/v1/workloads", tag = "workloads", params(Filter, Paging<By>),
    responses((status = 200, description = "A page of the workloads.", body = List<Workload>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, By>,
) -> Result<Json<List<Workload>>, RouteError> {
    let policy = app.policy.get();
    let fleet = app.fleet();
    let view = |name: &str| snapshot::workload(&fleet, name, &policy.policy).filter(|workload| filter.takes(workload));
    let page = match &filter.node {
        Some(node) => {
            let owned = fleet.nodes.get(node).map(|view| &view.owned);
            asked.page_by_name(owned.into_iter().flatten().map(|name| &**name), view, By::Name, key)
        }
        None => asked.page_by_name(fleet.workloads.keys().map(|name| &**name), view, By::Name, key),
    };
    drop(fleet);
    page.map(Json)
}

/// One workload.
#[utoipa::path(get, path = "/v1/workloads/{name}", tag = "workloads", params(("name" = String, Path, description = "The workload's name.")),
    responses((status = 200, description = "The workload.", body = Workload)))]
pub(super) async fn one(State(app): State<App>, Name(name): Name) -> Result<Json<Workload>, RouteError> {
    let found = snapshot::workload(&app.fleet(), &name, &app.policy.get().policy);
    found.map(Json).ok_or(RouteError::Unknown { what: "workload", name })
}
