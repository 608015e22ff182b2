//! `/v1/plan`: what the planner would do now, and why what stays stays. Nothing is done.

use axum::Json;
use axum::extract::State;
use fog_core::plan::Plan;

use crate::app::App;
use crate::{clock, snapshot};

/// What the planner would do now, and why what stays stays.
#[utoipa::path(get, path = "/v1/plan", tag = "plan",
    responses((status = 200, description = "The plan; nothing of it is done.", body = ref("#/components/schemas/Plan"))))]
pub(super) async fn dry_run(State(app): State<App>) -> Json<Plan> {
    let (policy, now) = (app.policy.get(), clock::now());
    let snapshot = snapshot::build(&app.fleet(), &policy.policy, now);
    Json(fog_core::plan::plan(&snapshot, &policy.policy, now))
}
