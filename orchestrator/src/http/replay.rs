//! `/v1/policy/replay`: what a policy would have done with the last hours. The numbers are fog-core's ([`fog_core::replay`]
//! says what they leave out); here are the bounds: one replay at a time, so long for reading and so long for thinking.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use fog_api::policy::{PolicyReplay, ReplayRequest, ReplayedMove, ReplayedStep};
use fog_core::Policy;
use fog_core::replay::{Moved, Past, Replay, Sampled};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use super::RouteError;
use super::input;
use crate::app::App;
use crate::{clock, snapshot};

const HOURS: std::ops::RangeInclusive<u32> = 1..=24;
/// So long reading and so long planning may take.
const READING: Duration = Duration::from_secs(8);
const PLANNING: Duration = Duration::from_secs(12);
/// Moves that are listed.
const LISTED: usize = 500;
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// Seconds from step to step: larger clusters are looked at less often.
fn step_s(nodes: usize) -> u32 {
    match nodes {
        0..=100 => 60,
        101..=1000 => 300,
        _ => 900,
    }
}

/// What a policy would have done with the last hours: which moves it would have made, and how many overload-minutes there would
/// have been. A projection from the nodes' stored samples, step by step: every workload is taken to have used all the time
/// what it uses now, every move to be approved, to succeed and to take no time; bursts, resizes, cordons and drains of that time are
/// left out. A large cluster is replayed in longer steps, and only as far as about 20 seconds allow.
#[utoipa::path(post, path = "/v1/policy/replay", tag = "policy", request_body = ReplayRequest,
    responses((status = 200, description = "What would have come of it; nothing is changed.", body = PolicyReplay)))]
pub(super) async fn replay(
    State(app): State<App>,
    input::Json(request): input::Json<ReplayRequest>,
) -> Result<Json<PolicyReplay>, RouteError> {
    let policy = Policy::parse(&request.text, "").map_err(|error| RouteError::policy("/text", &error))?;
    if !HOURS.contains(&request.hours) {
        let detail = format!("{} is out of range; give {} to {}", request.hours, HOURS.start(), HOURS.end());
        return Err(RouteError::invalid("/hours", detail));
    }
    let _permit = ONE_AT_A_TIME.acquire().await.map_err(|_| RouteError::Defect)?;
    let (past, read, steps) = past(&app, &policy, request.hours).await?;
    let (from, step, nodes) = (past.from, past.step_s, past.now.nodes.len());
    let moved = past.moves.len() as u64;
    // Planning takes its time, and other requests wait for this thread.
    let played = tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let mut replay = Replay::new(past, &policy);
        while begin.elapsed() < PLANNING && replay.step() {}
        replay
    });
    let played = played.await.map_err(|_| RouteError::Defect)?;
    let minutes = |count: fn(&fog_core::replay::Step) -> u32| {
        played.steps.iter().map(|step| f64::from(count(step))).sum::<f64>() * f64::from(step) / 60.0
    };
    let length = i64::from(step) * i64::try_from(played.steps.len()).unwrap_or(i64::MAX);
    Ok(Json(PolicyReplay {
        from,
        until: from.saturating_add(SignedDuration::from_secs(length)).unwrap_or(from),
        complete: played.steps.len() == steps && read == nodes,
        step_s: step,
        nodes: read as u64,
        omitted_nodes: (nodes - read) as u64,
        overload_minutes: minutes(|step| step.overloaded),
        projected_overload_minutes: minutes(|step| step.would_be),
        moved,
        would_move: played.would_move.len() as u64,
        moves: played.would_move.iter().take(LISTED).map(listed).collect(),
        steps: played.steps.iter().map(shown).collect(),
    }))
}

fn listed(one: &fog_core::replay::WouldMove) -> ReplayedMove {
    ReplayedMove {
        at: one.at,
        workload: one.workload.to_string(),
        from: one.from.to_string(),
        to: one.to.to_string(),
        reason: one.reason.clone(),
    }
}

fn shown(step: &fog_core::replay::Step) -> ReplayedStep {
    ReplayedStep { at: step.at, overloaded: step.overloaded, would_be: step.would_be }
}

/// What is stored of the last hours, of how many nodes, and how many steps that is.
async fn past(app: &App, policy: &Policy, hours: u32) -> Result<(Past, usize, usize), RouteError> {
    let until = clock::now();
    let (service, under) = (app.clone(), policy.clone());
    let taking = crate::aside::run(move || snapshot::take(&service, &under, until));
    let now = taking.await.map_err(|_| RouteError::Defect)?;
    let step_s = step_s(now.nodes.len());
    let wanted = until - SignedDuration::from_hours(i64::from(hours));
    // Whole steps, so that a minute's samples are one step's.
    let seconds = wanted.as_second();
    let from = Timestamp::from_second(seconds - seconds.rem_euclid(i64::from(step_s))).unwrap_or(wanted);
    let count = (until.as_second() - from.as_second()).div_euclid(i64::from(step_s));
    let steps = usize::try_from(count).unwrap_or(0);
    let end = from + SignedDuration::from_secs(count * i64::from(step_s));
    let begin = Instant::now();
    let (mut samples, mut read) = (Vec::with_capacity(now.nodes.len()), 0);
    for node in &now.nodes {
        let mut row = vec![None; steps];
        if begin.elapsed() < READING {
            for point in app.store.samples(node.name.as_str(), from, end, i64::from(step_s)).await? {
                let at = (point.at.as_second() - from.as_second()).div_euclid(i64::from(step_s));
                if let Some(slot) = usize::try_from(at).ok().and_then(|at| row.get_mut(at)) {
                    *slot = Some(Sampled { cpu: point.cpu, memory: point.memory });
                }
            }
            read += 1;
        }
        samples.push(row);
    }
    let ended = app.store.ended_since(from).await?;
    let moves = ended.into_iter().filter(|record| record.phase == fog_api::migration::Phase::Done);
    let moves = moves.map(|record| Moved {
        at: record.finished_at.unwrap_or(record.created_at),
        workload: record.workload,
        from: record.source,
        to: record.destination,
    });
    Ok((Past { now, from, step_s, samples, moves: moves.collect() }, read, steps))
}
