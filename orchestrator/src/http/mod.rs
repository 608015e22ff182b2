//! The way in for people: REST, events, the page. The only place that names axum, with `channel` for the agents.

mod auth;
mod decisions;
mod events;
mod health;
mod input;
mod migrations;
mod nodes;
mod page;
mod plan;
mod policy;
mod problem;
mod workloads;

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::channel;
pub use problem::RouteError;

/// The largest body of a request.
pub const LARGEST_BODY: usize = 1 << 20;

/// Every route.
pub fn router(app: App) -> Router {
    let guarded = Router::new()
        .route(fog_api::agent::CHANNEL_PATH, get(channel::upgrade))
        .route("/v1/migrations", post(migrations::create))
        .route("/v1/migrations/{id}/cancel", post(migrations::cancel))
        .route("/v1/nodes/{name}/cordon", post(nodes::cordon))
        .route("/v1/nodes/{name}/uncordon", post(nodes::uncordon))
        .route("/v1/nodes/{name}/drain", post(nodes::drain))
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::require_token));
    Router::new()
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/v1", get(health::index))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{name}", get(nodes::one))
        .route("/v1/workloads", get(workloads::list))
        .route("/v1/workloads/{name}", get(workloads::one))
        .route("/v1/migrations", get(migrations::list))
        .route("/v1/migrations/{id}", get(migrations::one))
        .route("/v1/decisions", get(decisions::list))
        .route("/v1/decisions/{id}", get(decisions::one))
        .route("/v1/plan", get(plan::dry_run))
        .route("/v1/policy", get(policy::show))
        .route("/v1/events", get(events::stream))
        .merge(guarded)
        .fallback(async |uri: Uri| RouteError::UnknownPath { path: uri.path().to_owned() })
        .method_not_allowed_fallback(async |uri: Uri| RouteError::UnknownMethod { path: uri.path().to_owned() })
        .layer(middleware::from_fn(harden))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .with_state(app)
}

/// Nothing is loaded from elsewhere, and no browser guesses types.
async fn harden(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    );
    response
}
