//! Bodies, read with errors that name the field.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{LARGEST_BODY, RouteError};

/// So long the rest of a body that is too large is read and thrown away, so that the client reads the answer instead
/// of seeing its connection reset.
const LINGER: Duration = Duration::from_secs(5);

/// The fields of requests that hold lists.
const LISTS: [&str; 8] =
    ["nodes", "links", "workloads", "in_flight", "cpu_window", "cpu_features", "obstacles", "types"];

/// A JSON body of at most `LIMIT` bytes.
pub(super) struct Json<T, const LIMIT: usize = LARGEST_BODY>(pub T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = RouteError;

    async fn from_request(request: Request, _: &S) -> Result<Self, RouteError> {
        if let Some(kind) = request.headers().get(CONTENT_TYPE) {
            let kind = String::from_utf8_lossy(kind.as_bytes()).into_owned();
            let essence = kind.split(';').next().unwrap_or_default().trim();
            // `curl -d` calls everything a form.
            let form = essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
            if !(form || essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")) {
                return Err(RouteError::MediaType { given: kind });
            }
        }
        let bytes = read(request.into_body(), LIMIT).await?;
        let malformed = |pointer: String, detail: String| RouteError::Malformed { pointer, detail };
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| malformed(String::new(), error.to_string()))?;
        if let Some(pointer) = misplaced_list(&value, None) {
            return Err(malformed(pointer, "this is a list, expected an object".to_owned()));
        }
        serde_path_to_error::deserialize(value).map(Self).map_err(|error| {
            let path = error.path().to_string();
            // `nodes[2].cpu` is /nodes/2/cpu
            let path = path.replace(['[', '.'], "/").replace(']', "");
            let pointer = if path == "/" || path.is_empty() { String::new() } else { format!("/{path}") };
            malformed(pointer, error.inner().to_string())
        })
    }
}

/// Where a list is that no request has. serde takes one for an object with its fields in order, and nobody means that.
fn misplaced_list(value: &Value, field: Option<&str>) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            misplaced_list(value, Some(name))
                .map(|rest| format!("/{}{rest}", name.replace('~', "~0").replace('/', "~1")))
        }),
        Value::Array(items) if field.is_some_and(|name| LISTS.contains(&name)) => {
            let inner = |(index, item)| misplaced_list(item, None).map(|rest| format!("/{index}{rest}"));
            items.iter().enumerate().find_map(inner)
        }
        Value::Array(_) => Some(String::new()),
        _ => None,
    }
}

/// A whole body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, RouteError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| RouteError::Malformed { pointer: String::new(), detail: error.to_string() })?;
        if bytes.len() + chunk.len() > limit {
            let rest = async { while let Some(Ok(_)) = stream.next().await {} };
            let _ = tokio::time::timeout(LINGER, rest).await;
            return Err(RouteError::TooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An id in the path.
pub(super) struct Id(pub uuid::Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = RouteError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RouteError> {
        let Name(text) = Name::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|error| RouteError::parameter("id", format!("{text:?} is no id: {error}")))
    }
}

/// A name in the path.
pub(super) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = RouteError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RouteError> {
        Path::from_request_parts(parts, state)
            .await
            .map(|Path(name)| Self(name))
            .map_err(|error| RouteError::parameter("path", error.body_text()))
    }
}

/// The query's parameters.
pub(super) struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = RouteError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RouteError> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// A query, read with errors that name the parameter.
pub(super) fn query<T: DeserializeOwned>(text: &str) -> Result<T, RouteError> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let detail = error.inner().to_string();
        // An unknown name is an error of the whole query: its name is only in the text.
        let unknown = ["unknown field `", "duplicate field `"].iter().find_map(|begin| detail.strip_prefix(begin));
        let named = unknown.and_then(|rest| rest.split('`').next()).map(str::to_owned);
        RouteError::parameter(named.unwrap_or_else(|| error.path().to_string()), detail)
    })
}
