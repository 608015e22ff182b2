//! `/v1/migrations`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use fog_api::list::List;
use fog_api::migration::{Migration, MigrationRequest};
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::{Id, Json, Limit, Parameters};
use crate::app::App;
use crate::driver::Input;
use crate::record::{self, AskedBy};
use crate::{clock, planner, snapshot};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only this workload's.
    workload: Option<String>,
    /// At most so many.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Limit,
}

/// Migrations, newest first.
#[utoipa::path(get, path = "/v1/migrations", tag = "migrations", params(Filter),
    responses((status = 200, description = "The migrations, newest first.", body = List<Migration>)))]
pub(super) async fn list(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Result<axum::Json<List<Migration>>, RouteError> {
    let items = app.store.migrations(filter.workload.as_deref(), filter.limit.0).await?;
    Ok(axum::Json(List { items }))
}

async fn find(app: &App, id: uuid::Uuid) -> Result<Migration, RouteError> {
    let found = app.store.migration(id).await?.map(|stored| stored.record);
    found.ok_or_else(|| RouteError::Unknown { what: "migration", name: id.to_string() })
}

/// One migration.
#[utoipa::path(get, path = "/v1/migrations/{id}", tag = "migrations", params(("id" = uuid::Uuid, Path, description = "The migration's id.")),
    responses((status = 200, description = "The migration.", body = Migration)))]
pub(super) async fn one(State(app): State<App>, Id(id): Id) -> Result<axum::Json<Migration>, RouteError> {
    find(&app, id).await.map(axum::Json)
}

/// Begins a migration; it goes on after the answer.
#[utoipa::path(post, path = "/v1/migrations", tag = "migrations", request_body = MigrationRequest,
    responses((status = 202, description = "The migration has begun.", body = Migration,
        headers(("Location" = String, description = "Where to follow it.")))))]
pub(super) async fn create(
    State(app): State<App>,
    Json(request): Json<MigrationRequest>,
) -> Result<Response, RouteError> {
    let policy = app.policy.get();
    let now = clock::now();
    let snapshot = snapshot::build(&app.fleet(), &policy.policy, now);
    let migrate = fog_core::place::place(
        &snapshot,
        &policy.policy,
        &request.workload,
        request.destination.as_deref(),
        Some(record::asked_strategy(request.strategy)),
        now,
    )?;
    let id = planner::begin(&app, &migrate, AskedBy::User).await?;
    let migration = find(&app, id).await?;
    Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/v1/migrations/{id}"))], axum::Json(migration)).into_response())
}

/// Asks a migration to stop and roll back; possible until its commit.
#[utoipa::path(post, path = "/v1/migrations/{id}/cancel", tag = "migrations", params(("id" = uuid::Uuid, Path, description = "The migration's id.")),
    responses((status = 202, description = "It has been asked to stop.", body = Migration)))]
pub(super) async fn cancel(
    State(app): State<App>,
    Id(id): Id,
) -> Result<(StatusCode, axum::Json<Migration>), RouteError> {
    use fog_api::migration::Phase;
    let migration = find(&app, id).await?;
    let in_time = matches!(migration.phase, Phase::Inspecting | Phase::Reserving | Phase::Moving | Phase::RollingBack);
    if !in_time || !app.drivers.give(id, Input::Cancel { by: "a user".to_owned() }) {
        return Err(RouteError::TooLate { id, phase: migration.phase });
    }
    Ok((StatusCode::ACCEPTED, axum::Json(migration)))
}
