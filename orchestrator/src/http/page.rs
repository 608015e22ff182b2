//! The dashboard: its built files are part of the program.
//!
//! Files under `/assets/` carry a hash in their names and are kept for a year; the rest is asked for again with its
//! ETag. The build wrote a brotli and a gzip copy beside each text, so that nothing is compressed at run time. The
//! dashboard routes by fragment (`/#/nodes/A`): no path of the API is ever answered with a page.

use axum::extract::Path;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::RouteError;

#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Files;

/// What is shown where the program was compiled without the dashboard.
const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Fogshift</title>\
    <p>This orchestrator was compiled without its dashboard. Run <code>make build</code>, which builds both; until then \
    <code>fogctl</code> shows everything, and the API is under <a href=\"/v1\">/v1</a>.";

const FOR_A_YEAR: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers, ASK_AGAIN)
        .unwrap_or_else(|| ([(CONTENT_TYPE, "text/html; charset=utf-8")], NOT_BUILT).into_response())
}

pub(super) async fn icon(headers: HeaderMap) -> Result<Response, RouteError> {
    serve("icon.svg", &headers, ASK_AGAIN).ok_or_else(|| RouteError::UnknownPath { path: "/icon.svg".to_owned() })
}

pub(super) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, RouteError> {
    let path = format!("assets/{file}");
    serve(&path, &headers, FOR_A_YEAR).ok_or_else(|| RouteError::UnknownPath { path: format!("/{path}") })
}

fn serve(path: &str, headers: &HeaderMap, keep: HeaderValue) -> Option<Response> {
    let kind = kind(path)?;
    let (file, encoding) = encoded(path, headers)?;
    let etag = etag(&file);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let same = known.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/") == etag);
    let mut response = if same { StatusCode::NOT_MODIFIED.into_response() } else { file.data.into_response() };
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.insert(CACHE_CONTROL, keep);
    answer.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.insert(ETAG, etag);
    }
    if let Some(encoding) = encoding {
        answer.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}

/// The smallest copy that the browser takes. Only paths of the build's own kinds are looked up: `x.js.br` is not a file.
fn encoded(path: &str, headers: &HeaderMap) -> Option<(EmbeddedFile, Option<&'static str>)> {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for (encoding, suffix) in [("br", "br"), ("gzip", "gz")] {
        if takes(accepted, encoding)
            && let Some(file) = Files::get(&format!("{path}.{suffix}"))
        {
            return Some((file, Some(encoding)));
        }
    }
    Files::get(path).map(|file| (file, None))
}

fn takes(accepted: &str, encoding: &str) -> bool {
    accepted.split(',').any(|one| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        let quality = quality.trim().strip_prefix("q=").unwrap_or("1");
        name.trim() == encoding && quality.parse::<f32>().is_ok_and(|quality| quality > 0.0)
    })
}

fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let digits: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

fn kind(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_counts_only_if_the_browser_takes_it() {
        assert!(takes("gzip, deflate, br", "br"));
        assert!(takes("gzip;q=0.5", "gzip"));
        assert!(!takes("gzip, br;q=0", "br"));
        assert!(!takes("brotli", "br"));
        assert!(!takes("", "gzip"));
    }

    #[test]
    fn only_kinds_that_the_build_makes_are_served() {
        assert_eq!(kind("assets/a.js"), Some("text/javascript; charset=utf-8"));
        assert_eq!(kind("assets/a.js.br"), None);
        assert_eq!(kind("assets"), None);
    }
}
