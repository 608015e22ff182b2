//! `/healthz`: the process answers. `/readyz`: it can work. `/v1`: what there is.

use axum::extract::State;
use axum::http::StatusCode;

use super::RouteError;
use crate::app::App;

pub(super) async fn index() -> axum::Json<serde_json::Value> {
    let resources = ["nodes", "workloads", "migrations", "decisions", "plan", "policy", "events"];
    let resources = resources.map(|name| format!("/v1/{name}"));
    axum::Json(serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "resources": resources }))
}

pub(super) async fn alive() -> &'static str {
    "alive\n"
}

pub(super) async fn ready(State(app): State<App>) -> Result<(StatusCode, &'static str), RouteError> {
    if app.shutdown.is_cancelled() {
        return Ok((StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"));
    }
    app.store.ping().await?;
    Ok((StatusCode::OK, "ready\n"))
}
