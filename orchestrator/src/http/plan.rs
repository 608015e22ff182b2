//! `/v1/plan`: what the planner would do now, and why what stays stays. Nothing is done. `POST /v1/rebalance` does it, once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fog_api::list::List;
use fog_api::migration::Migration;
use fog_core::plan::{Action, Plan};
use fog_core::policy::{Autonomy, Mode, Policy};
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::Parameters;
use crate::app::App;
use crate::record::AskedBy;
use crate::{clock, planner, snapshot};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// What the planner is after, instead of the policy's: `relieve`, `balance`, `pack` or `follow`.
    #[param(value_type = Option<String>)]
    mode: Option<Mode>,
}

fn planned(app: &App, mode: Option<Mode>) -> Plan {
    let (policy, now) = (app.policy.get(), clock::now());
    let policy = Policy { mode: mode.unwrap_or(policy.policy.mode), ..policy.policy.clone() };
    let snapshot = snapshot::build(&app.fleet(), &policy, now);
    fog_core::plan::plan(&snapshot, &policy, now)
}

/// What the planner would do now, and why what stays stays.
#[utoipa::path(get, path = "/v1/plan", tag = "plan", params(Question),
    responses((status = 200, description = "The plan; nothing of it is done.", body = ref("#/components/schemas/Plan"))))]
pub(super) async fn dry_run(State(app): State<App>, Parameters(question): Parameters<Question>) -> Json<Plan> {
    Json(planned(&app, question.mode))
}

/// Evens the cluster out once: what `mode=balance` plans begins, except what its workload's own label leaves to somebody's
/// approval.
#[utoipa::path(post, path = "/v1/rebalance", tag = "plan",
    responses((status = 202, description = "The migrations that have begun.", body = List<Migration>)))]
pub(super) async fn rebalance(State(app): State<App>) -> Result<(StatusCode, Json<List<Migration>>), RouteError> {
    let mut items = Vec::new();
    for action in planned(&app, Some(Mode::Balance)).actions {
        let Action::Migrate(migrate) = action else { continue };
        let own_word = app
            .fleet()
            .workloads
            .get(migrate.workload.as_str())
            .is_none_or(|view| view.sample.labels.get("fogshift.migrate").is_none_or(|word| word == "auto"));
        if migrate.autonomy != Autonomy::Automatic && !own_word {
            continue;
        }
        match planner::begin(&app, &migrate, AskedBy::User).await {
            Ok(id) => items.extend(app.store.migration(id).await?.map(|stored| stored.record)),
            Err(error) => tracing::warn!(workload = %migrate.workload, "the migration was not begun: {error}"),
        }
    }
    Ok((StatusCode::ACCEPTED, Json(List { items, next_cursor: None })))
}
