//! The way in for people: REST, events, the page. The only place that names axum, with `channel` for the agents.

mod audit;
mod auth;
mod batch;
mod decisions;
mod doctor;
pub mod document;
mod drains;
mod events;
mod health;
mod identity;
mod input;
mod links;
mod listing;
mod metrics;
mod migrations;
mod nodes;
mod overload;
mod page;
mod plan;
mod policy;
mod preflight;
mod problem;
mod replay;
mod samples;
mod webhooks;
mod workloads;
mod writes;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::channel;
pub use problem::RouteError;

/// The largest body of a request.
pub const LARGEST_BODY: usize = 1 << 20;

/// What anybody may ask, also where reading needs a token.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health::alive)).routes(routes!(health::ready)).routes(routes!(health::index))
}

/// What needs a reader's token, or none where the configuration says so. Nothing here changes anything.
fn reads() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(identity::whoami))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::one))
        .routes(routes!(doctor::own))
        .routes(routes!(doctor::node))
        .routes(routes!(samples::show))
        .routes(routes!(samples::delays))
        .routes(routes!(links::list))
        .routes(routes!(workloads::list))
        .routes(routes!(workloads::one))
        .routes(routes!(migrations::list))
        .routes(routes!(migrations::one))
        .routes(routes!(migrations::log))
        .routes(routes!(decisions::list))
        .routes(routes!(decisions::one))
        .routes(routes!(drains::list))
        .routes(routes!(drains::one))
        .routes(routes!(plan::dry_run, plan::what_if))
        .routes(routes!(plan::snapshot))
        .routes(routes!(preflight::show))
        .routes(routes!(policy::show))
        .routes(routes!(policy::schema))
        .routes(routes!(policy::check))
        .routes(routes!(replay::replay))
        .routes(routes!(policy::history))
        .routes(routes!(policy::difference))
        .routes(routes!(audit::list))
        .routes(routes!(events::stream))
}

/// What only an administrator may do. [`writes::write`] is around all of it.
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(migrations::create))
        .routes(routes!(migrations::cancel))
        .routes(routes!(migrations::resolve))
        .routes(routes!(nodes::cordon))
        .routes(routes!(nodes::uncordon))
        .routes(routes!(nodes::drain))
        .routes(routes!(decisions::approve))
        .routes(routes!(decisions::dismiss))
        .routes(routes!(plan::rebalance))
        .routes(routes!(drains::create))
        .routes(routes!(drains::stop))
        .routes(routes!(policy::put))
        .routes(routes!(policy::rollback))
        .routes(routes!(identity::list, identity::create))
        .routes(routes!(identity::revoke))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::one, webhooks::remove))
        .routes(routes!(webhooks::letters))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(webhooks::forget))
}

/// Every route, with the address that each request came from.
pub fn service(app: App) -> IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
    router(app).into_make_service_with_connect_info()
}

/// Every route.
pub fn router(app: App) -> Router {
    let guarded = Router::from(guarded())
        .route_layer(middleware::from_fn_with_state(app.clone(), writes::write))
        .route(fog_api::agent::CHANNEL_PATH, get(channel::upgrade))
        .route(fog_api::agent::SAMPLES_PATH, post(batch::store))
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::may_administer));
    let reads = Router::from(reads())
        .route_layer(middleware::from_fn_with_state(app.clone(), overload::shed_reads))
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::may_read));
    Router::from(open())
        .route("/", get(page::index))
        .route("/assets/{*file}", get(page::asset))
        .route("/icon.svg", get(page::icon))
        .route("/openapi.json", get(document::json))
        .route("/docs", get(document::page))
        .route("/docs/docs.js", get(document::script))
        .route("/docs/docs.css", get(document::style))
        .route("/metrics", get(metrics::text))
        .merge(reads)
        .merge(guarded)
        .fallback(async |uri: Uri| RouteError::UnknownPath { path: uri.path().to_owned() })
        .method_not_allowed_fallback(async |uri: Uri| RouteError::UnknownMethod { path: uri.path().to_owned() })
        .layer(middleware::from_fn_with_state(app.clone(), metrics::measure))
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
