//! Asks fog-core what to do, every sampling period, and begins it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fog_api::decision::Decision;
use fog_core::model::InFlight;
use fog_core::plan::{Action, Migrate, Plan};
use fog_core::policy::Autonomy;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::app::{App, Service};
use crate::aside;
use crate::clock;
use crate::driver;
use crate::peers;
use crate::proposals;
use crate::record::{self, AskedBy};
use crate::resize;
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
        let planning = app.clone();
        let plan = match aside::run(move || plan(&planning)).await {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!("the planner has a defect: {error}");
                continue;
            }
        };
        explain_what_stays(&plan, &mut said);
        if !plan.actions.is_empty() {
            let (checking, actions) = (app.clone(), plan.actions);
            match aside::run(move || check_again(&checking, actions)).await {
                Ok(actions) => {
                    for action in &actions {
                        carry_out(&app, action, &mut said).await;
                    }
                }
                Err(error) => tracing::error!("the planner has a defect: {error}"),
            }
        }
        if let Err(error) = proposals::withdraw_stale(&app).await {
            tracing::error!("cannot withdraw a proposal: {error}");
        }
    }
}

/// The group that an action belongs to, and the node that it leaves.
fn group(action: &Action) -> Option<(String, String)> {
    match action {
        Action::Migrate(migrate) => Some((migrate.group.clone()?, migrate.from.to_string())),
        Action::Resize(_) => None,
    }
}

/// Those that still hold, one after the other, and whose way is measured.
fn check_again(app: &Service, actions: Vec<Action>) -> Vec<Action> {
    let (policy, now) = (app.policy.get(), clock::now());
    // In a large cluster the way was only estimated; the next plan knows it.
    let measured = |action: &Action| match action {
        Action::Migrate(migrate) => peers::is_measured(app, migrate.from.as_str(), migrate.to.as_str()),
        Action::Resize(_) => app.resizes.may_begin(action.workload().as_str(), now),
    };
    let ready: Vec<bool> = actions.iter().map(measured).collect();
    if !ready.contains(&true) {
        return Vec::new();
    }
    let mut current = snapshot::take(app, &policy.policy, now);
    let mut refused = BTreeSet::new();
    let mut holds = Vec::new();
    for (action, ready) in actions.into_iter().zip(ready) {
        let checked =
            if ready { fog_core::plan::recheck(&action, &current, &policy.policy, now) } else { Err(Vec::new()) };
        if let Err(reasons) = checked {
            if ready {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                tracing::info!(workload = %action.workload(), reasons = reasons.join("; "), "the plan no longer holds");
            }
            // A group moves as one: if one of it may not begin, none does.
            refused.extend(group(&action));
            continue;
        }
        if let Action::Migrate(migrate) = &action {
            let Migrate { workload, from, to, .. } = migrate;
            current.in_flight.push(InFlight { workload: workload.clone(), from: from.clone(), to: to.clone() });
        }
        holds.push(action);
    }
    holds.retain(|action| !group(action).is_some_and(|group| refused.contains(&group)));
    holds
}

/// In a large cluster this takes longer than an agent's message may wait for a thread.
fn plan(app: &App) -> Plan {
    let _timer = app.metrics.planner.start_timer();
    let policy = app.policy.get();
    let now = clock::now();
    let snapshot = snapshot::take(app, &policy.policy, now);
    fog_core::plan::plan(&snapshot, &policy.policy, now)
}

async fn carry_out(app: &App, action: &Action, said: &mut BTreeMap<String, String>) {
    let policy = app.policy.get();
    let word = if matches!(action, Action::Migrate(_)) { "migrate" } else { "resize" };
    app.metrics.planned.with_label_values(&[word]).inc();
    let workload = action.workload();
    let autonomy = match action {
        Action::Migrate(migrate) => migrate.autonomy,
        Action::Resize(resize) => resize.autonomy,
    };
    let now = clock::now();
    if autonomy != Autonomy::Automatic {
        if let Err(error) = proposals::propose(app, action, autonomy).await {
            say_once(said, workload.as_str(), &format!("cannot be proposed: {error}"));
        }
        return;
    }
    match action {
        Action::Migrate(migrate) => match begin(app, migrate, AskedBy::Policy).await {
            Ok(id) => {
                tracing::info!(migration = %id, %workload, from = %migrate.from, to = %migrate.to, "{}", migrate.reason)
            }
            Err(error) => tracing::warn!(%workload, "the migration was not begun: {error}"),
        },
        Action::Resize(asked) => {
            let decision = record::resize_decision(asked, policy.version, now);
            if let Err(error) = resize::begin(app, asked, decision).await {
                tracing::warn!(%workload, "the resize was not begun: {error}");
            }
        }
    }
}

/// Writes a migration and its decision down and starts driving it.
pub async fn begin(app: &App, migrate: &Migrate, asked_by: AskedBy) -> Result<Uuid, BeginError> {
    let decision = record::decision(migrate, asked_by, None, app.policy.get().version, clock::now());
    begin_decided(app, migrate, decision).await.map(|(id, _)| id)
}

/// Begins the migration of a decision that is made; the decision then names it.
pub async fn begin_decided(
    app: &App,
    migrate: &Migrate,
    mut decision: Decision,
) -> Result<(Uuid, Decision), BeginError> {
    let now = clock::now();
    let workload = migrate.workload.to_string();
    let epoch = epoch(app, &workload).ok_or_else(|| BeginError::Gone(workload.clone()))?;
    let id = Uuid::now_v7();
    decision.migration = Some(id);
    let new = NewMigration {
        record: record::migration(id, &decision, migrate, now),
        decision: decision.clone(),
        epoch,
        ticket: fog_api::agent::Ticket(token::random()?),
    };
    app.store.begin_migration(&new, now).await?;
    app.fleet().begun(&new.record);
    driver::start(app, new);
    Ok((id, decision))
}

fn epoch(app: &Service, workload: &str) -> Option<u64> {
    app.fleet().ownership.get(workload).filter(|row| row.owner.is_some()).map(|row| row.epoch)
}

/// An overloaded node from which nothing moves says why, once for each reason.
fn explain_what_stays(plan: &Plan, said: &mut BTreeMap<String, String>) {
    let told: BTreeSet<&str> = plan
        .not_moved
        .iter()
        .map(|stays| stays.workload.as_str())
        .chain(plan.actions.iter().map(|action| action.workload().as_str()))
        .collect();
    said.retain(|workload, _| told.contains(workload.as_str()));
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
