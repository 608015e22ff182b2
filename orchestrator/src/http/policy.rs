//! `/v1/policy`: in force, proposed, and in the past.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::response::{IntoResponse, Response};
use fog_api::list::List;
use fog_api::policy::{
    PolicyCheck, PolicyDifference, PolicyRequest, PolicySource, PolicyVersion, PolicyView, RollbackRequest,
};
use fog_core::Policy;
use jiff::Timestamp;
use serde::Deserialize;
use similar::TextDiff;
use utoipa::IntoParams;

use super::RouteError;
use super::auth::By;
use super::input::{self, Name, Parameters};
use super::listing::{Conditions, Listed, Paging, SortKey};
use super::writes::Dry;
use crate::app::{App, Service};
use crate::clock;
use crate::policy::{InForce, changes};
use crate::store::{Listing, StoredPolicy};

const LONGEST_NOTE: usize = 1000;
const SCHEMA: &str = include_str!("../../../config/policy.schema.json");

fn answer(app: &Service, policy: &InForce) -> Result<Response, RouteError> {
    let view = PolicyView {
        version: policy.version,
        file: policy.file.as_ref().map(|file| file.display().to_string()),
        policy: serde_json::to_value(&policy.policy).map_err(|_| RouteError::Defect)?,
        text: policy.text.clone(),
        at: policy.about.at,
        by: policy.about.by.clone(),
        source: policy.about.source,
        note: policy.about.note.clone(),
        refused: app.policy.refused().map(|why| (*why).clone()),
    };
    Ok(([(ETAG, format!("\"{}\"", policy.version))], Json(view)).into_response())
}

/// The policy in force, as it was written and with every default filled in.
#[utoipa::path(get, path = "/v1/policy", tag = "policy",
    responses((status = 200, description = "The policy.", body = PolicyView, headers(("ETag" = String, description = "For `If-Match`.")))))]
pub(super) async fn show(State(app): State<App>) -> Result<Response, RouteError> {
    answer(&app, &app.policy.get())
}

/// The policy's JSON schema.
#[utoipa::path(get, path = "/v1/policy/schema", tag = "policy",
    responses((status = 200, description = "A JSON schema.", content_type = "application/schema+json", body = Object)))]
pub(super) async fn schema() -> Response {
    ([(CONTENT_TYPE, "application/schema+json")], SCHEMA).into_response()
}

/// Whether a policy could be put into force, and what it would change.
#[utoipa::path(post, path = "/v1/policy/check", tag = "policy", request_body = PolicyRequest,
    responses((status = 200, description = "What would come of it.", body = PolicyCheck)))]
pub(super) async fn check(
    State(app): State<App>,
    input::Json(request): input::Json<PolicyRequest>,
) -> Result<Json<PolicyCheck>, RouteError> {
    note(request.note.as_deref())?;
    Ok(Json(match Policy::parse(&request.text, "") {
        Ok(policy) => {
            PolicyCheck { valid: true, errors: Vec::new(), changes: changes(&app.policy.get().policy, &policy) }
        }
        Err(error) => {
            let errors = super::problem::policy_errors("/text", &error);
            PolicyCheck { valid: false, errors, changes: Vec::new() }
        }
    }))
}

fn note(note: Option<&str>) -> Result<(), RouteError> {
    match note.map(|note| note.chars().count()) {
        Some(length) if length > LONGEST_NOTE => {
            Err(RouteError::invalid("/note", format!("it has {length} characters; give at most {LONGEST_NOTE}")))
        }
        _ => Ok(()),
    }
}

/// The version that a change is meant for; `None` for `*`, whichever it is.
fn expected(headers: &HeaderMap, newest: u64) -> Result<Option<u64>, RouteError> {
    let Some(value) = headers.get(IF_MATCH) else { return Err(RouteError::MatchMissing { newest }) };
    let value = value.to_str().unwrap_or_default().trim();
    if value == "*" {
        return Ok(None);
    }
    let version = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|text| text.parse().ok());
    // Any other tag is well-formed and simply not this policy's.
    version.map(Some).ok_or(RouteError::MatchFailed { newest })
}

async fn change(
    app: &App,
    text: String,
    headers: &HeaderMap,
    about: PolicyVersion,
    pointer: &str,
    dry_run: bool,
) -> Result<Response, RouteError> {
    note(about.note.as_deref())?;
    let in_force = app.policy.get();
    let expected = expected(headers, in_force.version)?;
    if dry_run {
        let policy = Policy::parse(&text, "").map_err(|error| RouteError::policy(pointer, &error))?;
        if expected.is_some_and(|expected| expected != in_force.version) {
            return Err(RouteError::MatchFailed { newest: in_force.version });
        }
        let version = in_force.version + 1;
        return answer(app, &InForce { policy, version, text, about, file: in_force.file.clone() });
    }
    let (who, version) = (about.by.clone(), in_force.version);
    let changed = app.policy.change(&app.store, text, expected, about).await;
    let changed = changed.map_err(|error| RouteError::policy_change(pointer, error))?;
    tracing::info!(who, from = version, version = changed.version, "the policy was changed");
    answer(app, &changed)
}

/// Puts a policy into force, if the one named by `If-Match` still is.
#[utoipa::path(put, path = "/v1/policy", tag = "policy", request_body = PolicyRequest,
    params(("If-Match" = String, Header, description = "The `ETag` of the policy that this one replaces, or `*`.")),
    responses((status = 200, description = "The policy in force now; with `dry_run`, the one that would be.", body = PolicyView,
        headers(("ETag" = String, description = "For the next `If-Match`.")))))]
pub(super) async fn put(
    State(app): State<App>,
    By(by): By,
    Parameters(dry): Parameters<Dry>,
    headers: HeaderMap,
    input::Json(request): input::Json<PolicyRequest>,
) -> Result<Response, RouteError> {
    let about = about(by.name, PolicySource::Api, request.note);
    change(&app, request.text, &headers, about, "/text", dry.dry_run).await
}

fn about(by: String, source: PolicySource, note: Option<String>) -> PolicyVersion {
    PolicyVersion { version: 0, at: clock::now(), by, source, note }
}

/// Puts an earlier version into force again, under a new number.
#[utoipa::path(post, path = "/v1/policy/rollback", tag = "policy", request_body = RollbackRequest,
    params(("If-Match" = String, Header, description = "The `ETag` of the policy in force, or `*`.")),
    responses((status = 200, description = "The policy in force now; with `dry_run`, the one that would be.", body = PolicyView,
        headers(("ETag" = String, description = "For the next `If-Match`.")))))]
pub(super) async fn rollback(
    State(app): State<App>,
    By(by): By,
    Parameters(dry): Parameters<Dry>,
    headers: HeaderMap,
    input::Json(request): input::Json<RollbackRequest>,
) -> Result<Response, RouteError> {
    let Some(stored) = app.store.policy(request.version).await? else {
        return Err(RouteError::invalid("/version", format!("there is no version {}", request.version)));
    };
    let words = request.note.unwrap_or_else(|| format!("back to version {}", request.version));
    let about = about(by.name, PolicySource::Rollback, Some(words));
    change(&app, stored.text, &headers, about, "/version", dry.dry_run).await
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    Version,
    By,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] = &[("version", SortBy::Version), ("by", SortBy::By)];
    const DESCENDING: bool = true;
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those that this token or `policy file` wrote.
    by: Option<String>,
    /// Only those of this source.
    source: Option<PolicySource>,
    /// Only those since this.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
}

/// Every policy that was ever in force, newest first.
#[utoipa::path(get, path = "/v1/policy/history", tag = "policy", params(Filter, Paging<SortBy>),
    responses((status = 200, description = "A page of the versions.", body = List<PolicyVersion>)))]
pub(super) async fn history(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, SortBy>,
) -> Result<Json<List<PolicyVersion>>, RouteError> {
    let word = |source| serde_json::to_value(source).unwrap_or_default();
    let mut conditions = Conditions::default();
    conditions.add("json_extract(body, '$.by') =", filter.by);
    conditions.add("json_extract(body, '$.source') =", filter.source.map(word));
    let seconds = filter.since.map(|since| since.as_duration().as_secs_f64());
    conditions.add("unixepoch(json_extract(body, '$.at'), 'subsec') >=", seconds);
    let listing = Listing {
        table: "policy_versions",
        body: "body",
        unique: "version",
        key: match asked.sort.by {
            SortBy::Version => "version",
            SortBy::By => "json_extract(body, '$.by')",
        },
    };
    asked.stored(&app.store, listing, &conditions).await.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Against {
    /// The version to compare with; the one before when left out.
    #[param(minimum = 1)]
    against: Option<u64>,
}

/// One version, with what differs from another.
#[utoipa::path(get, path = "/v1/policy/history/{version}", tag = "policy",
    params(("version" = u64, Path, description = "The version.", minimum = 1), Against),
    responses((status = 200, description = "The version and the difference.", body = PolicyDifference)))]
pub(super) async fn difference(
    State(app): State<App>,
    Name(version): Name,
    Parameters(wanted): Parameters<Against>,
) -> Result<Json<PolicyDifference>, RouteError> {
    let number: u64 =
        version.parse().map_err(|error| RouteError::parameter("version", format!("{version:?}: {error}")))?;
    let unknown = |number: u64| RouteError::Unknown { what: "policy version", name: number.to_string() };
    let this = app.store.policy(number).await?.ok_or_else(|| unknown(number))?;
    let against = wanted.against.or_else(|| number.checked_sub(1).filter(|before| *before > 0));
    let other = match against {
        Some(against) => app.store.policy(against).await?.ok_or_else(|| unknown(against))?,
        None => StoredPolicy { version: this.version.clone(), text: String::new() },
    };
    // What another version of Fogshift wrote may not be readable any more; the texts still differ.
    let parsed = |policy: &StoredPolicy| Policy::parse(&policy.text, "").ok();
    let changed = parsed(&other).zip(parsed(&this)).map(|(other, this)| changes(&other, &this)).unwrap_or_default();
    let name =
        |version: Option<u64>| version.map_or_else(|| "default".to_owned(), |version| format!("version {version}"));
    let diff = TextDiff::from_lines(&other.text, &this.text);
    let diff = diff.unified_diff().header(&name(against), &name(Some(number))).to_string();
    Ok(Json(PolicyDifference { version: this.version, text: this.text, against, changes: changed, diff }))
}
