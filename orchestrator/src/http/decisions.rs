//! `/v1/decisions`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fog_api::decision::{Decision, Status};
use fog_api::list::List;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::{Id, Parameters};
use super::listing::{Conditions, Listed, Paging, SortKey};
use super::writes::Dry;
use crate::app::App;
use crate::proposals;
use crate::store::Listing;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum By {
    At,
    Workload,
    Gain,
}

impl SortKey for By {
    const NAMES: &'static [(&'static str, Self)] = &[("at", By::At), ("workload", By::Workload), ("gain", By::Gain)];
    const DESCENDING: bool = true;
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those about this workload.
    workload: Option<String>,
    /// Only those about what was on this node.
    source: Option<String>,
    /// Only those that send something to this node.
    destination: Option<String>,
    /// Only those that `policy` or `user` asked for.
    asked_by: Option<String>,
    /// Only those of which this became: `proposed` for what waits for an answer.
    status: Option<Status>,
    /// Only those made at or after this.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Only those made before this.
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
}

/// Decisions, newest first.
#[utoipa::path(get, path = "/v1/decisions", tag = "decisions", params(Filter, Paging<By>),
    responses((status = 200, description = "A page of the decisions.", body = List<Decision>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, By>,
) -> Result<Json<List<Decision>>, RouteError> {
    let mut conditions = Conditions::default();
    conditions.add("json_extract(body, '$.workload') =", filter.workload);
    conditions.add("json_extract(body, '$.source') =", filter.source);
    conditions.add("json_extract(body, '$.destination') =", filter.destination);
    conditions.add("json_extract(body, '$.asked_by') =", filter.asked_by);
    conditions.add("json_extract(body, '$.status') =", filter.status.map(|status| status.to_string()));
    conditions.add("at_ms >=", filter.since.map(Timestamp::as_millisecond));
    conditions.add("at_ms <", filter.until.map(Timestamp::as_millisecond));
    let listing = Listing {
        table: "decisions",
        body: "body",
        unique: "id",
        key: match asked.sort.by {
            By::At => "at_ms",
            By::Workload => "json_extract(body, '$.workload')",
            By::Gain => "json_extract(body, '$.gain')",
        },
    };
    asked.stored(&app.store, listing, &conditions).await.map(Json)
}

/// One decision, with every candidate, factor and penalty.
#[utoipa::path(get, path = "/v1/decisions/{id}", tag = "decisions", params(("id" = uuid::Uuid, Path, description = "The decision's id.")),
    responses((status = 200, description = "The decision.", body = Decision)))]
pub(super) async fn one(State(app): State<App>, Id(id): Id) -> Result<Json<Decision>, RouteError> {
    let found = app.store.decision(id).await?;
    found.map(Json).ok_or_else(|| RouteError::Unknown { what: "decision", name: id.to_string() })
}

/// Approves a proposed decision: it is carried out.
#[utoipa::path(post, path = "/v1/decisions/{id}/approve", tag = "decisions", params(("id" = uuid::Uuid, Path, description = "The decision's id.")),
    responses((status = 200, description = "It could be approved.", body = Decision), (status = 202, description = "It is being carried out.", body = Decision)))]
pub(super) async fn approve(
    State(app): State<App>,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
) -> Result<(StatusCode, Json<Decision>), RouteError> {
    if dry.dry_run {
        return could(&app, id, |status| status == Status::Proposed).await.map(|decision| (StatusCode::OK, decision));
    }
    Ok((StatusCode::ACCEPTED, Json(proposals::approve(&app, id).await?)))
}

/// Dismisses a proposed or recommended decision: its workload is left alone for a while.
#[utoipa::path(post, path = "/v1/decisions/{id}/dismiss", tag = "decisions", params(("id" = uuid::Uuid, Path, description = "The decision's id.")),
    responses((status = 200, description = "It is dismissed.", body = Decision)))]
pub(super) async fn dismiss(
    State(app): State<App>,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
) -> Result<Json<Decision>, RouteError> {
    if dry.dry_run {
        return could(&app, id, Status::is_open).await;
    }
    Ok(Json(proposals::dismiss(&app, id).await?))
}

/// A decision that could be answered as things are.
async fn could(app: &App, id: uuid::Uuid, may: impl FnOnce(Status) -> bool) -> Result<Json<Decision>, RouteError> {
    let found = app.store.decision(id).await?;
    let decision = found.ok_or_else(|| RouteError::Unknown { what: "decision", name: id.to_string() })?;
    if !may(decision.status) {
        return Err(proposals::AnswerError::NotOpen { id, status: decision.status }.into());
    }
    Ok(Json(decision))
}
