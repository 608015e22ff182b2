//! `/v1/webhooks` and `/v1/dead-letters`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::response::{IntoResponse, Response};
use fog_api::event::Event;
use fog_api::list::List;
use fog_api::webhook::{DeadLetter, NewWebhook, Webhook, WebhookRequest};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::RouteError;
use super::auth::By;
use super::input::{self, Id, Parameters};
use super::listing::{Conditions, Listed, Paging, SortKey};
use super::writes::Dry;
use crate::app::App;
use crate::store::Listing;
use crate::{clock, token, webhooks};

const LONGEST_URL: usize = 2000;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    CreatedAt,
    Url,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] = &[("created_at", SortBy::CreatedAt), ("url", SortBy::Url)];
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those to exactly this address.
    url: Option<String>,
}

/// The webhooks; their secrets are not shown again.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", params(Filter, Paging<SortBy>),
    responses((status = 200, description = "A page of the webhooks.", body = List<Webhook>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, SortBy>,
) -> Result<Json<List<Webhook>>, RouteError> {
    let all = app.store.webhooks().await?.into_iter().map(|stored| stored.webhook);
    let found = all.filter(|webhook| filter.url.as_ref().is_none_or(|url| webhook.url == *url)).collect();
    let key = |webhook: &Webhook, by| match by {
        SortBy::CreatedAt => webhook.created_at.as_millisecond().into(),
        SortBy::Url => Value::from(webhook.url.clone()),
    };
    asked.page(found, |webhook: &Webhook| webhook.id.to_string(), key).map(Json)
}

/// One webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = uuid::Uuid, Path, description = "The webhook's id.")),
    responses((status = 200, description = "The webhook.", body = Webhook)))]
pub(super) async fn one(State(app): State<App>, Id(id): Id) -> Result<Json<Webhook>, RouteError> {
    let found = app.store.webhook(id).await?;
    found.map(|stored| Json(stored.webhook)).ok_or_else(|| unknown(id))
}

fn unknown(id: uuid::Uuid) -> RouteError {
    RouteError::Unknown { what: "webhook", name: id.to_string() }
}

/// Posts events to a server from now on, tried several times. `Fogshift-Signature: t=SECONDS,v1=HEX` holds the HMAC-SHA256
/// of `SECONDS.BODY` under the secret; `Fogshift-Delivery` is the same for every attempt of one event.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", request_body = WebhookRequest, responses(
    (status = 200, description = "It could be made; the secret is empty.", body = NewWebhook),
    (status = 201, description = "The webhook with its secret.", body = NewWebhook, headers(("Location" = String, description = "Its path.")))))]
pub(super) async fn create(
    State(app): State<App>,
    By(by): By,
    Parameters(dry): Parameters<Dry>,
    input::Json(request): input::Json<WebhookRequest>,
) -> Result<Response, RouteError> {
    let WebhookRequest { url, filter, secret } = request;
    check_url(&url)?;
    if let Some(unknown) = filter.unknown_type() {
        let detail = format!("no event is named {unknown:?}; give some of: {}", Event::NAMES.join(", "));
        return Err(RouteError::invalid("/filter/types", detail));
    }
    if secret.as_ref().is_some_and(|secret| !(16..=256).contains(&secret.chars().count())) {
        return Err(RouteError::invalid("/secret", "give 16 to 256 characters, or none to have one made"));
    }
    let webhook = Webhook { id: uuid::Uuid::now_v7(), url, filter, created_at: clock::now(), created_by: by.name };
    if dry.dry_run {
        return Ok(Json(NewWebhook { webhook, secret: String::new() }).into_response());
    }
    let secret = match secret {
        Some(secret) => secret,
        None => token::random().map_err(|_| RouteError::Defect)?,
    };
    let stored = app.store.add_webhook(&webhook, &secret).await?;
    webhooks::start(&app, stored);
    let headers = [(LOCATION, format!("/v1/webhooks/{}", webhook.id)), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Json(NewWebhook { webhook, secret })).into_response())
}

fn check_url(url: &str) -> Result<(), RouteError> {
    let wrong = |detail: &str| Err(RouteError::invalid("/url", detail.to_owned()));
    if url.len() > LONGEST_URL {
        return wrong("it is longer than 2000 bytes");
    }
    match reqwest::Url::parse(url) {
        Ok(url) if url.scheme() == "https" => {
            wrong("this version posts over plain http only: give an http:// address, for example a relay beside it")
        }
        Ok(url) if url.scheme() != "http" || url.host_str().is_none_or(str::is_empty) => {
            wrong("it must look like http://host:port/path")
        }
        Ok(_) => Ok(()),
        Err(error) => wrong(&format!("{error}; it must look like http://host:port/path")),
    }
}

/// Stops a webhook and forgets its dead letters.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = uuid::Uuid, Path, description = "The webhook's id.")),
    responses((status = 204, description = "Nothing more is posted.")))]
pub(super) async fn remove(
    State(app): State<App>,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
) -> Result<StatusCode, RouteError> {
    if dry.dry_run {
        return app.store.webhook(id).await?.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| unknown(id));
    }
    if !app.store.remove_webhook(id).await? {
        return Err(unknown(id));
    }
    app.webhooks.stop(id);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum LettersBy {
    At,
    Attempts,
}

impl SortKey for LettersBy {
    const NAMES: &'static [(&'static str, Self)] = &[("at", LettersBy::At), ("attempts", LettersBy::Attempts)];
    const DESCENDING: bool = true;
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LetterFilter {
    /// Only those of this webhook.
    webhook: Option<uuid::Uuid>,
}

/// Events that a receiver did not take, newest first.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "webhooks", params(LetterFilter, Paging<LettersBy>),
    responses((status = 200, description = "A page of the dead letters.", body = List<DeadLetter>)))]
pub(super) async fn letters(
    State(app): State<App>,
    Listed(asked, filter): Listed<LetterFilter, LettersBy>,
) -> Result<Json<List<DeadLetter>>, RouteError> {
    let mut conditions = Conditions::default();
    conditions.add("webhook =", filter.webhook.map(|id| id.to_string()));
    let listing = Listing {
        table: "dead_letters",
        body: "body",
        unique: "id",
        key: match asked.sort.by {
            LettersBy::At => "at_ms",
            LettersBy::Attempts => "json_extract(body, '$.attempts')",
        },
    };
    asked.stored(&app.store, listing, &conditions).await.map(Json)
}

async fn letter(app: &App, id: uuid::Uuid) -> Result<DeadLetter, RouteError> {
    let found = app.store.dead_letter(id).await?;
    found.ok_or_else(|| RouteError::Unknown { what: "dead letter", name: id.to_string() })
}

/// Posts a dead letter once more; it is gone when the receiver takes it.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/redeliver", tag = "webhooks", params(("id" = uuid::Uuid, Path, description = "The dead letter's id.")),
    responses((status = 200, description = "It could be posted.", body = DeadLetter), (status = 204, description = "The receiver took it.")))]
pub(super) async fn redeliver(
    State(app): State<App>,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
) -> Result<Response, RouteError> {
    let mut letter = letter(&app, id).await?;
    if dry.dry_run {
        return Ok(Json(letter).into_response());
    }
    let stored = app.store.webhook(letter.webhook).await?.ok_or_else(|| unknown(letter.webhook))?;
    match webhooks::attempt(&app, &stored, &letter.event).await {
        Ok(()) => {
            app.store.settle_dead_letter(id, None).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(error) => {
            letter.attempts += 1;
            letter.error = error.to_string();
            app.store.settle_dead_letter(id, Some(&letter)).await?;
            Err(RouteError::NotTaken { error: letter.error })
        }
    }
}

/// Forgets a dead letter.
#[utoipa::path(delete, path = "/v1/dead-letters/{id}", tag = "webhooks", params(("id" = uuid::Uuid, Path, description = "The dead letter's id.")),
    responses((status = 204, description = "It is forgotten.")))]
pub(super) async fn forget(
    State(app): State<App>,
    Id(id): Id,
    Parameters(dry): Parameters<Dry>,
) -> Result<StatusCode, RouteError> {
    letter(&app, id).await?;
    if !dry.dry_run {
        app.store.settle_dead_letter(id, None).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
