//! The bearer token.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::RouteError;
use crate::app::App;
use crate::token;

pub(super) async fn require_token(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, RouteError> {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(given) if token::same(given.trim(), &app.token) => Ok(next.run(request).await),
        _ => Err(RouteError::Unauthorised),
    }
}
