//! `/v1/whoami` and `/v1/tokens`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::response::{IntoResponse, Response};
use fog_api::identity::{Identity, NewToken, Token, TokenRequest};
use fog_api::list::List;
use serde_json::Value;

use super::RouteError;
use super::auth::By;
use super::input::{self, Name, Parameters};
use super::listing::{Everything, Listed, Paging, SortKey};
use super::writes::Dry;
use crate::app::App;
use crate::{clock, token};

const LONGEST_NAME: usize = 64;

/// Whose token this request has, and what it allows.
#[utoipa::path(get, path = "/v1/whoami", tag = "identity", responses((status = 200, description = "You.", body = Identity)))]
pub(super) async fn whoami(By(identity): By) -> Json<Identity> {
    Json(identity)
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    Name,
    CreatedAt,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] = &[("name", SortBy::Name), ("created_at", SortBy::CreatedAt)];
}

/// The named tokens; their secrets are not kept.
#[utoipa::path(get, path = "/v1/tokens", tag = "identity", params(Paging<SortBy>),
    responses((status = 200, description = "A page of the tokens.", body = List<Token>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, Everything {}): Listed<Everything, SortBy>,
) -> Result<Json<List<Token>>, RouteError> {
    let tokens = app.store.tokens().await?.into_iter().map(|(_, token)| token).collect();
    let key = |token: &Token, by| match by {
        SortBy::Name => Value::Null,
        SortBy::CreatedAt => token.created_at.as_millisecond().into(),
    };
    asked.page(tokens, |token: &Token| token.name.clone(), key).map(Json)
}

/// Makes a token for a person or a program. Its secret is shown this once.
#[utoipa::path(post, path = "/v1/tokens", tag = "identity", request_body = TokenRequest, responses(
    (status = 200, description = "It could be made; the secret is empty.", body = NewToken),
    (status = 201, description = "The token.", body = NewToken, headers(("Location" = String, description = "Its path.")))))]
pub(super) async fn create(
    State(app): State<App>,
    By(by): By,
    Parameters(dry): Parameters<Dry>,
    input::Json(request): input::Json<TokenRequest>,
) -> Result<Response, RouteError> {
    let TokenRequest { name, role } = request;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
        let detail = format!("{name:?} is no name for a token: use 1 to {LONGEST_NAME} of A-Z a-z 0-9 _ . -");
        return Err(RouteError::invalid("/name", detail));
    }
    let taken = |name: &str| RouteError::Taken { what: "token", name: name.to_owned() };
    if name == token::ADMINISTRATOR || app.store.tokens().await?.iter().any(|(_, token)| token.name == name) {
        return Err(taken(&name));
    }
    if dry.dry_run {
        return Ok(Json(NewToken { name, role, token: String::new() }).into_response());
    }
    let secret = token::random().map_err(|_| RouteError::Defect)?;
    let kept = Token { name: name.clone(), role, created_at: clock::now(), created_by: by.name };
    let hash = token::hash(&secret);
    if !app.store.add_token(&kept, &hash).await? {
        return Err(taken(&name));
    }
    app.tokens.add(hash, kept);
    let headers = [(LOCATION, format!("/v1/tokens/{name}")), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Json(NewToken { name, role, token: secret })).into_response())
}

/// Revokes a token.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "identity", params(("name" = String, Path, description = "Whose it is.")),
    responses((status = 204, description = "It is worth nothing any more.")))]
pub(super) async fn revoke(
    State(app): State<App>,
    Name(name): Name,
    Parameters(dry): Parameters<Dry>,
) -> Result<StatusCode, RouteError> {
    let known = app.store.tokens().await?.iter().any(|(_, token)| token.name == name);
    if !known || (!dry.dry_run && !app.store.remove_token(&name).await?) {
        return Err(RouteError::Unknown { what: "token", name });
    }
    if !dry.dry_run {
        app.tokens.remove(&name);
    }
    Ok(StatusCode::NO_CONTENT)
}
