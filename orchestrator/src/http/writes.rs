//! What every write has in common: it is done to its end even when its client goes away, its repetition under the same
//! `Idempotency-Key` is answered as before instead of done again, and the audit knows of it.

use std::net::SocketAddr;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use fog_api::audit::AuditEntry;
use fog_api::identity::Identity;
use serde::Deserialize;
use serde_json::Value;

use super::RouteError;
use super::input::read;
use crate::app::{App, Service};
use crate::clock;
use crate::store::{Answered, Claim, WriteKey};
use crate::token;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const LONGEST_KEY: usize = 255;
/// A request body longer than this is not kept in the audit.
const LONGEST_AUDITED: usize = 16 << 10;
/// The headers of an answer that belong to what was done.
const KEPT: [HeaderName; 3] = [CONTENT_TYPE, LOCATION, ETAG];

/// `?dry_run=true`: everything is checked and nothing is done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dry {
    #[serde(default)]
    pub dry_run: bool,
}

/// What is asked, as far as this module cares.
struct Asked {
    identity: Identity,
    method: Method,
    route: String,
    path: String,
    query: Option<String>,
    key: Option<String>,
    remote: Option<String>,
    body: Bytes,
}

/// Around every write.
pub(super) async fn write(State(app): State<App>, request: Request, next: Next) -> Result<Response, RouteError> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let asked = Asked {
        identity: parts.extensions.get::<Identity>().cloned().ok_or(RouteError::Defect)?,
        method: parts.method.clone(),
        route: parts.extensions.get::<MatchedPath>().map_or_else(String::new, |route| route.as_str().to_owned()),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        key: key(&parts.headers)?,
        remote: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|from| from.0.to_string()),
        body: read(body, super::LARGEST_BODY).await?.into(),
    };
    let request = Request::from_parts(parts, Body::from(asked.body.clone()));
    // A task of its own: whoever hangs up in the middle must not leave half a write.
    tokio::spawn(async move { carry_out(&app, &asked, request, next).await }).await.map_err(|_| RouteError::Defect)?
}

fn key(headers: &HeaderMap) -> Result<Option<String>, RouteError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > LONGEST_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = format!("give 1 to {LONGEST_KEY} visible ASCII characters without blanks, for example a UUID");
        return Err(RouteError::parameter("Idempotency-Key", detail));
    }
    Ok(Some(text.to_owned()))
}

async fn carry_out(app: &Service, asked: &Asked, request: Request, next: Next) -> Result<Response, RouteError> {
    let key = asked.key.clone().map(|key| WriteKey { who: asked.identity.name.clone(), key });
    if let Some(key) = &key {
        match app.store.claim_key(key, &fingerprint(asked), clock::now()).await? {
            Claim::New => {}
            Claim::Answered(answered) => return replay(answered),
            Claim::UnderWay => return Err(RouteError::KeyUnderWay),
            Claim::Differs => return Err(RouteError::KeyReused),
        }
    }
    let response = next.run(request).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|_| RouteError::Defect)?;
    // What failed on our side is not kept as the answer: it may be tried again under the same key.
    let answered = (!parts.status.is_server_error()).then(|| Answered {
        status: parts.status.as_u16(),
        headers: kept(&parts.headers),
        body: (!parts.headers.contains_key(CACHE_CONTROL)).then(|| body.to_vec()),
    });
    let entry = entry(asked, parts.status, &body);
    tracing::info!(who = entry.who, status = entry.status, dry_run = entry.dry_run, "{} {}", asked.method, entry.path);
    app.store.written(&entry, key.as_ref().map(|key| (key, answered.as_ref()))).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn fingerprint(asked: &Asked) -> String {
    let query = asked.query.as_deref().unwrap_or_default();
    let head =
        format!("{} {}?{query}\n{}", asked.method, asked.path, token::hash(&String::from_utf8_lossy(&asked.body)));
    token::hash(&head)
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = KEPT.iter().filter_map(|name| Some((name, headers.get(name)?.to_str().ok()?)));
    kept.map(|(name, value)| (name.to_string(), value.to_owned())).collect()
}

fn replay(answered: Answered) -> Result<Response, RouteError> {
    let Some(body) = answered.body else { return Err(RouteError::KeySecret) };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(answered.status).map_err(|_| RouteError::Defect)?;
    for (name, value) in answered.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn entry(asked: &Asked, status: StatusCode, answer: &[u8]) -> AuditEntry {
    let query = asked.query.as_deref().unwrap_or_default();
    let problem = || serde_json::from_slice::<Value>(answer).ok()?.get("type")?.as_str().map(str::to_owned);
    let request = (asked.body.len() <= LONGEST_AUDITED).then(|| serde_json::from_slice(&asked.body).ok()).flatten();
    AuditEntry {
        id: uuid::Uuid::now_v7(),
        at: clock::now(),
        who: asked.identity.name.clone(),
        role: asked.identity.role,
        action: format!("{} {}", asked.method, asked.route),
        path: asked.path.clone(),
        status: status.as_u16(),
        problem: if status.is_success() { None } else { problem() },
        dry_run: form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "dry_run" && value == "true"),
        idempotency_key: asked.key.clone(),
        remote: asked.remote.clone(),
        request: request.map(without_secrets),
    }
}

fn without_secrets(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields {
                *field = if name == "secret" || name == "token" { "***".into() } else { without_secrets(field.take()) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_secrets(item.take())),
        _ => {}
    }
    value
}
