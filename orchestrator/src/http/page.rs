//! The status page: its files are built into the program.

use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::RouteError;

const INDEX: &str = include_str!("../../../web/index.html");
const SCRIPT: &str = include_str!("../../../web/status.js");
const STYLE: &str = include_str!("../../../web/status.css");
const ICON: &str = include_str!("../../../web/icon.svg");

pub(super) async fn index() -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], INDEX).into_response()
}

pub(super) async fn file(Path(file): Path<String>) -> Result<Response, RouteError> {
    let (kind, text) = match file.as_str() {
        "status.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "status.css" => ("text/css; charset=utf-8", STYLE),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(RouteError::UnknownPath { path: format!("/page/{file}") }),
    };
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}
