//! Who asks, and whether they may.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use fog_api::identity::{Identity, Role};

use super::RouteError;
use crate::app::{App, Service};
use crate::token;

/// A wrong token is refused even where none is needed: whoever shows one believes in it.
fn identify(app: &Service, headers: &HeaderMap) -> Result<Identity, RouteError> {
    let Some(given) = headers.get(AUTHORIZATION) else {
        return Ok(Identity { name: String::new(), role: Role::Anonymous });
    };
    let words = given.to_str().ok().and_then(|given| given.split_once(' '));
    let Some((_, given)) = words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(RouteError::Unauthorised);
    };
    let given = given.trim();
    if token::same(given, &app.token) {
        return Ok(Identity { name: token::ADMINISTRATOR.to_owned(), role: Role::Admin });
    }
    app.tokens.whose(given).ok_or(RouteError::Unauthorised)
}

/// Lets in who may read.
pub(super) async fn may_read(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, RouteError> {
    let identity = identify(&app, request.headers())?;
    if identity.role == Role::Anonymous && !app.config.anonymous_reads {
        return Err(RouteError::Unauthorised);
    }
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

/// Lets in who may do everything.
pub(super) async fn may_administer(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, RouteError> {
    let identity = identify(&app, request.headers())?;
    match identity.role {
        Role::Anonymous => return Err(RouteError::Unauthorised),
        Role::Reader => return Err(RouteError::Forbidden { name: identity.name }),
        Role::Admin => {}
    }
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

/// Who asks.
pub(super) struct By(pub Identity);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = RouteError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RouteError> {
        // One of the two above is in front of every route that asks for this.
        parts.extensions.get::<Identity>().cloned().map(Self).ok_or(RouteError::Defect)
    }
}
