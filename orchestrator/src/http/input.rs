//! Bodies, read with errors that name the field.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::{LARGEST_BODY, RouteError};

/// So long the rest of a body that is too large is read and thrown away, so that the client reads the answer instead
/// of seeing its connection reset.
const LINGER: Duration = Duration::from_secs(5);

/// A JSON body.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = RouteError;

    async fn from_request(request: Request, _: &S) -> Result<Self, RouteError> {
        let bytes = read(request.into_body()).await?;
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

async fn read(body: Body) -> Result<Vec<u8>, RouteError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| RouteError::Malformed { pointer: String::new(), detail: error.to_string() })?;
        if bytes.len() + chunk.len() > LARGEST_BODY {
            let rest = async { while let Some(Ok(_)) = stream.next().await {} };
            let _ = tokio::time::timeout(LINGER, rest).await;
            return Err(RouteError::TooLarge { limit: LARGEST_BODY });
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
        let malformed = |detail| RouteError::Malformed { pointer: "id".to_owned(), detail };
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|error| malformed(error.body_text()))?;
        text.parse().map(Self).map_err(|error| malformed(format!("{text:?} is no id: {error}")))
    }
}

/// The query's parameters.
pub(super) struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = RouteError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RouteError> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(value)| Self(value))
            .map_err(|error| RouteError::Malformed { pointer: "query".to_owned(), detail: error.body_text() })
    }
}

/// How many items a list gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(pub u32);

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> serde::Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            limit @ 1..=1000 => Ok(Self(limit)),
            other => Err(serde::de::Error::custom(format!("limit is {other}, expected 1 to 1000"))),
        }
    }
}
