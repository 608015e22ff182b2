//! `/v1/doctor`: what the orchestrator finds at itself. `/v1/nodes/{name}/doctor`: what a node's agent finds there.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use fog_api::doctor::{Check, Report};
use fog_core::availability::{Availability, availability};

use super::RouteError;
use super::input::Name;
use crate::app::App;
use crate::{checkups, clock};

/// Less room than this beside the database is a warning, and than this a failure.
const LITTLE_BYTES: u64 = 1 << 30;
const TOO_LITTLE_BYTES: u64 = 64 << 20;
/// Later than this with its own work, it is overloaded.
const LATE: Duration = Duration::from_millis(150);

/// What the orchestrator finds at itself.
#[utoipa::path(get, path = "/v1/doctor", tag = "service",
    responses((status = 200, description = "Every check.", body = Report)))]
pub(super) async fn own(State(app): State<App>) -> Result<Json<Report>, RouteError> {
    let mut checks = vec![database(&app).await, room(&app)];
    checks.push(lateness(&app));
    checks.push(nodes(&app));
    checks.push(versions(&app));
    checks.push(policy(&app));
    Ok(Json(Report { node: None, checks }))
}

/// What the node's agent finds there, now.
#[utoipa::path(get, path = "/v1/nodes/{name}/doctor", tag = "nodes", params(("name" = String, Path, description = "The node's name.")),
    responses((status = 200, description = "Every check; one that fails where the agent does not answer.", body = Report)))]
pub(super) async fn node(State(app): State<App>, Name(name): Name) -> Result<Json<Report>, RouteError> {
    if !app.fleet().nodes.contains_key(&name) {
        return Err(RouteError::Unknown { what: "node", name });
    }
    let checks = match checkups::ask(&app, &name).await {
        Ok(checks) => checks,
        Err(why) => {
            let fix =
                format!("look at the agent there: systemctl status fog-agent, journalctl -u fog-agent (on {name})");
            vec![Check::fail("agent", why, fix)]
        }
    };
    Ok(Json(Report { node: Some(name), checks }))
}

async fn database(app: &App) -> Check {
    match app.store.check().await {
        Ok(None) => match app.store.size().await {
            Ok(size) => Check::ok("database", format!("answers, {} MiB", (size.database_bytes + size.log_bytes) >> 20)),
            Err(error) => Check::fail("database", error.to_string(), "look at the disk that holds data_dir"),
        },
        Ok(Some(damage)) => Check::fail("database", damage, "stop the orchestrator and restore a copy of fogshift.db"),
        Err(error) => Check::fail("database", error.to_string(), "look at the disk that holds data_dir"),
    }
}

fn room(app: &App) -> Check {
    let folder = &app.config.data_dir;
    let fix = "make room there, or keep less: keep_samples_h, keep_minutes_d, keep_hours_d, keep_events_h";
    match rustix::fs::statvfs(folder) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let words = format!("{} MiB free beside the database", free >> 20);
            match free {
                free if free < TOO_LITTLE_BYTES => Check::fail("disk", words, fix),
                free if free < LITTLE_BYTES => Check::warn("disk", words, fix),
                _ => Check::ok("disk", words),
            }
        }
        Err(error) => Check::fail("disk", format!("{}: {error}", folder.display()), fix),
    }
}

fn lateness(app: &App) -> Check {
    let late = app.pulse.late();
    let words = format!("{:.0} ms late with its own work", late.as_secs_f64() * 1e3);
    if late > LATE {
        Check::warn("load", words, "give it more CPU, or raise sampling.interval_s in the policy")
    } else {
        Check::ok("load", words)
    }
}

fn nodes(app: &App) -> Check {
    let (policy, now) = (app.policy.get(), clock::now());
    let fleet = app.fleet();
    let is_active = |at| availability(at, now, &policy.policy.heartbeat) == Availability::Active;
    let away: Vec<&str> = fleet
        .nodes
        .iter()
        .filter(|(_, view)| !is_active(view.stored.heartbeat_at))
        .map(|(name, _)| name.as_str())
        .collect();
    let all = fleet.nodes.len();
    if away.is_empty() {
        return Check::ok("nodes", format!("all {all} are heard"));
    }
    let named = away.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    let more = if away.len() > 10 { format!(" and {} more", away.len() - 10) } else { String::new() };
    let words = format!("{} of {all} are silent: {named}{more}", away.len());
    Check::warn("nodes", words, "look at these machines, their network and their fog-agent")
}

fn versions(app: &App) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    let fleet = app.fleet();
    let other: Vec<String> = fleet
        .nodes
        .values()
        .filter(|view| view.stored.agent_version != own)
        .take(10)
        .map(|view| format!("{} ({})", view.stored.name, view.stored.agent_version))
        .collect();
    if other.is_empty() {
        return Check::ok("versions", format!("every agent has {own}, as the orchestrator"));
    }
    let words = format!("other versions than the orchestrator's {own}: {}", other.join(", "));
    Check::warn("versions", words, "install the same version everywhere")
}

fn policy(app: &App) -> Check {
    let version = app.policy.get().version;
    Check::ok("policy", format!("version {version} is in force"))
}
