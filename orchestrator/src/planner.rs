//! Asks fog-core what to do, every sampling period, and begins it.

use std::collections::BTreeMap;
use std::time::Duration;

use fog_core::plan::{Action, Migrate, Plan};
use fog_core::policy::Autonomy;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::app::{App, Service};
use crate::clock;
use crate::driver;
use crate::record::{self, AskedBy};
use crate::snapshot;
use crate::store::{NewMigration, StoreError};
use crate::token;

/// Why a migration was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The workload left while it was decided.
    #[error("{0} is gone meanwhile")]
    Gone(String),
    /// No randomness for the ticket.
    #[error(transparent)]
    Ticket(#[from] anyhow::Error),
}

/// Plans until the shutdown.
pub async fn run(app: App) {
    let period = Duration::from_secs_f64(app.policy.get().policy.sampling.interval_s.clamp(0.1, 3600.0));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = BTreeMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        let plan = {
            let policy = app.policy.get();
            let now = clock::now();
            let _timer = app.metrics.planner.start_timer();
            let snapshot = snapshot::build(&app.fleet(), &policy.policy, now);
            fog_core::plan::plan(&snapshot, &policy.policy, now)
        };
        explain_what_stays(&plan, &mut said);
        for action in &plan.actions {
            carry_out(&app, action, &mut said).await;
        }
    }
}

async fn carry_out(app: &App, action: &Action, said: &mut BTreeMap<String, String>) {
    let policy = app.policy.get();
    let word = if matches!(action, Action::Migrate(_)) { "migrate" } else { "resize" };
    app.metrics.planned.with_label_values(&[word]).inc();
    let migrate = match action {
        Action::Migrate(migrate) => migrate,
        Action::Resize(resize) => {
            let what = format!("recommended, no agent can do it yet: resize it on {}: {}", resize.node, resize.reason);
            say_once(said, resize.workload.as_str(), &what);
            return;
        }
    };
    if migrate.autonomy != Autonomy::Automatic {
        say_once(said, migrate.workload.as_str(), &format!("recommended, nobody told me to do it: {}", migrate.reason));
        return;
    }
    let now = clock::now();
    let current = snapshot::build(&app.fleet(), &policy.policy, now);
    if let Err(reasons) = fog_core::plan::recheck(action, &current, &policy.policy, now) {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        tracing::info!(workload = %migrate.workload, reasons = reasons.join("; "), "the plan no longer holds");
        return;
    }
    match begin(app, migrate, AskedBy::Policy).await {
        Ok(id) => {
            tracing::info!(migration = %id, workload = %migrate.workload, from = %migrate.from, to = %migrate.to, "{}", migrate.reason)
        }
        Err(error) => tracing::warn!(workload = %migrate.workload, "the migration was not begun: {error}"),
    }
}

/// Writes a migration and its decision down and starts driving it.
pub async fn begin(app: &App, migrate: &Migrate, asked_by: AskedBy) -> Result<Uuid, BeginError> {
    let now = clock::now();
    let workload = migrate.workload.to_string();
    let epoch = epoch(app, &workload).ok_or_else(|| BeginError::Gone(workload.clone()))?;
    let id = Uuid::now_v7();
    let decision = record::decision(migrate, asked_by, Some(id), app.policy.get().version, now);
    let new = NewMigration {
        record: record::migration(id, &decision, migrate, now),
        decision: decision.clone(),
        epoch,
        ticket: fog_api::agent::Ticket(token::random()?),
    };
    app.store.begin_migration(&new, now).await?;
    app.fleet().begun(&new.record);
    app.events.tell(fog_api::event::Event::Decision { decision });
    driver::start(app, new);
    Ok(id)
}

fn epoch(app: &Service, workload: &str) -> Option<u64> {
    app.fleet().ownership.get(workload).filter(|row| row.owner.is_some()).map(|row| row.epoch)
}

/// An overloaded node from which nothing moves says why, once for each reason.
fn explain_what_stays(plan: &Plan, said: &mut BTreeMap<String, String>) {
    said.retain(|workload, _| {
        plan.not_moved.iter().any(|stays| stays.workload.as_str() == workload)
            || plan.actions.iter().any(|action| action.workload().as_str() == workload)
    });
    for stays in &plan.not_moved {
        say_once(said, stays.workload.as_str(), &format!("stays on {}: {}", stays.node, stays.reason));
    }
}

fn say_once(said: &mut BTreeMap<String, String>, workload: &str, what: &str) {
    // Numbers change with every sample; the sentence around them does not.
    let gist: String = what.chars().filter(|c| !c.is_ascii_digit()).collect();
    if said.get(workload) != Some(&gist) {
        tracing::info!(workload, "{what}");
        said.insert(workload.to_owned(), gist);
    }
}
