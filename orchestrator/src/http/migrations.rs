//! `/v1/migrations`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use fog_api::decision::Decision;
use fog_api::list::List;
use fog_api::migration::{LogLine, Migration, MigrationRequest, Phase, ResolveRequest};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::auth::By;
use super::input::{Id, Json, Parameters};
use super::listing::{Conditions, Listed, Paging, SortKey};
use super::writes::Dry;
use crate::app::App;
use crate::driver::{self, Input};
use crate::record::{self, AskedBy};
use crate::store::{Listing, StoreError};
use crate::{clock, planner, snapshot};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    CreatedAt,
    Workload,
    Phase,
    Downtime,
    Sent,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("created_at", SortBy::CreatedAt),
        ("workload", SortBy::Workload),
        ("phase", SortBy::Phase),
        ("downtime_ms", SortBy::Downtime),
        ("sent_bytes", SortBy::Sent),
    ];
    const DESCENDING: bool = true;
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only this workload's.
    workload: Option<String>,
    /// Only those from this node.
    source: Option<String>,
    /// Only those to this node.
    destination: Option<String>,
    /// Only those that stand here.
    phase: Option<Phase>,
    /// Only those that are over, or are not.
    over: Option<bool>,
    /// Only those that `policy` or `user` asked for.
    asked_by: Option<String>,
    /// Only those that began at or after this.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Only those that began before this.
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
}

/// Migrations, newest first.
#[utoipa::path(get, path = "/v1/migrations", tag = "migrations", params(Filter, Paging<SortBy>),
    responses((status = 200, description = "A page of the migrations.", body = List<Migration>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, SortBy>,
) -> Result<axum::Json<List<Migration>>, RouteError> {
    let mut conditions = Conditions::default();
    conditions.add("workload =", filter.workload);
    conditions.add("json_extract(record, '$.source') =", filter.source);
    conditions.add("json_extract(record, '$.destination') =", filter.destination);
    conditions.add("json_extract(record, '$.phase') =", filter.phase.map(|phase| phase.to_string()));
    conditions.add("over =", filter.over);
    conditions.add("json_extract(record, '$.asked_by') =", filter.asked_by);
    conditions.add("created_at_ms >=", filter.since.map(Timestamp::as_millisecond));
    conditions.add("created_at_ms <", filter.until.map(Timestamp::as_millisecond));
    let listing = Listing {
        table: "migrations",
        body: "record",
        unique: "id",
        key: match asked.sort.by {
            SortBy::CreatedAt => "created_at_ms",
            SortBy::Workload => "workload",
            SortBy::Phase => "json_extract(record, '$.phase')",
            SortBy::Downtime => "json_extract(record, '$.downtime_ms')",
            SortBy::Sent => "json_extract(record, '$.sent_bytes')",
        },
    };
    let mut page: List<Migration> = asked.stored(&app.store, listing, &conditions).await?;
    page.items = page.items.into_iter().map(|record| app.drivers.live(record)).collect();
    Ok(axum::Json(page))
}

async fn find(app: &App, id: uuid::Uuid) -> Result<Migration, RouteError> {
    let found = app.store.migration(id).await?.map(|stored| app.drivers.live(stored.record));
    found.ok_or_else(|| RouteError::Unknown { what: "migration", name: id.to_string() })
}

/// One migration.
#[utoipa::path(get, path = "/v1/migrations/{id}", tag = "migrations", params(("id" = uuid::Uuid, Path, description = "The migration's id.")),
    responses((status = 200, description = "The migration.", body = Migration)))]
pub(super) async fn one(State(app): State<App>, Id(id): Id) -> Result<axum::Json<Migration>, RouteError> {
    find(&app, id).await.map(axum::Json)
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum LinesBy {
    At,
}

impl SortKey for LinesBy {
    const NAMES: &'static [(&'static str, Self)] = &[("at", LinesBy::At)];
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LineFilter {
    /// Only those of this level: `error`, `warn`, `info` or `debug`.
    level: Option<String>,
}

/// What the orchestrator logged about a migration, oldest first.
#[utoipa::path(get, path = "/v1/migrations/{id}/log", tag = "migrations", params(("id" = uuid::Uuid, Path, description = "The migration's id."), LineFilter, Paging<LinesBy>),
    responses((status = 200, description = "A page of the lines.", body = List<LogLine>)))]
pub(super) async fn log(
    State(app): State<App>,
    Id(id): Id,
    Listed(asked, filter): Listed<LineFilter, LinesBy>,
) -> Result<axum::Json<List<LogLine>>, RouteError> {
    find(&app, id).await?;
    let mut conditions = Conditions::default();
    conditions.add("migration =", Some(id.to_string()));
    conditions.add("json_extract(body, '$.level') =", filter.level);
    let listing = Listing { table: "migration_lines", body: "body", unique: "seq", key: "seq" };
    asked.stored(&app.store, listing, &conditions).await.map(axum::Json)
}

/// Begins a migration; it goes on after the answer.
#[utoipa::path(post, path = "/v1/migrations", tag = "migrations", request_body = MigrationRequest, responses(
    (status = 200, description = "It could begin: the decision that would stand behind it.", body = Decision),
    (status = 202, description = "The migration has begun.", body = Migration,
        headers(("Location" = String, description = "Where to follow it.")))))]
pub(super) async fn create(
    State(app): State<App>,
    Parameters(dry): Parameters<Dry>,
    Json(request): Json<MigrationRequest>,
) -> Result<Response, RouteError> {
    let policy = app.policy.get();
    let now = clock::now();
    let snapshot = snapshot::taken(&app, now).await;
    let migrate = fog_core::place::place(
        &snapshot,
        &policy.policy,
        &request.workload,
        request.destination.as_deref(),
        Some(record::asked_strategy(request.strategy)),
        now,
    )?;
    if dry.dry_run {
        let decision = record::decision(&migrate, AskedBy::User, None, policy.version, now);
        return Ok(axum::Json(decision).into_response());
    }
    let id = planner::begin(&app, &migrate, AskedBy::User).await?;
    let migration = find(&app, id).await?;
    Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/v1/migrations/{id}"))], axum::Json(migration)).into_response())
}

/// Asks a migration to stop and roll back; possible until its commit.
#[utoipa::path(post, path = "/v1/migrations/{id}/cancel", tag = "migrations", params(("id" = uuid::Uuid, Path, description = "The migration's id.")), responses(
    (status = 200, description = "It could be asked to stop.", body = Migration),
    (status = 202, description = "It has been asked to stop.", body = Migration,
        headers(("Location" = String, description = "Where to follow it.")))))]
pub(super) async fn cancel(
    State(app): State<App>,
    By(by): By,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
) -> Result<Response, RouteError> {
    let migration = find(&app, id).await?;
    let in_time = matches!(migration.phase, Phase::Inspecting | Phase::Reserving | Phase::Moving | Phase::RollingBack);
    if in_time && dry.dry_run {
        return Ok(axum::Json(migration).into_response());
    }
    if !in_time || !app.drivers.give(id, Input::Cancel { by: by.name }) {
        return Err(RouteError::TooLate { id, phase: migration.phase });
    }
    Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/v1/migrations/{id}"))], axum::Json(migration)).into_response())
}

/// Says which end keeps the workload of a migration that cannot end by itself: one that failed after its commit, or whose
/// destination does not answer any more. The other end gives up first.
#[utoipa::path(post, path = "/v1/migrations/{id}/resolve", tag = "migrations", params(("id" = uuid::Uuid, Path, description = "The migration's id.")),
    request_body = ResolveRequest, responses(
    (status = 200, description = "It could be resolved like that, or is so or under way already.", body = Migration),
    (status = 202, description = "It is being resolved.", body = Migration,
        headers(("Location" = String, description = "Where to follow it.")))))]
pub(super) async fn resolve(
    State(app): State<App>,
    By(by): By,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
    Json(asked): Json<ResolveRequest>,
) -> Result<Response, RouteError> {
    let word = record::word(&asked, by.name);
    let (migration, begun) = driver::resolve(&app, id, word, dry.dry_run).await.map_err(|error| match error {
        driver::ResolveError::Unknown => RouteError::Unknown { what: "migration", name: id.to_string() },
        driver::ResolveError::Refused(why, phase) => RouteError::NotResolvable { id, phase, why: why.to_string() },
        driver::ResolveError::Store(StoreError::AlreadyMigrating { .. }) => RouteError::NotResolvable {
            id,
            phase: Phase::Failed,
            why: "another migration of the workload is under way: when it is over, ask again".to_owned(),
        },
        driver::ResolveError::Store(error) => RouteError::Store(error),
    })?;
    if !begun {
        return Ok(axum::Json(migration).into_response());
    }
    Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/v1/migrations/{id}"))], axum::Json(migration)).into_response())
}
