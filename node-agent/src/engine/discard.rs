//! Source, after the commit: the frozen container ends without another instruction of it being run.

use std::sync::Arc;

use fog_api::agent::{Command, FailureKind, Report, Role};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::failure::{Cause, StepResult};
use super::images::Folder;
use super::inspect::{init_of, state_is};
use super::{Engine, Inner, bind_mounts, connections, peer, volumes};

pub(super) async fn discard(inner: &Arc<Inner>, command: &Command, cancel: &CancellationToken) -> StepResult {
    let Some(record) = inner.record(command.migration) else {
        // Long done and forgotten; or the journal is gone, and then a container of that name may be another one.
        return Ok(Report::default());
    };
    if record.role != Role::Source {
        return Err(Cause::refused("This node is the destination of the migration, not its source."));
    }
    let mut memory = None;
    if let Some(container) = &record.container {
        let persons_word = record.is_a_persons_word(command.epoch);
        if persons_word {
            let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
            let runs = |inspect: &Value| state_is(inspect, "Running") && !state_is(inspect, "Paused");
            if inspect.as_ref().is_some_and(runs) {
                return Err(Cause::refused(format!(
                    "{} runs here: somebody unpaused it. It is not removed; stop it if it is not wanted.",
                    command.workload
                )));
            }
        }
        if record.memory_pending && !persons_word {
            // Not before the destination has all of the memory that only this copy holds.
            let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
            // Whose processes have ended, by a reboot or a user, holds none any more: there is nothing to keep it for.
            if let Some(init) = inspect.as_ref().and_then(init_of) {
                let engine = Engine(Arc::clone(inner));
                let went = inner.world.memory_went(&engine, command.migration, Some(init));
                memory = tokio::select! {
                    went = went => went?,
                    // It never will where a person had to decide.
                    () = cancel.cancelled() => return Err(Cause::cancelled()),
                };
            }
            inner.note(command, Role::Source, |record| record.memory_pending = false).await?;
        }
        remove(inner, container).await?;
    }
    connections::forget(inner, command.migration);
    inner.world.end_memory(&Engine(Arc::clone(inner)), command.migration).await;
    volumes::remove(inner, &record.volumes).await?;
    bind_mounts::set_aside(&record.folders).await?;
    if let Some(orphan) = record.checkpoint {
        inner.world.dump_ends(orphan).await?;
    }
    Folder::of(inner, command.migration).remove().await?;
    inner.note(command, Role::Source, |record| record.closed = true).await?;
    peer::forget(inner, command.migration).await;
    Ok(Report { memory, ..Report::default() })
}

/// Kills every task where it is; the container stays. One that is gone is no error.
pub(super) async fn end_in_place(inner: &Arc<Inner>, container: &str) -> Result<(), Cause> {
    let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    if let Some(init) = inspect.as_ref().and_then(init_of) {
        inner.world.kill_in_place(init).await?;
    }
    Ok(())
}

/// Kills every task where it is and removes the container. SIGKILL is pending for all of them before Docker can
/// thaw them, and a task never gets past a pending SIGKILL.
pub(super) async fn remove(inner: &Arc<Inner>, container: &str) -> Result<(), Cause> {
    let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    let Some(inspect) = inspect else { return Ok(()) };
    if let Some(init) = init_of(&inspect) {
        inner.world.kill_in_place(init).await?;
    }
    inner.world.remove(container).await.map_err(Cause::docker("remove the container"))?;
    for _ in 0..100 {
        // `--rm` removes in the background.
        if inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Err(Cause::new(FailureKind::Runtime, format!("Docker has not removed container {container} within 10 s.")))
}
