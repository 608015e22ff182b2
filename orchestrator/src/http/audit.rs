//! `/v1/audit`: who did what, and when.

use axum::Json;
use axum::extract::State;
use fog_api::audit::AuditEntry;
use fog_api::list::List;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::listing::{Conditions, Listed, Paging, SortKey};
use crate::app::App;
use crate::store::Listing;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum SortBy {
    At,
    Who,
    Action,
}

impl SortKey for SortBy {
    const NAMES: &'static [(&'static str, Self)] =
        &[("at", SortBy::At), ("who", SortBy::Who), ("action", SortBy::Action)];
    const DESCENDING: bool = true;
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only this token's.
    who: Option<String>,
    /// Only this method and route, for example `PUT /v1/policy`.
    action: Option<String>,
    /// Only those that asked for exactly this path.
    path: Option<String>,
    /// Only those that were a dry run, or were not.
    dry_run: Option<bool>,
    /// Only those that were answered with at least this status: 400 for what was refused.
    #[param(minimum = 100, maximum = 599)]
    min_status: Option<u16>,
    /// Only those at or after this.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Only those before this.
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
}

/// Every write that somebody asked for, newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Filter, Paging<SortBy>),
    responses((status = 200, description = "A page of the audit.", body = List<AuditEntry>)))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, filter): Listed<Filter, SortBy>,
) -> Result<Json<List<AuditEntry>>, RouteError> {
    if filter.min_status.is_some_and(|status| !(100..=599).contains(&status)) {
        return Err(RouteError::parameter("min_status", "give 100 to 599"));
    }
    let mut conditions = Conditions::default();
    conditions.add("json_extract(body, '$.who') =", filter.who);
    conditions.add("json_extract(body, '$.action') =", filter.action);
    conditions.add("json_extract(body, '$.path') =", filter.path);
    conditions.add("json_extract(body, '$.dry_run') =", filter.dry_run);
    conditions.add("json_extract(body, '$.status') >=", filter.min_status);
    conditions.add("at_ms >=", filter.since.map(Timestamp::as_millisecond));
    conditions.add("at_ms <", filter.until.map(Timestamp::as_millisecond));
    let listing = Listing {
        table: "audit",
        body: "body",
        unique: "id",
        key: match asked.sort.by {
            SortBy::At => "at_ms",
            SortBy::Who => "json_extract(body, '$.who')",
            SortBy::Action => "json_extract(body, '$.action')",
        },
    };
    asked.stored(&app.store, listing, &conditions).await.map(Json)
}
