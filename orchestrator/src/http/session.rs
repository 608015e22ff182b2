//! `/v1/session`: whose token this is. The dashboard asks it when somebody signs in.

use axum::Json;
use axum::response::IntoResponse;

pub(super) async fn show() -> impl IntoResponse {
    // There is one token, and it may do everything.
    Json(serde_json::json!({ "name": "token", "role": "admin" }))
}
