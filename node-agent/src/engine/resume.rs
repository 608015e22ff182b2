//! Destination, after the commit: let the tasks run.

use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::{Command, FailureKind, Role, Stage};

use super::failure::{Cause, StepResult};
use super::images::Folder;
use super::inspect::{init_of, state_is};
use super::{Engine, Inner, connections, discard, staged};

/// A continued task runs at once; on a node without an idle CPU its state shows later.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn resume(inner: &Arc<Inner>, command: &Command) -> StepResult {
    let record = inner.record(command.migration);
    let known = record.and_then(|record| Some((record.container.clone()?, record)));
    let (container, record) = known.ok_or_else(|| {
        Cause::gone(format!("{} knows nothing of this migration; its state folder is gone.", inner.config.node))
    })?;
    if record.resumed {
        return Ok(staged(Stage::Resume, 0.0));
    }
    if record.memory_pending && !inner.world.memory_comes(&Engine(Arc::clone(inner)), command.migration) {
        // All of it may have come just before, and then the container lives: what is declared lost must not.
        discard::end_in_place(inner, &container).await?;
        return Err(Cause::new(
            FailureKind::Lost,
            "This node's agent ended while memory of the held container was on its way, and the container with it. The source still \
             holds its frozen copy, of which nothing has run since: `fogctl migration resolve` with `--keep source` lets it go on.",
        ));
    }
    let inspect = inner.world.inspect(&container).await.map_err(Cause::docker("inspect the container"))?;
    let inspect = inspect.ok_or_else(|| Cause::gone("The held container was removed by somebody else."))?;
    let init = init_of(&inspect).filter(|_| state_is(&inspect, "Running"));
    let init = init.ok_or_else(|| Cause::gone("The held container was stopped by somebody else."))?;

    if record.closed_network {
        connections::open(Some(init)).await?;
    }
    let stay = record.stopped_tasks;
    let runs = inner.world.let_run(init, stay).await?;
    let continued = runs.ok_or_else(|| {
        Cause::new(FailureKind::Runtime, "The tasks were told to continue and some do not; is the container paused?")
    })?;
    if record.closed_network {
        let caught = connections::caught(&Folder::of(inner, command.migration).images());
        connections::speak(inner, Some(init), caught).await;
    }
    inner.note(command, Role::Destination, |record| record.resumed = true).await?;
    Ok(staged(Stage::Resume, continued))
}
