//! `/metrics`, and the measuring of every request.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::RouteError;
use crate::app::App;

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn text(State(app): State<App>) -> Result<Response, RouteError> {
    let text = app.metrics.text(&app).await?;
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// Counts a request under its route's pattern.
pub(super) async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    app.metrics.answered(method.as_str(), route, response.status().as_u16(), begin.elapsed());
    response
}
