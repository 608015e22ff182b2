//! Destination, last of all: the container becomes an ordinary one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fog_api::agent::{Command, FailureKind, Report, Role, Stage};
use serde_json::Value;

use super::failure::{Cause, StepResult};
use super::images::{Folder, remove_folder};
use super::inspect::{init_of, state_is};
use super::reserve::restore_folder;
use super::{Engine, Inner, Reporter, bind_mounts, discard, ms_since};
use crate::journal::Record;
use crate::runtime::{DockerError, specification};

/// `discarded`: the source's copy is gone, so nobody is left there who has to hear that the memory came.
pub(super) async fn settle(inner: &Arc<Inner>, command: &Command, discarded: bool, reporter: &Reporter) -> StepResult {
    let Some(record) = inner.record(command.migration) else { return Ok(Report::default()) };
    let mut stages_ms = BTreeMap::new();
    let persons_word = record.is_a_persons_word(command.epoch);
    if persons_word {
        started_anew(inner, command, &record).await?;
    } else if record.memory_pending
        || (record.memory_came && !discarded && inner.world.memory_comes(&Engine(Arc::clone(inner)), command.migration))
    {
        let began = Instant::now();
        let came = inner.world.memory_came(&Engine(Arc::clone(inner)), command.migration, reporter).await;
        let pending = inner.record(command.migration).is_some_and(|record| record.memory_pending);
        match came {
            // What is declared lost must not run on, although all of it may have come just before the agent ended. What
            // was written down as whole is not lost: the source may have heard so and has removed its copy.
            Err(failure) if pending => {
                if let Some(container) = record.container.as_ref().filter(|_| failure.kind == FailureKind::Lost) {
                    discard::end_in_place(inner, container).await?;
                }
                return Err(failure.into());
            }
            Err(failure) if failure.kind != FailureKind::Lost => return Err(failure.into()),
            Ok(()) | Err(_) => drop(stages_ms.insert(Stage::Drain, ms_since(began))),
        }
        inner.note(command, Role::Destination, |record| record.memory_pending = false).await?;
    }
    if let Some(container) = &record.container {
        if let Some(policy) = record.restart_policy.as_ref().filter(|policy| !specification::never_restarts(policy)) {
            match inner.world.set_restart_policy(container, policy).await {
                // Its user removed it meanwhile.
                Ok(()) | Err(DockerError::NotFound(_)) => {}
                Err(error) => return Err(Cause::docker("restore the restart policy")(error)),
            }
        }
        remove_folder(&restore_folder(inner, container)).await?;
    }
    if persons_word {
        runs(inner, command, &record).await?;
    }
    inner.arrivals.forget(command.migration);
    inner.files.end(command.migration).await;
    inner.world.end_memory(&Engine(Arc::clone(inner)), command.migration).await;
    bind_mounts::forget_older(&record.folders).await?;
    Folder::of(inner, command.migration).remove().await?;
    inner.note(command, Role::Destination, |record| record.closed = true).await?;
    Ok(Report { stages_ms, ..Report::default() })
}

/// A person said that this end keeps the workload. What was let run goes on running; a copy that is held, or that ended for
/// want of its memory, ends for good, so that the same container can begin anew.
async fn started_anew(inner: &Arc<Inner>, command: &Command, record: &Record) -> Result<(), Cause> {
    inner.world.end_memory(&Engine(Arc::clone(inner)), command.migration).await;
    let container = record.container.as_ref().ok_or_else(|| gone(command))?;
    let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    let inspect = inspect.ok_or_else(|| gone(command))?;
    if (!record.resumed || record.memory_pending)
        && let Some(init) = init_of(&inspect)
    {
        inner.world.kill_in_place(init).await?;
        for _ in 0..100 {
            let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
            if inspect.as_ref().is_none_or(|inspect| !state_is(inspect, "Running")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    inner.note(command, Role::Destination, |record| record.memory_pending = false).await.map(drop)
}

/// Sees it running; without its restore folder Docker starts it as any other container.
async fn runs(inner: &Arc<Inner>, command: &Command, record: &Record) -> Result<(), Cause> {
    let container = record.container.as_ref().ok_or_else(|| gone(command))?;
    let look = || async { inner.world.inspect(container).await.map_err(Cause::docker("inspect the container")) };
    let running = |inspect: &Value| state_is(inspect, "Running") && !state_is(inspect, "Paused");
    if !look().await?.as_ref().is_some_and(running) {
        inner.world.start(container).await.map_err(Cause::docker("start the container anew"))?;
    }
    if !look().await?.as_ref().is_some_and(running) {
        return Err(Cause::new(
            FailureKind::Runtime,
            format!("{} was started anew and does not run.", command.workload),
        ));
    }
    inner.note(command, Role::Destination, |record| record.resumed = true).await.map(drop)
}

fn gone(command: &Command) -> Cause {
    Cause::gone(format!("The copy of {} here was removed by somebody else.", command.workload))
}
