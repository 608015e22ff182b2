//! `/v1/plan`: what the planner would do, now or with another policy or cluster. Nothing is done. `POST /v1/rebalance` does
//! it, once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fog_api::list::List;
use fog_api::migration::Migration;
use fog_api::plan::PlanRequest;
use fog_core::plan::{Action, Migrate, Plan};
use fog_core::policy::{Autonomy, Mode};
use fog_core::{Policy, Snapshot};
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::{self, Parameters};
use super::writes::Dry;
use crate::app::App;
use crate::record::AskedBy;
use crate::{aside, clock, planner, snapshot};

/// The largest request: a snapshot of ten thousand nodes with their containers.
const LARGEST: usize = 64 << 20;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// What the planner is after, instead of the policy's: `relieve`, `balance`, `pack` or `follow`.
    #[param(schema_with = mode)]
    mode: Option<Mode>,
}

fn mode() -> utoipa::openapi::Ref {
    utoipa::openapi::Ref::from_schema_name("PolicyMode")
}

/// What the planner would do now, and why what stays stays.
#[utoipa::path(get, path = "/v1/plan", tag = "plan", params(Question),
    responses((status = 200, description = "The plan; nothing of it is done.", body = ref("#/components/schemas/Plan"))))]
pub(super) async fn dry_run(
    State(app): State<App>,
    Parameters(question): Parameters<Question>,
) -> Result<Json<Plan>, RouteError> {
    plan(app, PlanRequest { policy: None, snapshot: None, at: None }, question.mode).await.map(Json)
}

/// What the planner would do with another policy, with another cluster, or at another time.
#[utoipa::path(post, path = "/v1/plan", tag = "plan", request_body = PlanRequest,
    responses((status = 200, description = "The plan; nothing of it is done.", body = ref("#/components/schemas/Plan"))))]
pub(super) async fn what_if(
    State(app): State<App>,
    input::Json(request): input::Json<PlanRequest<Snapshot>, LARGEST>,
) -> Result<Json<Plan>, RouteError> {
    plan(app, request, None).await.map(Json)
}

async fn plan(app: App, request: PlanRequest<Snapshot>, mode: Option<Mode>) -> Result<Plan, RouteError> {
    let mut policy = match request.policy {
        Some(text) => Policy::parse(&text, "").map_err(|error| RouteError::policy("/policy", &error))?,
        None => app.policy.get().policy.clone(),
    };
    policy.mode = mode.unwrap_or(policy.mode);
    if let Some(snapshot) = &request.snapshot {
        snapshot.check_with(&policy).map_err(|error| RouteError::snapshot("/snapshot", &error))?;
    }
    // Planning a large cluster takes its time, and other requests wait for this thread.
    let planned = aside::run(move || {
        let now = clock::now();
        let (snapshot, usual) = match request.snapshot {
            Some(snapshot) => {
                let at = snapshot.at;
                (snapshot, at)
            }
            None => (snapshot::take(&app, &policy, now), now),
        };
        fog_core::plan::plan(&snapshot, &policy, request.at.unwrap_or(usual))
    });
    planned.await.map_err(|_| RouteError::Defect)
}

/// The live cluster as the planner sees it, for `POST /v1/plan` and `fogctl plan --snapshot`.
#[utoipa::path(get, path = "/v1/snapshot", tag = "plan",
    responses((status = 200, description = "The snapshot.", body = ref("#/components/schemas/Snapshot"))))]
pub(super) async fn snapshot(State(app): State<App>) -> Json<Snapshot> {
    Json(snapshot::taken(&app, clock::now()).await)
}

/// Evens the cluster out once: what `mode=balance` plans begins, except what its workload's own label leaves to somebody's
/// approval.
#[utoipa::path(post, path = "/v1/rebalance", tag = "plan", responses(
    (status = 200, description = "The list is empty; `GET /v1/plan?mode=balance` shows what would begin.", body = List<Migration>),
    (status = 202, description = "The migrations that have begun.", body = List<Migration>)))]
pub(super) async fn rebalance(
    State(app): State<App>,
    Parameters(dry): Parameters<Dry>,
) -> Result<(StatusCode, Json<List<Migration>>), RouteError> {
    let asked = PlanRequest { policy: None, snapshot: None, at: None };
    let actions = plan(app.clone(), asked, Some(Mode::Balance)).await?.actions;
    let mut items = Vec::new();
    for action in actions {
        let Action::Migrate(migrate) = action else { continue };
        if dry.dry_run || !nobody_else_decides(&app, &migrate) {
            continue;
        }
        match planner::begin(&app, &migrate, AskedBy::User).await {
            Ok(id) => items.extend(app.store.migration(id).await?.map(|stored| stored.record)),
            Err(error) => tracing::warn!(workload = %migrate.workload, "the migration was not begun: {error}"),
        }
    }
    let status = if dry.dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(List { items, next_cursor: None })))
}

fn nobody_else_decides(app: &App, migrate: &Migrate) -> bool {
    let fleet = app.fleet();
    let label = fleet.workloads.get(migrate.workload.as_str()).map(|view| view.sample.labels.get("fogshift.migrate"));
    migrate.autonomy == Autonomy::Automatic || label.is_none_or(|word| word.is_none_or(|word| word == "auto"))
}
