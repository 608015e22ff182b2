//! What the planner proposes where it may not act by itself, and what a person answers.
//!
//! ```text
//! planned, autonomy confirm ──► proposed ────── approve ──► approved (its migration or resize begins)
//! planned, autonomy manual ───► recommended ─┬─ dismiss ──► dismissed (left alone for cooldown.dismissed_s)
//!                                            └─ no longer holds ──► withdrawn
//! ```
//!
//! A workload has one open proposal at most; it stays as it is while it still holds, whatever is planned meanwhile.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fog_api::decision::{Decision, Status};
use fog_core::Reason;
use fog_core::plan::{Action, recheck};
use fog_core::policy::Autonomy;
use uuid::Uuid;

use crate::app::{App, Service};
use crate::planner::{self, BeginError};
use crate::record::{self, AskedBy};
use crate::store::StoreError;
use crate::{clock, resize, snapshot};

/// A proposal that nobody has answered.
#[derive(Debug, Clone)]
struct Open {
    decision: Decision,
    action: Action,
}

/// Every open proposal, by workload.
#[derive(Debug, Default)]
pub struct Proposals(Mutex<BTreeMap<String, Open>>);

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No such decision.
    #[error("decision {0} is not known")]
    Unknown(Uuid),
    /// It has been answered, or waits for nobody.
    #[error(
        "decision {id} is {status}: only one that is proposed can be approved, and only one that is proposed or recommended dismissed"
    )]
    NotOpen {
        /// The decision.
        id: Uuid,
        /// What has become of it.
        status: Status,
    },
    /// The policy or the workload says that a person acts, not Fogshift.
    #[error("decision {id} is a recommendation only (autonomy manual): do it yourself with `{command}`, or dismiss it")]
    AdviceOnly {
        /// The decision.
        id: Uuid,
        /// What to type.
        command: String,
    },
    /// It no longer holds.
    #[error("it no longer holds: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoLongerHolds(Vec<Reason>),
    /// It could not be begun.
    #[error(transparent)]
    NotBegun(#[from] BeginError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Proposals {
    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, id: Uuid) -> Option<Open> {
        self.open().values().find(|open| open.decision.id == id).cloned()
    }

    /// Takes a proposal out, if nobody else has: of two answers at once, one counts.
    fn take(&self, id: Uuid) -> Option<Open> {
        let mut open = self.open();
        let workload = open.iter().find(|(_, one)| one.decision.id == id)?.0.clone();
        open.remove(&workload)
    }
}

/// What was open when the orchestrator ended is proposed anew if it still holds; a dismissal is remembered.
pub async fn recall(app: &Service) -> Result<(), StoreError> {
    for status in [Status::Proposed, Status::Recommended] {
        for decision in app.store.decisions_that_are(status).await? {
            settle(app, decision, Status::Withdrawn).await?;
        }
    }
    for decision in app.store.decisions_that_are(Status::Dismissed).await?.into_iter().rev() {
        app.fleet().dismissed.insert(decision.workload, decision.answered_at.unwrap_or(decision.at));
    }
    Ok(())
}

/// Proposes an action, unless its workload has a proposal that still holds.
pub async fn propose(app: &App, action: &Action, autonomy: Autonomy) -> Result<(), StoreError> {
    let workload = action.workload().as_str();
    if app.proposals.open().contains_key(workload) {
        return Ok(());
    }
    let (version, now) = (app.policy.get().version, clock::now());
    let mut decision = match action {
        Action::Migrate(migrate) => record::decision(migrate, AskedBy::Policy, None, version, now),
        Action::Resize(resize) => record::resize_decision(resize, version, now),
    };
    decision.status = if autonomy == Autonomy::Confirm { Status::Proposed } else { Status::Recommended };
    app.store.save_decision(&decision).await?;
    tracing::info!(decision = %decision.id, workload, "{}: {}", decision.status, decision.reason);
    let open = Open { decision: decision.clone(), action: action.clone() };
    app.proposals.open().insert(workload.to_owned(), open);
    Ok(())
}

/// Withdraws what no longer holds.
pub async fn withdraw_stale(app: &App) -> Result<(), StoreError> {
    if app.proposals.open().is_empty() {
        return Ok(());
    }
    let (policy, now) = (app.policy.get(), clock::now());
    let snapshot = snapshot::taken(app, now).await;
    let stale: Vec<Uuid> = {
        let open = app.proposals.open();
        let holds = |open: &Open| recheck(&open.action, &snapshot, &policy.policy, now).is_ok();
        open.values().filter(|open| !holds(open)).map(|open| open.decision.id).collect()
    };
    for id in stale {
        if let Some(open) = app.proposals.take(id) {
            settle(app, open.decision, Status::Withdrawn).await?;
        }
    }
    Ok(())
}

/// A person approves.
pub async fn approve(app: &App, id: Uuid) -> Result<Decision, AnswerError> {
    let open = find(app, id).await?;
    if open.decision.status == Status::Recommended {
        let command = match &open.action {
            Action::Migrate(migrate) => format!("fogctl migrate {} --to {}", migrate.workload, migrate.to),
            Action::Resize(resize) => docker_update(resize),
        };
        return Err(AnswerError::AdviceOnly { id, command });
    }
    let (policy, now) = (app.policy.get(), clock::now());
    let current = snapshot::taken(app, now).await;
    if let Err(reasons) = recheck(&open.action, &current, &policy.policy, now) {
        return Err(AnswerError::NoLongerHolds(reasons));
    }
    let Some(mut open) = app.proposals.take(id) else { return Err(not_open(app, id).await) };
    open.decision.status = Status::Approved;
    open.decision.answered_at = Some(now);
    let again = open.clone();
    let begun = match &open.action {
        Action::Migrate(migrate) => {
            planner::begin_decided(app, migrate, open.decision).await.map(|(_, decided)| decided)
        }
        Action::Resize(asked) => resize::begin(app, asked, open.decision).await.map_err(BeginError::from),
    };
    begun.map_err(|error| {
        // Nothing was written down: it can be approved again.
        app.proposals
            .open()
            .insert(again.decision.workload.clone(), Open { decision: reopened(again.decision), ..again });
        AnswerError::from(error)
    })
}

/// A person says no.
pub async fn dismiss(app: &App, id: Uuid) -> Result<Decision, AnswerError> {
    find(app, id).await?;
    let Some(open) = app.proposals.take(id) else { return Err(not_open(app, id).await) };
    app.fleet().dismissed.insert(open.decision.workload.clone(), clock::now());
    Ok(settle(app, open.decision, Status::Dismissed).await?)
}

async fn find(app: &App, id: Uuid) -> Result<Open, AnswerError> {
    match app.proposals.of(id) {
        Some(open) => Ok(open),
        None => Err(not_open(app, id).await),
    }
}

async fn not_open(app: &Service, id: Uuid) -> AnswerError {
    match app.store.decision(id).await {
        Ok(Some(decision)) => AnswerError::NotOpen { id, status: decision.status },
        Ok(None) => AnswerError::Unknown(id),
        Err(error) => error.into(),
    }
}

async fn settle(app: &Service, mut decision: Decision, status: Status) -> Result<Decision, StoreError> {
    decision.status = status;
    decision.answered_at = Some(clock::now());
    app.store.save_decision(&decision).await?;
    tracing::info!(decision = %decision.id, workload = decision.workload, "{status}");
    Ok(decision)
}

fn reopened(decision: Decision) -> Decision {
    Decision { status: Status::Proposed, answered_at: None, ..decision }
}

fn docker_update(resize: &fog_core::Resize) -> String {
    let mut command = "docker update".to_owned();
    if let Some(cpus) = resize.to.cpus {
        command.push_str(&format!(" --cpus {cpus}"));
    }
    if let Some(bytes) = resize.to.memory_bytes {
        command.push_str(&format!(" --memory {bytes}"));
    }
    format!("{command} {} (on {})", resize.workload, resize.node)
}
