//! `/healthz`: the process answers. `/readyz`: it can work. `/v1`: what there is.

use axum::extract::State;
use axum::http::StatusCode;

use fog_api::service::Index;

use super::RouteError;
use crate::app::App;

/// What there is.
#[utoipa::path(get, path = "/v1", tag = "service", responses((status = 200, description = "The version and the resources.", body = Index)))]
pub(super) async fn index() -> axum::Json<Index> {
    let resources = super::document::resources();
    axum::Json(Index {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resources,
        specification: "/openapi.json".to_owned(),
    })
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, description = "It does.", content_type = "text/plain", body = String)))]
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Whether it can work.
#[utoipa::path(get, path = "/readyz", tag = "service", responses(
    (status = 200, description = "It can.", content_type = "text/plain", body = String),
    (status = 503, description = "It is shutting down.", content_type = "text/plain", body = String)))]
pub(super) async fn ready(State(app): State<App>) -> Result<(StatusCode, &'static str), RouteError> {
    if app.shutdown.is_cancelled() {
        return Ok((StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"));
    }
    app.store.ping().await?;
    Ok((StatusCode::OK, "ready\n"))
}
