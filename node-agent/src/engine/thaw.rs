//! Source, rolling back: the container goes on as if nothing had happened.

use std::sync::Arc;

use fog_api::agent::{Command, FailureKind, Report, Role, Step};
use serde_json::Value;

use super::failure::{Cause, StepResult};
use super::images::Folder;
use super::inspect::{init_of, state_is};
use super::{Engine, Inner, connections, peer};
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
    peer::forget(inner, command.migration).await;
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
    let paused = record.froze && state_is(&inspect, "Paused");
    if paused
        && let Some(init) = init
        && !inner.world.freeze_again(init).await?
    {
        // CRIU thaws the cgroup once it holds every task; one that died since has let them go.
        return Err(Cause::new(
            FailureKind::Runtime,
            "Docker holds the container for paused, and the kernel lets it run.",
        ));
    }
    if record.held
        && let Some(init) = init
    {
        // Before the thaw: what is pending goes with it, and no task ever stops.
        let runs = inner.world.let_run(init, record.stopped_tasks.clone()).await?;
        runs.ok_or_else(|| Cause::new(FailureKind::Runtime, "The tasks were told to continue and some do not."))?;
    }
    if paused {
        inner.world.unpause(container).await.map_err(Cause::docker("unpause the container"))?;
    } else if let Some(init) = init.filter(|_| record.froze)
        && !inner.world.melt(init).await?
    {
        // dockerd ended in the middle of the pause.
        return Err(Cause::new(
            FailureKind::Runtime,
            "The kernel holds the container frozen, and Docker does not know.",
        ));
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
        restart(inner, container, record, policy).await?;
    }
    Ok(())
}

/// A daemon or a node that was started anew ended the frozen container, and did not restart it: its policy was taken away for
/// the freeze. What the policy would have brought about is done now. What a user stopped stays stopped.
async fn restart(inner: &Arc<Inner>, container: &str, record: &Record, policy: &Value) -> Result<(), Cause> {
    let inspect = inner.world.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    let Some(inspect) = inspect.filter(|inspect| record.froze && !state_is(inspect, "Running")) else { return Ok(()) };
    let now = inner.world.daemon().await;
    let exit_code = inspect.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or_default();
    if !owes_a_restart(record.daemon.as_deref(), now.as_deref(), policy, exit_code) {
        return Ok(());
    }
    tracing::warn!(
        workload = record.workload,
        "Docker was restarted while it was frozen; its restart policy starts it anew"
    );
    inner.world.start(container).await.map_err(Cause::docker("restart the container as its policy says"))
}

fn owes_a_restart(before: Option<&str>, now: Option<&str>, policy: &Value, exit_code: i64) -> bool {
    let other_daemon = before.is_some() && now.is_some() && before != now;
    let wanted = match policy.get("Name").and_then(Value::as_str) {
        Some("always" | "unless-stopped") => true,
        Some("on-failure") => exit_code != 0,
        _ => false,
    };
    other_daemon && wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_made_up_for_only_after_another_daemon() {
        let policy = |name: &str| serde_json::json!({ "Name": name });
        let owes = |before, now, name, code| owes_a_restart(before, now, &policy(name), code);
        assert!(owes(Some("a"), Some("b"), "always", 0) && owes(Some("a"), Some("b"), "unless-stopped", 137));
        assert!(owes(Some("a"), Some("b"), "on-failure", 137) && !owes(Some("a"), Some("b"), "on-failure", 0));
        assert!(!owes(Some("a"), Some("a"), "always", 137), "a user stopped it");
        assert!(!owes(None, Some("b"), "always", 137) && !owes(Some("a"), Some("b"), "no", 137));
    }

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
