//! Carries a resize out: `docker update` by the workload's agent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fog_api::agent::{self, Resized, ToAgent};
use fog_api::decision::{Decision, Status};
use fog_core::plan::Resize;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::app::{App, Service};
use crate::record;
use crate::store::{GivenLimits, StoreError};
use crate::{clock, ingest};

/// An agent that has not answered by then is asked again with the next plan, if that still says so.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// No pause after a refusal is longer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);

#[derive(Debug, Default)]
struct State {
    /// Asked, by workload and request.
    waiting: BTreeMap<String, (Uuid, Option<oneshot::Sender<Resized>>)>,
    /// Refused so often in a row, and not tried again before.
    refused: BTreeMap<String, (u32, Timestamp)>,
}

/// Limits that are being changed.
#[derive(Debug, Default)]
pub struct Resizes(Mutex<State>);

impl Resizes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a workload's limits may be changed now: not while they are, nor right after a node refused.
    pub fn may_begin(&self, workload: &str, now: Timestamp) -> bool {
        let state = self.state();
        !state.waiting.contains_key(workload) && state.refused.get(workload).is_none_or(|(_, until)| now >= *until)
    }

    /// An agent answered.
    pub fn answered(&self, answer: Resized) {
        let mut state = self.state();
        let waiting = state.waiting.values_mut().find(|(id, _)| *id == answer.id);
        if let Some(sender) = waiting.and_then(|(_, sender)| sender.take()) {
            let _ = sender.send(answer);
        }
    }

    fn ended(&self, workload: &str, refused_pause_s: Option<f64>) {
        let mut state = self.state();
        state.waiting.remove(workload);
        let Some(pause_s) = refused_pause_s else {
            state.refused.remove(workload);
            return;
        };
        let times = state.refused.get(workload).map_or(0, |(times, _)| *times) + 1;
        let pause =
            SignedDuration::try_from_secs_f64(pause_s * 2f64.powi(i32::try_from(times.min(32)).unwrap_or(32) - 1));
        let until = clock::now() + pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        state.refused.insert(workload.to_owned(), (times, until));
    }
}

/// Writes the decision and the old limits down and asks the agent; returns before it answers.
pub async fn begin(app: &App, asked: &Resize, decision: Decision) -> Result<Decision, StoreError> {
    let workload = asked.workload.to_string();
    let id = Uuid::new_v4();
    let (answer, waiting) = oneshot::channel();
    let (container, known) = {
        let fleet = app.fleet();
        let container =
            fleet.workloads.get(&*workload).map(|view| view.sample.container.to_string()).unwrap_or_default();
        (container, fleet.limits.get(&workload).copied())
    };
    let created = known.map_or(record::limits(asked.from), |known| known.created);
    let limits = GivenLimits { created, given: record::limits(asked.to) };
    app.store.save_limits(&workload, &limits).await?;
    app.store.save_decision(&decision).await?;
    app.fleet().limits.insert(workload.clone(), limits);
    app.resizes.state().waiting.insert(workload.clone(), (id, Some(answer)));
    let changed = |before: Option<f64>, after: Option<f64>| after.filter(|_| before != after);
    let order = agent::Resize {
        id,
        workload,
        container,
        cpus: changed(asked.from.cpus, asked.to.cpus),
        memory_bytes: asked.to.memory_bytes.filter(|_| asked.from.memory_bytes != asked.to.memory_bytes),
    };
    let (app, asked, decided) = (app.clone(), asked.clone(), decision.clone());
    tokio::spawn(async move { carry_out(&app, &asked, decided, order, waiting).await });
    Ok(decision)
}

async fn carry_out(
    app: &Service,
    asked: &Resize,
    mut decision: Decision,
    order: agent::Resize,
    waiting: oneshot::Receiver<Resized>,
) {
    let (workload, node) = (asked.workload.as_str(), asked.node.as_str());
    let error = if app.agents.send(node, ToAgent::Resize(order)) {
        match tokio::time::timeout(ANSWER_WITHIN, waiting).await {
            Ok(Ok(answer)) => answer.error,
            _ => Some(format!("the agent of {node} did not answer in {} s", ANSWER_WITHIN.as_secs())),
        }
    } else {
        Some(format!("the agent of {node} is not connected"))
    };
    match &error {
        None => {
            tracing::info!(workload, node, "resized: {}", asked.reason);
            decision.status = Status::Done;
            resized(app, asked).await;
        }
        Some(error) => {
            tracing::warn!(workload, node, "not resized: {error}");
            decision.status = Status::Failed;
            decision.reason = format!("{} It was not done: {error}.", decision.reason);
        }
    }
    if let Err(error) = app.store.save_decision(&decision).await {
        tracing::error!(workload, "cannot store what became of the resize: {error}");
    }
    app.resizes.ended(workload, error.map(|_| app.policy.get().policy.cooldown.failed_s));
    ingest::tell_node(app, node);
}

/// The next sample says the same; until then nobody decides with the old limits.
async fn resized(app: &Service, asked: &Resize) {
    let workload = asked.workload.as_str();
    let back = {
        let mut fleet = app.fleet();
        if let Some(view) = fleet.workloads.get_mut(workload) {
            (view.sample.cpus_limit, view.sample.memory_limit_bytes) = (asked.to.cpus, asked.to.memory_bytes);
        }
        let back = fleet.limits.get(workload).is_some_and(|limits| limits.created == limits.given);
        if back {
            fleet.limits.remove(workload);
        }
        back
    };
    if back && let Err(error) = app.store.forget_limits(workload).await {
        tracing::error!(workload, "cannot forget its limits: {error}");
    }
}
