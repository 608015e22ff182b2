//! Bodies, read with errors that name the field.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::{LARGEST_BODY, RouteError};

/// So long the rest of a body that is too large is read and thrown away, so that the client reads the answer instead
/// of seeing its connection reset.
const LINGER: Duration = Duration::from_secs(5);

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
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let pointer = if path == "." { String::new() } else { format!("/{}", path.replace('.', "/")) };
            RouteError::Malformed { pointer, detail: error.inner().to_string() }
        })?;
        deserializer
            .end()
            .map_err(|error| RouteError::Malformed { pointer: String::new(), detail: error.to_string() })?;
        Ok(Self(value))
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
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|error| {
            let detail = error.inner().to_string();
            // An unknown name is an error of the whole query: its name is only in the text.
            let unknown = ["unknown field `", "duplicate field `"].iter().find_map(|begin| detail.strip_prefix(begin));
            let named = unknown.and_then(|rest| rest.split('`').next()).map(str::to_owned);
            RouteError::parameter(named.unwrap_or_else(|| error.path().to_string()), detail)
        })
    }
}
