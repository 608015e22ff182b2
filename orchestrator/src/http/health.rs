//! `/healthz`: the process answers. `/readyz`: it can work.

use axum::extract::State;
use axum::http::StatusCode;

use super::RouteError;
use crate::app::App;

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
