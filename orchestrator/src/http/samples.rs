//! `/v1/nodes/{name}/samples`: a node's past, as points of a chosen distance.

use axum::Json;
use axum::extract::State;
use fog_api::node::{Delays, Samples};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::RouteError;
use super::input::{Name, Parameters};
use crate::app::App;
use crate::clock;

/// More points than any screen has pixels across are refused.
const MOST_POINTS: i64 = 5000;
/// So many points there are when no step is given.
const USUAL_POINTS: i64 = 300;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// The beginning; one hour before `to` when left out.
    #[param(value_type = Option<String>, format = "date-time")]
    from: Option<Timestamp>,
    /// The end, not part of it; now when left out.
    #[param(value_type = Option<String>, format = "date-time")]
    to: Option<Timestamp>,
    /// Seconds between two points; chosen to give about 300 points when left out.
    #[param(minimum = 1, maximum = 86400)]
    step_s: Option<u32>,
}

/// A node's samples over a range, one point a step.
#[utoipa::path(get, path = "/v1/nodes/{name}/samples", tag = "nodes",
    params(("name" = String, Path, description = "The node's name."), Range),
    responses((status = 200, description = "The points.", body = Samples)))]
pub(super) async fn show(
    State(app): State<App>,
    Name(name): Name,
    Parameters(range): Parameters<Range>,
) -> Result<Json<Samples>, RouteError> {
    if !app.fleet().nodes.contains_key(&name) {
        return Err(RouteError::Unknown { what: "node", name });
    }
    let to = range.to.unwrap_or_else(clock::now);
    let from = range.from.unwrap_or_else(|| to.checked_sub(HOUR).unwrap_or(to));
    let length = to.as_second().saturating_sub(from.as_second());
    if length <= 0 {
        return Err(RouteError::parameter("from", format!("{from} is not before {to}; give an earlier one")));
    }
    let step_s = match range.step_s {
        Some(step_s @ 1..=86_400) => i64::from(step_s),
        Some(other) => {
            return Err(RouteError::parameter("step_s", format!("{other} is out of range; give 1 to 86400")));
        }
        None => (length / USUAL_POINTS).clamp(1, 86_400),
    };
    if length / step_s > MOST_POINTS {
        let detail = format!("that gives more than {MOST_POINTS} points; give a longer step or a shorter range");
        return Err(RouteError::parameter("step_s", detail));
    }
    let points = app.store.samples(&name, from, to, step_s).await?;
    Ok(Json(Samples { node: name, from, to, step_s: step_s.cast_unsigned(), points }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Span {
    /// The beginning; one hour before `to` when left out.
    #[param(value_type = Option<String>, format = "date-time")]
    from: Option<Timestamp>,
    /// The end, not part of it; now when left out.
    #[param(value_type = Option<String>, format = "date-time")]
    to: Option<Timestamp>,
}

/// How far a node was from the nearest others over a range.
#[utoipa::path(get, path = "/v1/nodes/{name}/delays", tag = "nodes",
    params(("name" = String, Path, description = "The node's name."), Span),
    responses((status = 200, description = "The points.", body = Delays)))]
pub(super) async fn delays(
    State(app): State<App>,
    Name(name): Name,
    Parameters(span): Parameters<Span>,
) -> Result<Json<Delays>, RouteError> {
    if !app.fleet().nodes.contains_key(&name) {
        return Err(RouteError::Unknown { what: "node", name });
    }
    let to = span.to.unwrap_or_else(clock::now);
    let from = span.from.unwrap_or_else(|| to.checked_sub(HOUR).unwrap_or(to));
    if from >= to {
        return Err(RouteError::parameter("from", format!("{from} is not before {to}; give an earlier one")));
    }
    let points = app.store.delays(&name, from, to).await?;
    Ok(Json(Delays { node: name, from, to, points }))
}
