//! Source, rolling back: the container goes on as if nothing had happened.

use std::sync::Arc;

use fog_api::agent::{Command, FailureKind, Report, Role, Step};

use super::failure::{Cause, StepResult};
use super::images::Folder;
use super::inspect::{init_of, state_is};
use super::{Engine, Inner, connections};
use crate::journal::Record;
use crate::runtime::{DockerError, specification};

pub(super) async fn thaw(inner: &Arc<Inner>, command: &Command) -> StepResult {
    // A ship step of this agent has ended: giving up overtook it, and the lane lets in one step at a time.
    let record = inner.record(command.migration);
    if record.as_ref().is_some_and(|record| record.role != Role::Source) {
        return Err(Cause::refused("This node is the destination of the migration, not its source."));
    }
    inner.world.end_memory(&Engine(Arc::clone(inner)), command.migration).await;
    if let Some(orphan) = record.as_ref().and_then(|record| record.checkpoint)
        && !inner.world.dump_ends(orphan).await?
    {
        return Err(Cause::new(
            FailureKind::Runtime,
            "The dump does not end; thawing under it would damage the tasks.",
        ));
    }
    let shipped = record.filter(|record| record.has_begun(Step::Ship));
    let name = match &shipped {
        Some(record) => record.container.as_deref().unwrap_or(&command.workload).to_owned(),
        None => command.workload.clone(),
    };
    if let Some(record) = shipped.filter(is_to_be_undone) {
        undo(inner, &name, &record).await?;
        Folder::of(inner, command.migration).remove().await?;
    }
    let inspect = inner.world.inspect(&name).await.map_err(Cause::docker("inspect the container"))?;
    inner
        .note(command, Role::Source, |record| {
            record.closed = true;
            record.checkpoint = None;
            record.memory_pending = false;
        })
        .await?;
    match inspect {
        Some(inspect) if state_is(&inspect, "Running") && !state_is(&inspect, "Paused") => {
            Ok(Report { seen_running: Some(true), ..Report::default() })
        }
        Some(inspect) if state_is(&inspect, "Paused") => {
            let message =
                format!("{} is paused, and not by this migration; unpause it when it may go on.", command.workload);
            Err(Cause::new(FailureKind::Runtime, message))
        }
        Some(_) => Err(Cause::gone(format!("{} was stopped by somebody else meanwhile.", command.workload))),
        None => Err(Cause::gone(format!("{} was removed by somebody else meanwhile.", command.workload))),
    }
}

/// Not again: a repetition that comes late may find the container frozen by the workload's next migration.
fn is_to_be_undone(record: &Record) -> bool {
    !record.closed
}

/// Unpauses what this migration paused and gives the restart policy back. A container that is gone is told later.
async fn undo(inner: &Arc<Inner>, container: &str, record: &Record) -> Result<(), Cause> {
    let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    let Some(inspect) = inspect else { return Ok(()) };
    let init = init_of(&inspect);
    let caught = if record.closed_network {
        let folder = Folder::of(inner, record.migration);
        Some(connections::reopen(inner, record.migration, init, &folder).await?)
    } else {
        None
    };
    if record.froze && state_is(&inspect, "Paused") {
        inner.world.unpause(container).await.map_err(Cause::docker("unpause the container"))?;
    }
    if let Some(caught) = caught {
        // The destination may have been heard on the wire already.
        connections::speak(inner, init, caught).await;
    }
    if let Some(policy) = record.restart_policy.as_ref().filter(|policy| !specification::never_restarts(policy)) {
        match inner.world.set_restart_policy(container, policy).await {
            Ok(()) | Err(DockerError::NotFound(_)) => {}
            Err(error) => return Err(Cause::docker("restore the restart policy")(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/model` shows what happens otherwise (`ThawsWhatIsClosed`): the container runs twice.
    #[test]
    fn a_late_repetition_thaws_nothing() {
        let mut record = Record::new(uuid::Uuid::now_v7(), "web", Role::Source);
        record.begun.push((Step::Ship, 1));
        record.froze = true;
        assert!(is_to_be_undone(&record));
        record.closed = true;
        assert!(!is_to_be_undone(&record));
    }
}
